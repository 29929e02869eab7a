"""Each command with a fault at every moment: what must be so right afterwards, and once it was run again?"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import onnx
import pydicom
import torch
from pydicom.pixels import pixel_array

import layouts
import nnunet_folder
import synthetic
from dicoms import write_series
from faults.lab import JUMPS, Lab, Ran
from gate_workspace import mild_plan
from perdure.data.importing import Chosen, find_bids, find_decathlon, find_dicom, find_nnunet
from perdure.data.importing.folder import imported
from perdure.data.importing.found import Found
from perdure.data.pseudonyms import read_salt
from perdure.errors import LedgerError, PerdureError
from perdure.evaluation import Scores
from perdure.evidence.gate.verdict import Verdict
from perdure.evidence.ledger.ledger import FILE, Ledger
from perdure.evidence.ledger.workspace import release_folders
from perdure.release import read_identity

Digest = Callable[[Path], Any]


@dataclass(frozen=True)
class Scenario:
    """One command.

    Args:
        name: of it.
        words: its command line, in a workspace.
        digest: what it made, so that two runs can be compared: bytes where it makes the same ones always.
        codes: exit codes of a run that ends well.
        done: what the same command says where it was done already, and refuses to do it again; empty if it never does.
    """

    name: str
    words: Callable[[Path], Sequence[object]]
    digest: Digest
    codes: tuple[int, ...] = (0,)
    done: str = ""


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

    Raises:
        ValueError: if there is no scenario of a name.
    """

    def __init__(self, folder: Path, lab: Lab, names: Sequence[str] = ()) -> None:
        self.folder, self.lab = folder, lab
        self.data = synthetic.write_images(folder / "data", domains=("a", "b"), cases=(2, 1, 2), size=(32, 32))
        self.work, self.given = folder / "work", folder / "given"
        scenarios = [*self._scenarios(), *self._clinical()]
        known = [one.name for one in scenarios]
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"{', '.join(unknown)}: no scenario of this name; there are {', '.join(known)}.")
        last = max((known.index(name) for name in names), default=len(known) - 1)
        self.scenarios = {one.name: one for one in scenarios[: last + 1]}
        self.digests: dict[str, Any] = {}
        self.operations: dict[str, int] = {}
        self._give()
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
        return list(_half_written(self.work))

    def restore(self, one: Scenario) -> None:
        """Makes the workspace as it is before a scenario."""
        shutil.rmtree(self.work)
        shutil.copytree(self.before(one), self.work)

    def _scenarios(self) -> Iterator[Scenario]:
        small = ("--epochs", 2, "--batch-size", 2)

        def data(work: Path) -> tuple[object, ...]:
            return "--data", self.data, "--cache", work / "cache"

        def line(work: Path) -> tuple[object, ...]:
            return "--release", work / "base", "--release", work / "b"

        network = ("--filters", 2, "--kernel-size", 3, "--size", 32, "--dropout", 0.2, "--augment")
        yield Scenario(
            "train",
            lambda work: ("train", *data(work), "--domain", "a", *network, *small, "--out", work / "base"),
            lambda work: _tensors(work / "base"),
        )
        yield Scenario(
            "declare",
            lambda work: ("gate", "--plan", _plan(work), "--declare"),
            lambda work: _actions(work, "declared"),
        )
        yield Scenario(
            "update",
            lambda work: ("update", "--release", work / "base", *data(work), "--domain", "b", "--method", "mas-lr",
                          *small, "--out", work / "b"),
            lambda work: _tensors(work / "b"),
        )  # fmt: skip
        yield Scenario(
            "evaluate",
            lambda work: ("evaluate", *line(work), *data(work), "--out", work / "scores.parquet"),
            lambda work: Scores.read(work / "scores.parquet").table.to_dict(as_series=False),
        )
        yield Scenario(
            "gate",
            lambda work: ("gate", "--plan", work / "PLAN.toml", "--scores", work / "scores.parquet", "--out",
                          work / "verdict.json", "--junit", work / "verdict.xml"),
            lambda work: Verdict.read(work / "verdict.json").model_dump(exclude={"created"}),
            codes=(0, 5),
        )  # fmt: skip
        yield Scenario(
            "approve",
            lambda work: ("approve", work / "b", "--verdict", work / "verdict.json", "--name", "A", "--override", "R"),
            lambda work: _actions(work, "approved"),
        )
        yield Scenario(
            "predict",
            lambda work: ("predict", "--release", work / "b", "--input", self.data / "images", "--out", work / "out"),
            lambda work: {p.name: p.read_bytes() for p in sorted((work / "out").rglob("*.png"))},
        )
        yield Scenario(
            "report",
            lambda work: ("report", work, "--out", work / "report.html", "--json-out", work / "report.json",
                          "--model-card", work / "card"),
            lambda work: json.loads((work / "report.json").read_text())["lineage"],
        )  # fmt: skip
        yield Scenario(
            "rollback",
            lambda work: ("rollback", work / "b", "--out", work / "back"),
            lambda work: (_tensors(work / "back"), _actions(work, "rolled back")),
        )
        yield Scenario(
            "key",
            lambda work: ("key", "--out", work / "site.key"),
            lambda work: sorted(path.name for path in work.glob("site.key*")),
            done="a key is never overwritten",
        )

    def _give(self) -> None:
        """Makes what clinical formats begin with: folders in other layouts, volumes, a release that segments them."""
        layouts.write_nnunet(self.given / "nnunet", cases=4, test=1)
        layouts.write_decathlon(self.given / "msd")
        layouts.write_bids(self.given / "bids", subjects=("01", "02"))
        layouts.write_export(self.given / "export", patients=("MRN-1", "MRN-2", "MRN-3"))
        nnunet_folder.write(self.given / "trained", nnunet_folder.network())
        volumes = synthetic.write_volumes(self.given / "volumes", cases=(1, 1, 1), shape=(12, 14, 13))
        write_series(self.given / "series", layouts.head(0)[0], layouts.AFFINE)
        where = ("--data", volumes, "--cache", self.given / "cache", "--domain", "scanner-a")
        network = ("--filters", 2, "--kernel-size", 3, "--size", 16, "--epochs", 1, "--batch-size", 2)
        ran = self.lab("train", *where, *network, "--out", self.given / "release", under=self.given)
        assert ran.code == 0, ran.err

    def _clinical(self) -> Iterator[Scenario]:
        """What comes in and goes out in the formats of others."""

        def predict(*more: object) -> tuple[object, ...]:
            return "predict", "--release", self.given / "release", *more

        def imports(name: str, layout: str, find: Callable[[Path], Found]) -> Scenario:
            return Scenario(
                name,
                lambda work: ("import", layout, self.given / layout, "--out", work / layout, "--salt",
                              work / "private" / "salt"),
                lambda work: _imported(work, layout, find(self.given / layout)),
                done="nothing is overwritten",
            )  # fmt: skip

        yield imports("import", "nnunet", find_nnunet)
        yield imports("import msd", "msd", find_decathlon)
        yield imports("import bids", "bids", find_bids)
        yield Scenario(
            "import dicom",
            lambda work: ("import", "dicom", self.given / "export", "--out", work / "series", "--salt",
                          work / "private" / "salt", "--domain", "here"),
            lambda work: _imported(work, "series", find_dicom(self.given / "export", _salt(work), Chosen()), "here"),
            done="nothing is overwritten",
        )  # fmt: skip
        yield Scenario(
            "export",
            lambda work: ("export", work / "base", "--format", "monai", "--out", work / "bundle"),
            lambda work: _bundle(work / "bundle"),
            done="nothing is overwritten",
        )
        yield Scenario(
            "adopt",
            lambda work: ("adopt", "--bundle", work / "bundle", "--data", self.data, "--cache", work / "cache",
                          "--domain", "a", "--out", work / "adopted"),
            lambda work: (_tensors(work / "adopted"), _actions(work, "adopted")),
            done="nothing is overwritten",
        )  # fmt: skip
        yield Scenario(
            "adopt nnunet",
            lambda work: ("adopt", "--nnunet", self.given / "trained", "--data", self.given / "volumes", "--cache",
                          work / "cache", "--domain", "scanner-a", "--out", work / "from-nnunet"),
            lambda work: (_tensors(work / "from-nnunet"), _actions(work, "adopted")),
            done="nothing is overwritten",
        )  # fmt: skip
        yield Scenario(
            "export onnx",
            lambda work: ("export", work / "from-nnunet", "--format", "onnx", "--out", work / "network.onnx"),
            lambda work: (work / "network.onnx").read_bytes(),
            done="nothing is overwritten",
        )
        yield Scenario(
            "predict volumes",
            lambda work: predict("--input", self.given / "volumes" / "images", "--out", work / "labels", "--format",
                                 "nifti", "--probabilities", "--volumes"),
            lambda work: (_contents(work / "labels", "*.nii.gz"), (work / "labels" / "volumes.csv").read_bytes()),
        )  # fmt: skip
        yield Scenario(
            "predict dicom-seg",
            lambda work: predict("--input", self.given / "series", "--out", work / "seg", "--format", "dicom-seg"),
            lambda work: [_segments(path) for path in sorted((work / "seg").rglob("*.dcm"))],
        )
        yield Scenario(
            "predict mgz",
            lambda work: predict(
                "--input", self.given / "volumes" / "images", "--out", work / "mgz", "--format", "mgz"
            ),
            lambda work: _contents(work / "mgz", "*.mgz"),
        )
        yield Scenario(
            "predict bids",
            lambda work: predict("--input", self.given / "bids", "--match", "*_T1w.nii.gz", "--out", work / "derived",
                                 "--format", "bids", "--probabilities"),
            lambda work: (_contents(work / "derived", "sub-*"), sorted(p.name for p in work.glob("derived/[!.]*"))),
        )  # fmt: skip


