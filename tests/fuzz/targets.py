"""What can be handed to Perdure from outside, how a valid one of each looks, and how it is read.

A target reads one input as the commands would. It may succeed or raise a `PerdureError`; `watch.Watch` finds all else.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console

import fakes
import synthetic
from fuzz import mutation
from perdure.errors import PerdureError

ROOT = Path(__file__).resolve().parents[2]


class Target(ABC):
    """One kind of file.

    Args:
        folder: where it stands, and all that it needs beside it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.seeds = self.valid()

    @abstractmethod
    def valid(self) -> list[bytes]:
        """A few valid inputs; also makes what stands beside them."""

    @abstractmethod
    def changed(self, content: bytes, random: Random) -> bytes:
        """The input made hostile."""

    @abstractmethod
    def read(self, content: bytes) -> None:
        """Reads an input."""


class Toml(Target):
    """A TOML file of any kind."""

    def changed(self, content: bytes, random: Random) -> bytes:
        return mutation.toml_changed(content, random)

    def read(self, content: bytes) -> None:
        path = self.folder / "file.toml"
        path.write_bytes(content)
        self.parse(path)

    @abstractmethod
    def parse(self, path: Path) -> None:
        """Reads the file."""


class Plan(Toml):
    """PLAN.toml of the gate."""

    def valid(self) -> list[bytes]:
        places = (*(ROOT / "docs" / "examples").rglob("PLAN*.toml"), ROOT / "examples" / "gate" / "PLAN.toml")
        return [path.read_bytes() for path in sorted(places)]

    def parse(self, path: Path) -> None:
        from perdure.evidence.gate.plan import PlanFile

        PlanFile.read(path)


class Benchmark(Toml):
    """A benchmark file, with the methods and recipes that it names."""

    def valid(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted((ROOT / "benchmarks" / "configs").glob("*.toml"))]

    def parse(self, path: Path) -> None:
        from perdure.benchmark.config import method_for, read_config

        config = read_config(path)
        contract = fakes.picture_contract()
        for entry in config.methods:
            config.network_of(entry.base)
            config.train_recipe(entry.base, contract, 0)
            method = method_for(entry, {}, path.parent)
            config.update_recipe(entry.update, contract, method.batch_norm, 0)


class Method(Toml):
    """A method composed by a file."""

    def valid(self) -> list[bytes]:
        return [
            b"""name = "fisher-lr"
granularity = "filter"
batch_norm = "original"
rate = [1.0, 0.1]
[importance]
measure = "fisher"
[importance.scaling]
outliers = "clip"
range = "unit"
[regularizer]
form = "learning-rate"
""",
            b'name = "mine"\n[importance]\nmeasure = "mas"\n[regularizer]\nform = "surrogate"\nstrength = 1e4\n',
            b'trainable = "batch-norm"\n[regularizer]\nform = "unrestrained"\n',
        ]

    def parse(self, path: Path) -> None:
        from perdure.methods.composition import composed

        json.dumps(composed(path).record())


class DatasetToml(Toml):
    """dataset.toml, with the check of the folder that it describes."""

    def valid(self) -> list[bytes]:
        synthetic.write_images(self.folder / "images", cases=(1, 1, 1), size=(8, 8), field_of_view=True)
        whole = (self.folder / "images" / "dataset.toml").read_bytes()
        more = b'spacing = [1.0, 1.0, 2.0]\nignore_values = [9]\ndomains = ["camera-a", "camera-b"]\ntitle = "t"\n'
        more += b"[splitting]\nfractions = [0.5, 0.25, 0.25]\nseed = 3\nstratify = false\n"
        return [whole, whole.replace(b"[labels]", more + b"[labels]"), whole.replace(b"disc = 1", b"disc = [1, 2, 3]")]

    def parse(self, path: Path) -> None:
        from perdure.data import Dataset

        shutil.copyfile(path, self.folder / "images" / "dataset.toml")
        dataset = Dataset.open(self.folder / "images")
        dataset.default_contract(cache=self.folder / "cache", merge_sides=True)


class Manifest(Target):
    """manifest.csv, with the check of every file that it names."""

    def valid(self) -> list[bytes]:
        folder = synthetic.write_images(self.folder / "images", cases=(1, 1, 1), size=(8, 8), field_of_view=True)
        (folder / "link").symlink_to("/etc")
        (folder / "device").symlink_to("/dev/zero")
        os.mkfifo(folder / "pipe")
        return [(folder / "manifest.csv").read_bytes()]

    def changed(self, content: bytes, random: Random) -> bytes:
        return mutation.csv_changed(content, random)

    def read(self, content: bytes) -> None:
        from perdure.data import Dataset
        from perdure.data.unlabelled import unlabelled_scans

        folder = self.folder / "images"
        (folder / "manifest.csv").write_bytes(content)
        with contextlib.suppress(PerdureError):
            unlabelled_scans(folder, ["camera-a"], "test")
        dataset = Dataset.open(folder)
        dataset.check(cache=self.folder / "cache")


class Json(Target):
    """A JSON file of any kind."""

    def changed(self, content: bytes, random: Random) -> bytes:
        return mutation.json_bytes_changed(content, random)


