"""Does one cell of a grid, in whatever process."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from perdure.benchmark.plan import Cell, Plan, short_hash
from perdure.benchmark.store import Kept, Store, slug
from perdure.errors import DivergenceError
from perdure.evaluation import Scores, mean_scores
from perdure.release.folder import replace_file
from perdure.types import Split, Value
from perdure.update.provenance import versions

RECORD, SCORES = "record.json", "scores.parquet"


class CellRecord(Value):
    """What is kept of a finished cell.

    Args:
        cell: which.
        status: `diverged` where training left the numbers, which is a result.
        reason: of that.
        seconds: that it took in its last process.
        finished: when.
        releases: one a stage, as `<key> <id>`.
        validation: of a trial, by domain the score `[before, after]` of the first update.
        machine: what kind of machine did it.
        versions: of the libraries that did it.
    """

    cell: Cell
    status: Literal["done", "diverged"]
    reason: str = ""
    seconds: float
    finished: str
    releases: tuple[str, ...] = ()
    validation: dict[str, tuple[float | None, float | None]] = Field(default_factory=dict)
    machine: str = ""
    versions: dict[str, str] = Field(default_factory=dict)


def folder_of(plan: Plan, cell: Cell, out: Path) -> Path:
    """Where a cell keeps its record: named after it and after all that decides its result."""
    decides: dict[str, Any] = {"cell": cell.model_dump(mode="json")}
    if cell.kind == "base":
        decides["base"] = plan.base_record(cell)
    else:
        domains = _domains(plan, cell)
        updates = [plan.update(cell, name) for name in domains[1:]]
        decides["base"] = plan.base_record(plan.base_of(cell), updates[0].gathered)
        decides["updates"] = [update.record() for update in updates]
        decides["data"] = [plan.digests[name] for name in domains]
        decides["scored"] = [plan.scored[name, _split(plan, cell)] for name in domains]
    name = f"{cell.kind}-{cell.label or cell.base}-seed{cell.seed}-{short_hash(decides)}"
    return out / "cells" / slug(cell.sequence) / slug(name)


def record_of(plan: Plan, cell: Cell, out: Path) -> CellRecord | None:
    """The record of a cell that is finished; None where it is not."""
    file = folder_of(plan, cell, out) / RECORD
    return CellRecord.model_validate_json(file.read_bytes()) if file.exists() else None


def run_cell(plan: str, cell: str, out: str) -> None:
    """Does a cell, goes on with it, or finds it finished.

    Args:
        plan: as `Plan.to_json` gives it.
        cell: the cell as JSON.
        out: the folder of the benchmark.
    """
    torch.set_num_threads(1)
    opened, job = _opened(plan), Cell.model_validate_json(cell)
    if record_of(opened, job, Path(out)) is not None:
        return
    folder = folder_of(opened, job, Path(out))
    started = time.monotonic()
    try:
        facts = _done(Store(Path(out), opened), job, folder)
        status, reason = "done", ""
    except DivergenceError as error:
        facts, status, reason = {}, "diverged", str(error)
    record = CellRecord(
        cell=job,
        status=status,
        reason=reason,
        seconds=round(time.monotonic() - started, 1),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(opened.device),
        versions=versions(),
        **facts,
    )
    replace_file(folder / RECORD, (record.model_dump_json(indent=2) + "\n").encode())


@lru_cache(maxsize=1)
def _opened(plan: str) -> Plan:
    # one process does many cells of a plan, and its data are checked once
    return Plan.from_json(plan)


def _done(store: Store, cell: Cell, folder: Path) -> dict[str, Any]:
    plan = store.plan
    if cell.kind == "base":
        return {"releases": _named([store.base(cell)])}
    names = _domains(plan, cell)
    kept = store.in_turn(cell, names)
    scores = store.matrix_scores(kept, names, _split(plan, cell), cell.name)
    if cell.kind == "final":
        scores.write(folder / SCORES)
        return {"releases": _named(kept)}
    return {"releases": _named(kept), "validation": _before_and_after(scores, kept, names, plan.metric)}


def _domains(plan: Plan, cell: Cell) -> tuple[str, ...]:
    """What a cell learns: a trial knows the first two domains alone."""
    every = plan.config.sequences[cell.sequence]
    return every[:2] if cell.kind == "trial" else every


def _split(plan: Plan, cell: Cell) -> Split:
    return "val" if cell.kind == "trial" else plan.config.split


def _named(kept: Sequence[Kept]) -> tuple[str, ...]:
    return tuple(f"{one.key} {one.release.id}" for one in kept)


def _before_and_after(scores: Scores, kept: Sequence[Kept], names: Sequence[str], metric: str) -> dict[str, Any]:
    means = mean_scores(scores, metric)
    return {name: (means[kept[0].release.id, name], means[kept[-1].release.id, name]) for name in names}


def machine(device: str) -> str:
    """What kind of machine this is; no name of it."""
    cores = f"{os.cpu_count()} cores, {platform.machine()}"
    if device == "cpu":
        return f"{cores}, one thread a cell"
    return f"{cores}, {torch.cuda.get_device_name()}"