def _is_named(ran: Ran) -> bool:
    """Whether a command ended with one message that begins with a file, and no traceback but TensorBoard's own."""
    last = ran.err.splitlines()[-1] if ran.err else ""
    is_plain = "Traceback" not in ran.err or "event_file_writer" in ran.err
    return ran.code == 1 and is_plain and last.startswith("error: /")


def _plan(work: Path) -> Path:
    # written when the command is put together: the plan itself is no part of what fails
    if not (work / "PLAN.toml").exists():
        (work / "PLAN.toml").write_text(mild_plan("mas-lr", "target"))
    return work / "PLAN.toml"


def _tensors(release: Path) -> list[bytes]:
    read_identity(release)
    return [(release / name).read_bytes() for name in ("weights.safetensors", "memory.safetensors")]


def _salt(work: Path) -> bytes:
    return read_salt(work / "private" / "salt")


def _imported(work: Path, name: str, found: Found, domain: str | None = None) -> Any:
    """What an import wrote, and whether it is all that the salt that was kept gives; names differ with each salt."""
    expected = imported(found, work / name, _salt(work), domain=domain)
    with tempfile.TemporaryDirectory() as folder:
        expected.write(Path(folder))
        is_all = _contents(Path(folder), "*") == _contents(work / name, "*")
    # where its source is depends on where the workspace is
    about = tomllib.loads((work / name / "dataset.toml").read_text()) | {"source": ""}
    return is_all, len(expected.rows), len(expected.lists), about