class Verdict(Json):
    """What the gate wrote."""

    def valid(self) -> list[bytes]:
        from gate_workspace import Gated, dice_scores, ordinary

        (self.folder / "work").mkdir()
        verdict = Gated(self.folder / "work", dice_scores(ordinary())).verdict()
        return [verdict.model_dump_json(indent=2).encode()]

    def read(self, content: bytes) -> None:
        from perdure.evidence.gate.verdict import Verdict as Given

        (self.folder / "verdict.json").write_bytes(content)
        Given.read(self.folder / "verdict.json")


class RunRecord(Target):
    """run.json and training.csv of a run, as `perdure doctor` reads them; a line of dashes stands between them."""

    BORDER = b"\n----\n"

    def valid(self) -> list[bytes]:
        import perdure
        from audited import domain_in
        from perdure.update import Recipe

        synthetic.write_images(self.folder / "data", domains=("a",), cases=(2, 1, 1), size=(32, 32))
        network = perdure.QuickNAT(in_channels=3, classes=2, filters=2, kernel_size=3)
        out = self.folder / "base"
        perdure.train(network, domain_in(self.folder / "data", "a"), recipe=Recipe(epochs=2), out=out)
        run = self.folder / "base.run"
        return [(run / "run.json").read_bytes() + self.BORDER + (run / "training.csv").read_bytes()]

    def changed(self, content: bytes, random: Random) -> bytes:
        record, _, log = content.partition(self.BORDER)
        if random.random() < 0.5:
            return mutation.json_bytes_changed(record, random) + self.BORDER + log
        return record + self.BORDER + mutation.csv_changed(log, random)

    def read(self, content: bytes) -> None:
        from perdure.evaluation.diagnosis import Run, diagnose
        from perdure.evidence.diagnosis_text import diagnosis_record

        record, _, log = content.partition(self.BORDER)
        run = self.folder / "base.run"
        (run / "run.json").write_bytes(record)
        (run / "training.csv").write_bytes(log)
        found = Run.open(run)
        found.parent_beside()
        diagnosis_record(diagnose(found))


class Ledger(Target):
    """A ledger and its head; a line of dashes stands between them."""

    BORDER = b"----\n"

    def valid(self) -> list[bytes]:
        import workspaces

        workspaces.workspace(self.folder / "work")
        self.path = self.folder / "work" / "ledger.jsonl"
        kept = ROOT / "examples" / "gate" / "workspace"
        return [
            self.path.read_bytes() + self.BORDER + self.path.with_suffix(".head").read_bytes(),
            (kept / "ledger.jsonl").read_bytes() + self.BORDER + (kept / "ledger.head").read_bytes(),
        ]

    def changed(self, content: bytes, random: Random) -> bytes:
        entries, border, head = content.partition(self.BORDER)
        kind = random.randrange(4)
        if kind == 0:
            return entries + border + mutation.json_bytes_changed(head, random)
        if kind == 1:
            return mutation.bytes_changed(entries, random, (b"\n", b"[" * 3000, b"9" * 5000)) + border + head
        lines = entries.split(b"\n")
        at = random.randrange(len(lines))
        lines[at] = mutation.json_bytes_changed(lines[at], random)
        if random.random() < 0.7:
            lines, head = self._linked(lines, head)
        return b"\n".join(lines) + border + head

    def _linked(self, lines: list[bytes], head: bytes) -> tuple[list[bytes], bytes]:
        """The lines with hashes that fit, as somebody who forges a ledger would make them."""
        from perdure.evidence.canonical import canonical
        from perdure.evidence.ledger.ledger import START, _digest

        before, made = START, []
        for line in lines:
            try:
                entry = {**json.loads(line), "previous": before}
                before = entry["hash"] = _digest(entry)
                made.append(canonical(entry))
            except (ValueError, TypeError, RecursionError):
                made.append(line)
        return made, json.dumps({"entries": len(made) - 1, "hash": before}, separators=(",", ":")).encode() + b"\n"

    def read(self, content: bytes) -> None:
        from perdure.evidence.ledger.ledger import Ledger as Book
        from perdure.evidence.ledger.ledger_text import entries_table, verification_lines
        from perdure.evidence.ledger.verification import verify

        entries, _, head = content.partition(self.BORDER)
        self.path.write_bytes(entries)
        self.path.with_suffix(".head").write_bytes(head)
        book = Book(self.path)
        # one of them an input, because each reads all of the ledger
        kind = zlib.crc32(content) % 4
        if kind == 0:
            verification_lines(verify(self.path.parent))
        elif kind == 1:
            _shown(entries_table(book.readable()[-2:]))
        else:
            with contextlib.suppress(PerdureError):
                book.append("looked", None, domain="a")
            book.entries()


def _shown(*parts: Any) -> None:
    console = Console(file=io.StringIO(), width=100)
    for part in parts:
        console.print(part)


def targets() -> dict[str, Callable[[Path], Target]]:
    """Every target by its name."""
    from fuzz import binaries, clinical

    return {
        "manifest": Manifest,
        "dataset-toml": DatasetToml,
        "plan-toml": Plan,
        "benchmark-toml": Benchmark,
        "method-toml": Method,
        "verdict": Verdict,
        "run-record": RunRecord,
        "ledger": Ledger,
        **binaries.TARGETS,
        **clinical.TARGETS,
    }
