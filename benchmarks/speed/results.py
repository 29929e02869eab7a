"""What was measured, on what, and is it there already?"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("torch", "numpy", "scipy", "monai", "lightning-fabric", "nibabel", "safetensors")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""Flags of a processor that decide how fast a network can be on it."""

Form = Literal["tiny", "short", "full"]
FORMS: tuple[Form, ...] = ("tiny", "short", "full")
"""Rising; a row of a larger form stands for one of a smaller. `tiny` shows that the suite runs, its figures nothing."""


@dataclass(frozen=True)
class Found:
    """What came out for one row.

    Args:
        values: one a repeat; empty where there is none, and `note` then says why.
        note: what else there is to say; of a peer that refuses, its own words.
        points: of a curve: what is varied, seconds, MiB.
    """

    values: tuple[float, ...] = ()
    note: str = ""
    points: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Place:
    """On what it was measured.

    Args:
        machine: what kind it is, without its name.
        device: `cpu` or `cuda`.
        threads: of torch.
        versions: of Python and the libraries that do the work.
        commit: of the project, with a + where files differ from it.
        code: a digest of the code that was measured, and of that which measured.
    """

    machine: str
    device: str
    threads: int
    versions: dict[str, str]
    commit: str
    code: str


@dataclass(frozen=True)
class Row:
    """One figure with its circumstances, as it stands in a line of the results."""

    key: str
    form: Form
    found: Found
    place: Place
    taken: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


class Results:
    """The rows in a folder, one file a device.

    Args:
        folder: made where it is missing.
        device: `cpu` or `cuda`.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self.file = folder / f"{device}.jsonl"

    def __iter__(self) -> Iterator[Row]:
        if not self.file.exists():
            return
        for line in self.file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found = row.pop("found")
            points = tuple(tuple(point) for point in found["points"])
            place = Place(**row.pop("place"))
            yield Row(**row, found=Found(tuple(found["values"]), found["note"], points), place=place)

    def has(self, key: str, form: Form, place: Place) -> bool:
        """Whether a row is there already, of the same code on the same versions and kind of machine."""
        larger = FORMS[FORMS.index(form) :]
        return form != "tiny" and any(row.key == key and row.form in larger and _same(row.place, place) for row in self)

    def add(self, row: Row) -> None:
        """Writes one more in place of that of its key and form, at once: who stops the suite loses at most one row."""
        others = [other for other in self if (other.key, other.form) != (row.key, row.form)]
        content = "".join(json.dumps(asdict(one)) + "\n" for one in (*others, row))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # beside it first: a file that is half written would lose all
        unfinished = self.file.with_suffix(".unfinished")
        unfinished.write_text(content, encoding="utf-8")
        unfinished.replace(self.file)

    def newest(self, forms: Sequence[Form] = ("short", "full")) -> dict[str, Row]:
        """The row of each key that was measured last."""
        return {row.key: row for row in sorted(self, key=lambda row: row.taken) if row.form in forms}


def _same(one: Place, other: Place) -> bool:
    return (one.machine, one.device, one.threads, one.versions, one.code) == (
        other.machine, other.device, other.threads, other.versions, other.code,
    )  # fmt: skip


def place(script: Path, device: str, threads: int, *, more: Iterable[str] = ()) -> Place:
    """Where this process measures.

    Args:
        script: what measures.
        device: `cpu` or `cuda`.
        threads: of torch.
        more: further libraries whose versions decide.
    """
    versions = {"python": platform.python_version()}
    for name in (*LIBRARIES, *more):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    # the version that pip installed, or PYTHONPATH's: the code's digest says which code it is
    return Place(machine(device), device, threads, versions, commit(), digest(script))


def digest(script: Path) -> str:
    """Of all code of the library, of one script of this folder, and of what every script leans on."""
    own = Path(__file__).parent
    files = [*(ROOT / "src" / "perdure").rglob("*.py"), script, own / "timing.py", own / "workloads.py"]
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()[:12]


def commit() -> str:
    """The commit that is checked out; with a + where a file of the library or of this folder differs from it."""
    if not (ROOT / ".git").exists():
        return "unknown"
    head = _git("rev-parse", "--short", "HEAD")
    return head + ("+" if _git("status", "--porcelain", "--", "src", "benchmarks") else "")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S607


def machine(device: str) -> str:
    """What kind of machine this is: its processor, how many cores, what it can do; the card where one is used."""
    words = [_processor(), f"{len(os.sched_getaffinity(0))} cores"]
    information = Path("/proc/cpuinfo")
    if information.exists():
        known = information.read_text(encoding="utf-8").split()
        words.append(" ".join(flag for flag in INSTRUCTIONS if flag in known))
    if device == "cuda":
        import torch

        words.append(torch.cuda.get_device_name())
    return ", ".join(word for word in words if word)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