def _contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
    }


def _bundle(folder: Path) -> Any:
    """All files of a bundle; the weights, whose file need not be the same, as numbers."""
    files = _contents(folder, "*")
    weights = torch.load(folder / "models" / "model.pt", weights_only=True)
    del files["models/model.pt"]
    return files, {name: tensor.tolist() for name, tensor in weights.items()}


def _voxels(path: Path) -> Any:
    return np.asarray(nib.load(path).dataobj)


def _segments(path: Path) -> Any:
    """A SEG without the time at which it was made."""
    seg = pydicom.dcmread(path)
    return seg.SOPInstanceUID, [one.SegmentLabel for one in seg.SegmentSequence], pixel_array(seg).tobytes()


def _actions(work: Path, action: str) -> int:
    return sum(entry.action == action for entry in Ledger(work / FILE).entries())


def _half_written(work: Path) -> Iterator[str]:
    """Whatever stands under its own name and is not whole."""
    for folder in release_folders(work):
        try:
            read_identity(folder)
        except PerdureError as error:
            yield f"half written: {error}"
    for path in work.glob("*.parquet"):
        try:
            Scores.read(path)
        except PerdureError as error:
            yield f"half written: {error}"
    for path in [*work.glob("*.json"), *work.glob("card/*.json")]:
        try:
            json.loads(path.read_text())
        except ValueError as error:
            yield f"half written: {path.name}: {error}"
    yield from _half_written_elsewhere(work)
    try:
        Ledger(work / FILE).entries()
    except LedgerError as error:
        yield f"ledger: {error}"


_IMPORTED = ("manifest.csv", "dataset.toml")
_EXPORTED = ("configs", "models", "docs/README.md", "scripts", "LICENSE")


def _half_written_elsewhere(work: Path) -> Iterator[str]:
    """The same of what is in the formats of others."""
    wholes = dict.fromkeys(("nnunet", "msd", "bids"), _IMPORTED)
    wholes |= {"series": (*_IMPORTED, "series"), "bundle": _EXPORTED}
    for name, parts in wholes.items():
        if (work / name).exists() and (missing := [part for part in parts if not (work / name / part).exists()]):
            yield f"half written: {name}: without {', '.join(missing)}"
    for pattern, read in (
        ("bundle/models/*.pt", lambda path: torch.load(path, weights_only=True)),
        ("bundle/*/*.json", lambda path: json.loads(path.read_text())),
        ("*.onnx", onnx.load),
        ("labels/**/*.nii.gz", _voxels),
        ("mgz/**/*.mgz", _voxels),
        ("derived/**/*.nii.gz", _voxels),
        ("derived/**/*.json", lambda path: json.loads(path.read_text())),
        ("seg/**/*.dcm", _segments),
        ("private/salt", read_salt),
    ):
        for path in work.glob(pattern):
            if any(part.startswith(".") for part in path.relative_to(work).parts):
                continue
            try:
                read(path)
            except Exception as error:  # noqa: BLE001 - whatever a reader says of a file that is cut short
                yield f"half written: {path.relative_to(work)}: {error}"


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
            shutil.copytree(world.before(one), world.work)
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
        shutil.copytree(world.before(one), world.work)
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
            if ran.code not in one.codes and "another process is training here" not in ran.err:
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
