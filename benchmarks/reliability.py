"""Lets everything fail that can, reads hostile files by the hundred thousand, and writes the tables of the docs.

    python benchmarks/reliability.py faults     # `make reliability`: hours
    python benchmarks/reliability.py faults --command export --command adopt --every 4
    python benchmarks/reliability.py fuzz       # `make fuzz`: hours
    python benchmarks/reliability.py soak       # `make soak`: ten minutes
    python benchmarks/reliability.py page       # the tables of docs/reliability.md, from what is recorded

What is found goes into benchmarks/records/reliability.json row by row, and from there into docs/reliability.md between
its marks. What is not run keeps its rows.
Disks are mounted for `faults`, which only root may do; without, those rows are left out, and it says so.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from perdure.release.folder import replace_file

ROOT = Path(__file__).resolve().parents[1]
RECORD, PAGE = ROOT / "benchmarks" / "records" / "reliability.json", ROOT / "docs" / "reliability.md"
TESTS = ROOT / "tests"
sys.path.insert(0, str(TESTS))

KINDS = {
    "kill": "killed (`SIGKILL`) before this operation on a file",
    "error": "this operation fails (EIO), and no other",
    "full": "from this operation on nothing can be written (ENOSPC)",
    "small disk": "a real disk with 16 KiB more room each time, until it suffices",
    "read-only disk": "a real disk that is mounted read-only",
    "back": "from this operation on the clock is 400 days behind",
    "ahead": "from this operation on the clock is 400 days ahead",
    "two at once": "two processes run the same command at the same time",
    "memory": "the process may take only so much memory (`RLIMIT_AS`), 20 MiB to 1.6 GiB",
}
CLOCKS = ("back", "ahead")
AT_MOMENTS = ("kill", "error", "full", *CLOCKS)
"""Kinds that happen at one operation of a command; of others there is no so-manieth."""
JUMPS_EVERY = 8
"""Clocks jump at every so-manieth operation; when exactly matters less than for what is written."""
MEMORY = (20, 40, 60, 80, 100, 150, 200, 300, 400, 500, 600, 800, 1000, 1200, 1400, 1600)
AT_ONCE = 5
SOAKED = ("mas-lr", "dsbn")


def faults(arguments: argparse.Namespace) -> None:
    """Every fault at every moment of every command, or of those that were named, and damage to every kind of file.

    Raises:
        SystemExit: if there is no command of a name.
    """
    import pacs
    from faults.lab import Lab
    from faults.sweep import World, at_once, short_of_memory

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # nibabel's, on damaged headers
    wanted: list[str] = arguments.command
    with tempfile.TemporaryDirectory(prefix="perdure-faults-") as temporary:
        folder = Path(temporary)
        with ExitStack() as stack:
            lab, other = (stack.enter_context(Lab(folder / name)) for name in ("first", "second"))
            address = stack.enter_context(pacs.orthanc(folder / "pacs")) if pacs.is_here() else ""
            if not address:
                print("left out: predict dicomweb: no Orthanc is installed", file=sys.stderr)  # noqa: T201
            try:
                world = World(folder / "world", lab, wanted, address)
            except ValueError as error:
                raise SystemExit(f"--command {error}") from error
            if not wanted:
                damage = [_damage(one, arguments.damage) for one in _kinds(folder / "damage")]
                _keep_only("damage", {row["file"] for row in damage}, "file")
            for name in wanted or world.scenarios:
                for run in _each(world, name, arguments.every):
                    _told(run(), arguments.every)
                _told(at_once(world, other, name, AT_ONCE))
            if not wanted or "train" in wanted:
                runs = [_told(short_of_memory(world, MEMORY, *more)) for more in ((), ("--retry-smaller",))]
            if not wanted:
                _keep_only("faults", {*world.scenarios, *(run["command"] for run in runs)}, "command")


def _each(world: Any, name: str, every: int) -> Iterator[Callable[[], Any]]:
    from faults.sweep import on_a_read_only_disk, on_a_small_disk

    operations = world.operations[name]
    for kind in AT_MOMENTS:
        moments = range(1, operations + 1, _step(kind, every))
        yield lambda kind=kind, moments=moments: world.faults(name, kind, moments)
    for disk in (on_a_small_disk, on_a_read_only_disk):
        yield lambda disk=disk: _where_allowed(disk, world, name)


def _where_allowed(disk: Callable[..., Any], world: Any, name: str) -> Any:
    try:
        return disk(world, name)
    except OSError as error:
        print(f"left out: {name}, {disk.__name__}: {error}", file=sys.stderr)  # noqa: T201
        return None


def _step(kind: str, every: int) -> int:
    return max(every, JUMPS_EVERY) if kind in CLOCKS else every


def _told(outcome: Any, every: int = 1) -> dict[str, Any]:
    """Prints and records what came of one kind of fault in one command; nothing where that could not be tried."""
    if outcome is None:
        return {}
    row = {"command": outcome.scenario, "kind": outcome.kind, "operations": outcome.operations, "times": outcome.times,
           "stopped": outcome.stopped, "wrong": outcome.wrong}  # fmt: skip
    if outcome.kind in AT_MOMENTS:
        row["every"] = _step(outcome.kind, every)
    print(json.dumps(row), flush=True)  # noqa: T201
    _keep("faults", row, "command", "kind")
    return row


def _kinds(folder: Path) -> Any:
    from faults.damage import kinds

    return kinds(folder)


def _damage(kind: Any, times: int) -> dict[str, Any]:
    from faults.damage import damaged

    one = damaged(kind, times)
    row = {"file": one.kind, "times": one.times, "refused": one.refused, "wrong": one.wrong}
    print(json.dumps(row), flush=True)  # noqa: T201
    _keep("damage", row, "file")
    return row


def fuzz(arguments: argparse.Namespace) -> None:
    """So many inputs of every target, each in a process of its own; what was recorded of others stays.

    Raises:
        SystemExit: at the end, if a process ended before all inputs were read: of its target nothing is recorded.
    """
    from fuzz.targets import targets

    ended = []
    for name in arguments.target or sorted(targets()):
        out = arguments.folder / f"{name}.json"
        words = ["--inputs", str(arguments.inputs), "--seed", str(arguments.seed), "--engine", arguments.engine]
        command = [sys.executable, str(TESTS / "fuzz" / "run.py"), name, *words, "--out", str(out)]
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.with_suffix(".err").open("wb") as errors:
            done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=errors)
        if done.returncode:
            ended.append(f"{name}: code {done.returncode}, see {out.with_suffix('.err')}")
            continue
        row = json.loads(out.read_text())
        print(json.dumps(row), flush=True)  # noqa: T201
        _keep("fuzz", row, "target")
    if ended:
        raise SystemExit("\n".join(["these ended before all inputs were read:", *ended]))


def soak(arguments: argparse.Namespace) -> None:
    """Three hundred updates in a row, by each method or by those that were named."""
    for method in arguments.method or SOAKED:
        with tempfile.TemporaryDirectory(prefix="perdure-soak-") as folder:
            out = Path(folder) / "out.json"
            words = ["--updates", str(arguments.updates), "--method", method, "--out", str(out)]
            subprocess.run([sys.executable, str(ROOT / "benchmarks" / "soak.py"), *words], check=True)
            row = {key: value for key, value in json.loads(out.read_text()).items() if key != "steps"}
            _keep("soak", row, "method")


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The tables of the page by the name of their mark."""
    made = {}
    if "faults" in found:
        made["faults"] = _table(
            ("fault", "commands", "tried", "ended the command", "wrong afterwards"), list(_fault_rows(found["faults"]))
        )
    if "damage" in found:
        made["damage"] = _table(
            ("file", "times", "refused", "read as written", "read as something else"),
            [[f"`{one['file']}`", *_numbers(one["times"], one["refused"],
              one["times"] - one["refused"] - len(one["wrong"]), len(one["wrong"]))] for one in found["damage"]],
        )  # fmt: skip
    if "fuzz" in found:
        made["fuzz"] = _table(
            ("target", "inputs", "different", "refused", "seconds", "engine", "wrong"),
            [[one["target"], *_numbers(one["inputs"], one["different"], one["refused"], round(one["seconds"])),
              one["engine"], str(len(one["findings"]))] for one in found["fuzz"]]
            + [[name, "not yet", *[""] * 5] for name in sorted(_targets() - {one["target"] for one in found["fuzz"]})],
        )  # fmt: skip
    if "soak" in found:
        made["soak"] = _table(
            (
                "quantity",
                *(f"`{one['method']}`" for one in found["soak"]),
            ),
            [["updates", *(str(one["updates"]) for one in found["soak"])]]
            + [[_QUANTITIES[key], *(_grown(key, one["growth"]) for one in found["soak"])] for key in _QUANTITIES],
        )
    return made


