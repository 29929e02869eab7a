"""Lets everything fail that can, reads hostile files by the hundred thousand, and writes the tables of the docs.

    python benchmarks/reliability.py faults     # `make reliability`: hours
    python benchmarks/reliability.py fuzz       # `make fuzz`: hours
    python benchmarks/reliability.py soak       # `make soak`: ten minutes
    python benchmarks/reliability.py page       # the tables of docs/reliability.md, from what is recorded

What is found goes into benchmarks/records/reliability.json, and from there into docs/reliability.md between its marks.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

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
JUMPS_EVERY = 8
"""Clocks jump at every so-manieth operation; when exactly matters less than for what is written."""
MEMORY = (20, 40, 60, 80, 100, 150, 200, 300, 400, 500, 600, 800, 1000, 1200, 1400, 1600)
SOAKED = ("mas-lr", "dsbn")


def faults(found: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Every fault at every moment of every command, and damage to every kind of file."""
    from faults.lab import Lab
    from faults.sweep import World, at_once, short_of_memory

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # nibabel's, on damaged headers
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="perdure-faults-") as temporary:
        folder = Path(temporary)
        found["damage"] = [_damage(one, arguments.damage) for one in _kinds(folder / "damage")]
        with Lab(folder / "first") as lab, Lab(folder / "second") as other:
            world = World(folder / "world", lab)
            for name in world.scenarios:
                rows += (_told(run()) for run in _each(world, name, arguments.every))
            rows.append(_told(at_once(world, other, "update", times=10)))
            rows += [_told(short_of_memory(world, MEMORY, *more)) for more in ((), ("--retry-smaller",))]
    found["faults"] = rows


def _each(world: Any, name: str, every: int) -> Iterator[Callable[[], Any]]:
    from faults.lab import JUMPS
    from faults.sweep import on_a_read_only_disk, on_a_small_disk

    operations = world.operations[name]
    for kind in ("kill", "error", "full", *JUMPS):
        step = max(every, JUMPS_EVERY) if kind in JUMPS else every
        yield lambda kind=kind, step=step: world.faults(name, kind, range(1, operations + 1, step))
    for disk in (on_a_small_disk, on_a_read_only_disk):
        yield lambda disk=disk: _where_allowed(disk, world, name)


def _where_allowed(disk: Callable[..., Any], world: Any, name: str) -> Any:
    try:
        return disk(world, name)
    except OSError as error:
        print(f"left out: {name}, {disk.__name__}: {error}", file=sys.stderr)  # noqa: T201
        return None


def _told(outcome: Any) -> dict[str, Any]:
    if outcome is None:
        return {}
    row = {"command": outcome.scenario, "kind": outcome.kind, "operations": outcome.operations, "times": outcome.times,
           "stopped": outcome.stopped, "wrong": outcome.wrong}  # fmt: skip
    print(json.dumps(row), flush=True)  # noqa: T201
    return row


def _kinds(folder: Path) -> Any:
    from faults.damage import kinds

    return kinds(folder)


def _damage(kind: Any, times: int) -> dict[str, Any]:
    from faults.damage import damaged

    one = damaged(kind, times)
    row = {"file": one.kind, "times": one.times, "refused": one.refused, "wrong": one.wrong}
    print(json.dumps(row), flush=True)  # noqa: T201
    return row


def fuzz(found: dict[str, Any], arguments: argparse.Namespace) -> None:
    """So many inputs of every target, each in a process of its own; what was recorded of others stays."""
    from fuzz.targets import targets

    known = {row["target"]: row for row in found.get("fuzz", [])}
    for name in arguments.target or sorted(targets()):
        out = arguments.folder / f"{name}.json"
        words = ["--inputs", str(arguments.inputs), "--seed", str(arguments.seed), "--engine", arguments.engine]
        command = [sys.executable, str(TESTS / "fuzz" / "run.py"), name, *words, "--out", str(out)]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        known[name] = json.loads(out.read_text())
        print(json.dumps(known[name]), flush=True)  # noqa: T201
        found["fuzz"] = [known[one] for one in sorted(known)]
        _keep(found)


def soak(found: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Three hundred updates in a row."""
    found["soak"] = []
    for method in SOAKED:
        with tempfile.TemporaryDirectory(prefix="perdure-soak-") as folder:
            out = Path(folder) / "out.json"
            words = ["--updates", str(arguments.updates), "--method", method, "--out", str(out)]
            subprocess.run([sys.executable, str(ROOT / "benchmarks" / "soak.py"), *words], check=True)
            found["soak"].append({key: value for key, value in json.loads(out.read_text()).items() if key != "steps"})


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The tables of the page by the name of their mark."""
    made = {}
    if "faults" in found:
        made["faults"] = _table(
            ("fault", "commands", "times", "ended the command", "wrong afterwards"), list(_fault_rows(found["faults"]))
        )
        made["damage"] = _table(
            ("file", "times", "refused", "read as written", "read as something else"),
            [[f"`{one['file']}`", *_numbers(one["times"], one["refused"],
              one["times"] - one["refused"] - len(one["wrong"]), len(one["wrong"]))] for one in found["damage"]],
        )  # fmt: skip
    if "fuzz" in found:
        made["fuzz"] = _table(
            ("target", "inputs", "different", "refused", "seconds", "engine", "wrong"),
            [[one["target"], *_numbers(one["inputs"], one["different"], one["refused"], round(one["seconds"])),
              one["engine"], str(len(one["findings"]))] for one in found["fuzz"]],
        )  # fmt: skip
    if "soak" in found:
        made["soak"] = _table(
            (
                "quantity",
                *(f"`{one['method']}`" for one in found["soak"]),
            ),
            [[_QUANTITIES[key], *(_grown(key, one["growth"][key]) for one in found["soak"])] for key in _QUANTITIES],
        )
    return made


_QUANTITIES = {
    "resident_bytes": "resident memory, MiB",
    "open_files": "open files",
    "threads": "threads",
    "weights_bytes": "`weights.safetensors`, kB",
    "memory_bytes": "`memory.safetensors`, kB",
    "record_bytes": "`release.json`, kB",
    "ledger_bytes": "ledger, kB",
    "seconds": "seconds an update",
}


def _grown(key: str, one: dict[str, float]) -> str:
    unit = 2**20 if key == "resident_bytes" else 1000 if key.endswith("_bytes") else 1
    figures = (one[which] / unit for which in ("from", "to", "a_hundred"))
    return ", ".join(f"{figure + 0.0:.2f}".removesuffix(".00") for figure in figures).replace("-0,", "0,")


def _fault_rows(rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    for kind, said in KINDS.items():
        of_kind = [row for row in rows if row.get("kind") == kind]
        if of_kind:
            commands = ", ".join(dict.fromkeys(f"`{row['command']}`" for row in of_kind))
            sums = (sum(row[key] for row in of_kind) for key in ("times", "stopped"))
            yield [said, commands, *_numbers(*sums, sum(len(row["wrong"]) for row in of_kind))]


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


def _keep(found: dict[str, Any]) -> None:
    RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


def main() -> None:
    """Does what is asked for, and writes the page."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = options.add_subparsers(dest="part", required=True)
    part = parts.add_parser("faults")
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
    parts.add_parser("page")
    arguments = options.parse_args()
    found = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    if arguments.part != "page":
        {"faults": faults, "fuzz": fuzz, "soak": soak}[arguments.part](found, arguments)
    _keep(found)


if __name__ == "__main__":
    main()
