"""Each command with a fault at every moment: what must be so right afterwards, and once it was run again?"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import synthetic
from faults.lab import JUMPS, Lab, Ran
from faults.scenarios import Given, Scenario, give, scenarios
from faults.wholeness import half_written
from perdure.cli.console import SOME_FAILED
from perdure.errors import PerdureError


@dataclass
class Outcome:
    """What came of the faults of one kind in one scenario.

    Args:
        scenario: which.
        kind: of fault.
        operations: of an undisturbed run.
        times: how many faults there were.
        stopped: how many of them ended the command.
        wrong: what should not have happened, a line each.
    """

    scenario: str
    kind: str
    operations: int
    times: int = 0
    stopped: int = 0
    wrong: list[str] = field(default_factory=list)


class World:
    """Data, and a workspace as it is before each scenario.

    Args:
        folder: for all of it.
        lab: runs the commands.
        names: of the scenarios that are wanted; all if left out. What comes behind the last of them is not made.
        pacs: address of an Orthanc that is empty; without one no scenario asks for it.

    Raises:
        ValueError: if there is no scenario of a name.
    """

    def __init__(self, folder: Path, lab: Lab, names: Sequence[str] = (), pacs: str = "") -> None:
        self.folder, self.lab, self.work = folder, lab, folder / "work"
        given = Given(folder / "given", pacs)
        every = {one.name: one for one in scenarios(given)}
        known = list(every)
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"{', '.join(unknown)}: no scenario of this name; there are {', '.join(known)}.")
        last = max((known.index(name) for name in names), default=len(known) - 1)
        give(given, lab)
        self.scenarios = {name: every[name] for name in known[: last + 1]}
        self.digests: dict[str, Any] = {}
        self.operations: dict[str, int] = {}
        self.work.mkdir()
        for one in self.scenarios.values():
            shutil.copytree(self.work, self.before(one))
            ran = lab(*one.words(self.work), under=self.work)
            assert ran.code in one.codes, (one.name, ran.code, ran.out, ran.err)
            self.digests[one.name], self.operations[one.name] = one.digest(self.work), ran.operations

    def faults(self, name: str, kind: str, moments: Sequence[int] | None = None) -> Outcome:
        """Lets a fault happen at each of these moments of a scenario; at every one if left out."""
        one = self.scenarios[name]
        outcome = Outcome(name, kind, self.operations[name])
        for at in range(1, self.operations[name] + 1) if moments is None else moments:
            self.restore(one)
            ran = self.lab(*one.words(self.work), under=self.work, kind=kind, at=at)
            outcome.times += 1
            outcome.stopped += ran.code not in one.codes
            outcome.wrong += [f"{kind} at {at}: {what}" for what in self._wrong(one, kind, ran)]
        return outcome

    def _wrong(self, one: Scenario, kind: str, ran: Ran) -> Iterator[str]:
        if kind == "kill":
            if ran.code != -9:
                yield f"code {ran.code}"
        elif kind in JUMPS:
            if ran.code not in one.codes:
                yield f"code {ran.code}: {ran.err[-300:]}"
        elif ran.code not in one.codes and not _is_named(ran):
            yield f"code {ran.code}: {ran.err[-300:]}"
        yield from self.half_written()
        if ran.code in one.codes:
            # before a second run could hide what it left
            yield from self._result(one, "in spite of it")
        yield from self.again(one)

    def _result(self, one: Scenario, when: str) -> Iterator[str]:
        try:
            if one.digest(self.work) != self.digests[one.name]:
                yield f"{when}: another result"
        except (OSError, PerdureError) as error:
            yield f"{when}: {error}"

    def again(self, one: Scenario) -> Iterator[str]:
        """Runs a scenario once more, undisturbed; what is wrong with what it leaves."""
        again = self.lab(*one.words(self.work), under=self.work)
        if again.code not in one.codes and not (one.done and one.done in again.err):
            yield f"run again: code {again.code}: {again.err[-300:]}"
            return
        yield from self._result(one, "run again")
        found = self.lab("verify", self.work, under=self.work)
        if found.code != 0:
            yield f"run again: verify says {found.out[-300:]}{found.err[-300:]}"

    def before(self, one: Scenario) -> Path:
        """The workspace as it is before a scenario."""
        return self.folder / "before" / one.name

    def half_written(self) -> list[str]:
        """Whatever stands in the workspace under its own name and is not whole."""
        return list(half_written(self.work))

    def restore(self, one: Scenario) -> None:
        """Makes everything as it is before a scenario."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.before(one), self.work)
        one.reset()


def _is_named(ran: Ran) -> bool:
    """Whether a command ended with one message that begins with a file, and no traceback but TensorBoard's own.

    A benchmark says of each cell that failed why, goes on with the others, and ends with the code for that.
    """
    last = ran.err.splitlines()[-1] if ran.err else ""
    is_plain = "Traceback" not in ran.err or "event_file_writer" in ran.err
    if ran.code == SOME_FAILED:
        return is_plain and "failed: " in last and re.search(r"Error: .*/grid/", ran.err) is not None
    return ran.code == 1 and is_plain and last.startswith("error: /")