def _targets() -> set[str]:
    from fuzz.targets import targets

    return set(targets())


_QUANTITIES = {
    "resident_bytes": "resident memory, MiB",
    "allocated_bytes": "of it in use, as glibc counts it, MiB",
    "python_blocks": "Python's own blocks, thousands",
    "open_files": "open files",
    "threads": "threads",
    "weights_bytes": "`weights.safetensors`, kB",
    "memory_bytes": "`memory.safetensors`, kB",
    "record_bytes": "`release.json`, kB",
    "ledger_bytes": "ledger, kB",
}

_UNITS = {"resident_bytes": 2**20, "allocated_bytes": 2**20, "python_blocks": 1000}


def _grown(key: str, growth: dict[str, dict[str, float]]) -> str:
    if key not in growth:
        return "not yet"
    unit = _UNITS.get(key, 1000 if key.endswith("_bytes") else 1)
    figures = (growth[key][which] / unit for which in ("from", "to", "a_hundred"))
    return ", ".join(f"{figure + 0.0:.2f}".removesuffix(".00") for figure in figures).replace("-0,", "0,")


def _fault_rows(rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    above = ""
    for kind, said in KINDS.items():
        of_kind = [row for row in rows if row.get("kind") == kind and row["times"]]
        if of_kind:
            commands = ", ".join(dict.fromkeys(f"`{row['command']}`" for row in of_kind))
            operations, times, stopped = (
                sum(row[key] for row in of_kind) for key in ("operations", "times", "stopped")
            )
            tried = f"at {times:,} of {operations:,} moments" if kind in AT_MOMENTS else f"{times:,} times"
            # two dozen names once, not in every line
            named, above = "the same" if commands == above else commands, commands
            yield [said, named, tried, *_numbers(stopped, sum(len(row["wrong"]) for row in of_kind))]


def _numbers(*numbers: int) -> list[str]:
    return [f"{number:,}" for number in numbers]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_tables(text: str, found: dict[str, Any]) -> str:
    """A page with other tables between its marks; all else stays.

    Raises:
        SystemExit: if it lacks a mark.
    """
    for name, table in tables(found).items():
        begin, end = f"<!-- {name}: made by benchmarks/reliability.py -->", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise SystemExit(f"{PAGE} must hold these two lines once, in this order:\n{begin}\n{end}")
        text = f"{text[: text.index(begin)]}{begin}\n\n{table}\n\n{text[text.index(end) :]}"
    return text


def _keep(part: str, row: dict[str, Any], *names: str) -> None:
    """Puts a row in place of the one of the same names, as soon as it is there: a run that is stopped loses none.

    All other rows stay, also those that another run has written meanwhile.
    """
    found = _recorded()
    known = {tuple(one.get(name) for name in names): one for one in found.get(part, [])}
    known[tuple(row[name] for name in names)] = row
    rows = [known[key] for key in sorted(known)] if part == "fuzz" else [*known.values()]
    _write({**found, part: rows})


def _keep_only(part: str, kept: Container[str], name: str) -> None:
    """Takes away the rows of what there is no more."""
    found = _recorded()
    _write({**found, part: [row for row in found.get(part, []) if row.get(name) in kept]})


def _recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    return found


def _write(found: dict[str, Any]) -> None:
    replace_file(RECORD, (json.dumps(found, indent=1) + "\n").encode())
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


def main() -> None:
    """Does what is asked for, and writes the page."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = options.add_subparsers(dest="part", required=True)
    part = parts.add_parser("faults")
    part.add_argument("--command", action="append", default=[], help="only this one, as the table calls it; repeat")
    part.add_argument("--every", type=int, default=1, help="a fault at every so-manieth operation")
    part.add_argument("--damage", type=int, default=400, help="how often each kind of file is damaged")
    part = parts.add_parser("fuzz")
    part.add_argument("target", nargs="*", help="all if left out")
    part.add_argument("--inputs", type=int, default=100_000)
    part.add_argument("--seed", type=int, default=0)
    part.add_argument("--engine", choices=("own", "atheris"), default="own")
    part.add_argument("--folder", type=Path, default=ROOT / "runs" / "fuzz", help="for inputs that led to findings")
    part = parts.add_parser("soak")
    part.add_argument("--updates", type=int, default=300)
    part.add_argument("--method", action="append", default=[], help="only this one; repeat")
    parts.add_parser("page")
    arguments = options.parse_args()
    if arguments.part == "page":
        _write(_recorded())
    else:
        {"faults": faults, "fuzz": fuzz, "soak": soak}[arguments.part](arguments)


if __name__ == "__main__":
    main()