def on_a_small_disk(world: World, name: str, step: int = 16 * 1024) -> Outcome:
    """Runs a scenario on a disk of its own that is full at the start, then with ever more room until it succeeds.

    Args:
        world: whose scenario.
        name: of it.
        step: bytes of room that are added each time.

    Raises:
        OSError: if nothing may be mounted here.
    """
    one, outcome = world.scenarios[name], Outcome(name, "small disk", world.operations[name])
    disk, own = world.folder / "disk", world.work
    disk.mkdir(exist_ok=True)
    room = 0
    while True:
        _mount(disk)
        try:
            world.work = disk / "work"
            world.restore(one)
            used = sum(path.stat().st_blocks * 512 for path in world.work.rglob("*"))
            _mount(disk, size=used + room + 4096)
            ran = world.lab(*one.words(world.work), under=world.work)
            if ran.code in one.codes:
                return outcome
            outcome.times += 1
            outcome.stopped += 1
            wrong = world.half_written()
            wrong += [] if _is_named(ran) else [f"code {ran.code}: {ran.err[-300:]}"]
            _mount(disk, size=2**28)
            outcome.wrong += [f"{room} bytes of room: {what}" for what in [*wrong, *world.again(one)]]
        finally:
            world.work = own
            _run("umount", "--lazy", disk)
        room += step


def on_a_read_only_disk(world: World, name: str) -> Outcome:
    """Runs a scenario where nothing may be written, and then where it may."""
    one, outcome = world.scenarios[name], Outcome(name, "read-only disk", world.operations[name], times=1)
    disk, own = world.folder / "disk", world.work
    disk.mkdir(exist_ok=True)
    _mount(disk)
    try:
        world.work = disk / "work"
        world.restore(one)
        words = one.words(world.work)
        _mount(disk, size=2**28, more=",ro")
        ran = world.lab(*words, under=world.work)
        outcome.stopped += ran.code not in one.codes
        wrong = [] if _is_named(ran) else [f"code {ran.code}: {ran.err[-300:]}"]
        _mount(disk, size=2**28, more=",rw")
        outcome.wrong += [*wrong, *world.again(one)]
    finally:
        world.work = own
        _run("umount", "--lazy", disk)
    return outcome


def _mount(disk: Path, size: int = 2**28, more: str = "") -> None:
    """Mounts a disk in memory, or changes the size of the one that is mounted."""
    again = "remount," if disk.is_mount() else ""
    _run("mount", "-t", "tmpfs", "-o", f"{again}size={size}{more}", "tmpfs", disk)


def _run(program: str, *words: object) -> None:
    found = shutil.which(program)
    if found is None:
        raise OSError(f"there is no {program} here")
    done = subprocess.run([found, *map(str, words)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{program} is not allowed here: {done.stderr.strip()}")


def at_once(world: World, other: Lab, name: str, times: int) -> Outcome:
    """Runs a scenario in two processes at the same time: one of them makes it, the other opens it or is told why not.

    Args:
        world: whose scenario, and the first process.
        other: the second.
        name: of the scenario.
        times: how often.
    """
    one, outcome = world.scenarios[name], Outcome(name, "two at once", world.operations[name])
    for _ in range(times):
        world.restore(one)
        words = one.words(world.work)
        with ThreadPoolExecutor(2) as both:
            runs = [both.submit(lab, *words, under=world.work) for lab in (world.lab, other)]
            ended = [run.result() for run in runs]
        outcome.times += 1
        outcome.stopped += sum(ran.code not in one.codes for ran in ended)
        if not any(ran.code in one.codes for ran in ended):
            outcome.wrong.append(f"neither ended well: {[ran.err[-200:] for ran in ended]}")
        for ran in ended:
            is_told = "another process" in ran.err or (one.done and one.done in ran.err)
            if ran.code not in one.codes and not is_told:
                outcome.wrong.append(f"code {ran.code}: {ran.err[-300:]}")
        outcome.wrong += [*world.half_written(), *world.again(one)]
    return outcome


def short_of_memory(world: World, sizes: Sequence[int], *more: object) -> Outcome:
    """Trains with a large batch in a process that may take only so much memory; then with all that there is.

    Args:
        world: whose data and lab.
        sizes: MiB that it may take on top of what it has, one run each.
        more: options.
    """
    outcome = Outcome(" ".join(["train", *map(str, more)]), "memory", 0)
    data = synthetic.write_images(world.folder / "large", domains=("a",), cases=(12, 2, 2), size=(128, 128))
    for size in sizes:
        shutil.rmtree(world.work)
        world.work.mkdir()
        where = ("--data", data, "--cache", world.work / "cache", "--domain", "a", "--out", world.work / "base")
        words = ("train", *where, "--filters", 16, "--size", 128, "--epochs", 1, "--batch-size", 12, *more)
        ran = world.lab(*words, under=world.work, kind="memory", at=size)
        outcome.times += 1
        outcome.stopped += ran.code != 0
        last = ran.err.splitlines()[-1] if ran.err else ""
        if ran.code and not (ran.code == 1 and last.startswith("error: ") and "memory" in last):
            outcome.wrong.append(f"{size} MiB: code {ran.code}: {ran.err[-300:]}")
        outcome.wrong += world.half_written()
        again = world.lab(*words, under=world.work)
        if again.code:
            outcome.wrong.append(f"{size} MiB: run again: code {again.code}: {again.err[-300:]}")
    return outcome
