"""Runs a grid: bases, trials, selection, finals; whatever is finished is not done again."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from perdure.benchmark.cell import SCORES, folder_of, record_of, run_cell
from perdure.benchmark.config import Settings
from perdure.benchmark.engines import Engine
from perdure.benchmark.plan import Cell, Kind, Plan
from perdure.benchmark.record import Finished, Record, RecordHeader, Row, rows_of, together
from perdure.benchmark.selection import Choice, selected
from perdure.benchmark.store import Store
from perdure.evaluation import Scores
from perdure.release.folder import replace_file
from perdure.update.provenance import LIBRARIES

RECORDS, SELECTION, FAILURES = "records.parquet", "selection.json", "failures.json"

Told: TypeAlias = Callable[[Cell, str, float, float], None]
"""Told a cell that is over, how (`done`, `diverged`, or the reason why it failed), and the share of the whole grid's
work that is done now, and that was done before this run began; in [0, 1]."""


@dataclass
class Outcome:
    """How a run ended.

    Args:
        record: all that was found; cells that failed are missing in its table.
        failures: by cell the reason.
    """

    record: Record
    failures: dict[Cell, str] = field(default_factory=dict)


def run_benchmark(plan: Plan, out: Path, engine: Engine, *, command: str = "", told: Told | None = None) -> Outcome:
    """Runs every cell that is not finished, and gathers what all of them found.

    Args:
        plan: which cells.
        out: where everything is kept; the same call goes on where it was stopped. Cells are known by what decides
            their result, so that a row can be added later.
        engine: where they run.
        command: for the record.
        told: about every cell that is over.

    Raises:
        ConfigurationError: if a method, setting or domain cannot be.
        DataError: if the data are not sound.
    """
    plan.check()
    for domain in plan.domains.values():
        domain.prepare()
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(plan, out, engine, told)
    run.phase(plan.bases())
    run.phase(plan.trials())
    choices = selected(plan, out, out / SELECTION)
    finals = plan.finals(choices.settings())
    run.phase(finals)
    replace_file(
        out / FAILURES, (json.dumps({cell.name: why for cell, why in run.failures.items()}, indent=2) + "\n").encode()
    )
    record = gathered(plan, out, choices.choices, run.failures, command)
    record.write(out / RECORDS)
    return Outcome(record, run.failures)


class _Run:
    def __init__(self, plan: Plan, out: Path, engine: Engine, told: Told | None) -> None:
        self.plan, self.out, self.engine, self.told = plan, out, engine, told
        self.failures: dict[Cell, str] = {}
        every = [*plan.bases(), *plan.trials(), *plan.finals({})]
        self.total = sum(cost(plan, cell) for cell in every)
        self.before = self.over = 0.0

    def phase(self, cells: Sequence[Cell]) -> None:
        """Runs those cells that are left, and whose base release is there."""
        left: dict[tuple[str, ...], Cell] = {}
        text = self.plan.to_json()
        for cell in cells:
            if record_of(self.plan, cell, self.out) is not None:
                self.before += cost(self.plan, cell)
                self.over += cost(self.plan, cell)
                continue
            base = self.plan.base_of(cell)
            if base in self.failures:
                self._ended(cell, f"not begun, because its base release failed: {self.failures[base]}")
                continue
            left[text, cell.model_dump_json(), str(self.out)] = cell
        for job, reason in self.engine.run(run_cell, list(left)):
            self._ended(left[job], reason)

    def _ended(self, cell: Cell, reason: str | None) -> None:
        self.over += cost(self.plan, cell)
        if reason is not None:
            self.failures[cell] = reason
        record = record_of(self.plan, cell, self.out) if reason is None else None
        if self.told is not None:
            how = reason or (record.status if record is not None else "done")
            self.told(cell, how, min(1.0, self.over / self.total), min(1.0, self.before / self.total))


def cost(plan: Plan, cell: Cell) -> float:
    """About how much work a cell is: the number of training samples that pass through the network."""
    domains = plan.config.sequences[cell.sequence]
    if cell.kind == "base":
        recipe = plan.config.train_recipe(cell.base, plan.contract, cell.seed)
        return float(recipe.epochs * plan.domains[domains[0]].counts.samples["train"])
    stages = domains[1:2] if cell.kind == "trial" else domains[1:]
    total = 0.0
    for place, name in enumerate(stages, 1):
        change = plan.update(cell, name)
        seen = domains[: place + 1] if change.method.data == "cumulative" else (name,)
        samples = sum(plan.domains[one].counts.samples["train"] for one in seen)
        total += samples * (0 if change.method.data == "none" else change.recipe.epochs)
    # measuring importance and scoring cost something even where nothing is trained
    return total + sum(plan.domains[name].counts.samples["train"] for name in domains)


def gathered(plan: Plan, out: Path, choices: Sequence[Choice], failures: Mapping[Cell, str], command: str) -> Record:
    """The record of all final cells that are finished.

    Args:
        plan: whose cells.
        out: the folder of the benchmark.
        choices: what was selected.
        failures: by cell the reason.
        command: that made it.
    """
    chosen = {(one.sequence, one.label): one.chosen for one in choices}
    parts, cells = [], []
    keys: set[str] = set()
    for cell in plan.finals(chosen):
        record = record_of(plan, cell, out)
        if record is None:
            cells.append(_finished(cell, "failed", failures.get(cell, "not run yet")))
            continue
        cells.append(_finished(cell, record.status, record.reason, record.seconds))
        keys.update(release.split()[0] for release in record.releases)
        if record.status == "done":
            scores = Scores.read(folder_of(plan, cell, out) / SCORES)
            parts.append(rows_of(scores, cell.sequence, cell.label, cell.seed))
    cells += [
        _finished(
            Cell(kind="final", sequence=sequence, base="", seed=seed, label=label),
            "failed",
            "no candidate could be scored",
        )
        for (sequence, label), settings in chosen.items()
        if settings is None
        for seed in plan.config.seeds
    ]
    contract = plan.contract
    header = RecordHeader(
        name=plan.config.name,
        title=plan.config.title,
        config=plan.config.model_dump(mode="json"),
        task=contract.task,
        ordinal=contract.ordinal,
        split=plan.config.split,
        metric=plan.metric,
        structures=tuple(structure.name for structure in contract.structures),
        sequences=plan.config.sequences,
        seeds=plan.config.seeds,
        subjects={name: domain.counts.subjects[plan.config.split] for name, domain in plan.domains.items()},
        rows=tuple(_rows(plan, chosen)),
        cells=tuple(cells),
        choices=tuple(choices),
        seconds=_seconds(plan, out, chosen),
        reads=_reads(Store(out, plan), plan.config.split, keys),
        command=command,
        created=datetime.now(UTC),
        versions={"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        machine=machine(plan.device),
    )
    return Record(header, together(parts))


def machine(device: str) -> str:
    """What kind of machine this is; no name of it."""
    cores = f"{os.cpu_count()} cores, {platform.machine()}"
    if device == "cpu":
        return f"{cores}, one thread a cell"
    import torch

    return f"{cores}, {torch.cuda.get_device_name()}"


def _finished(cell: Cell, status: str, reason: str, seconds: float | None = None) -> Finished:
    return Finished.model_validate(
        {
            "sequence": cell.sequence,
            "label": cell.label,
            "seed": cell.seed,
            "status": status,
            "reason": reason,
            "seconds": seconds,
        }
    )


def _rows(plan: Plan, chosen: Mapping[tuple[str, str], object]) -> Iterable[Row]:
    for entry in plan.config.methods:
        cell = Cell(kind="final", sequence="", base=entry.base, seed=0, label=entry.name)
        yield Row.model_validate(
            {
                "label": entry.name,
                "method": plan.update(cell, "").method.record(),
                "role": entry.role,
                "base": entry.base,
                "set": entry.set,
                "update": entry.update,
                "retain": entry.retain,
                "chosen": {
                    name: settings
                    for name in plan.config.sequences
                    if (settings := chosen.get((name, entry.name))) is not None
                },
            }
        )


def _seconds(plan: Plan, out: Path, chosen: Mapping[tuple[str, str], Settings | None]) -> dict[Kind, float]:
    every = [*plan.bases(), *plan.trials(), *plan.finals(chosen)]
    total: dict[Kind, float] = {}
    for cell in every:
        if (record := record_of(plan, cell, out)) is not None:
            total[cell.kind] = round(total.get(cell.kind, 0.0) + record.seconds, 1)
    return total


def _reads(store: Store, split: str, keys: Collection[str]) -> dict[str, int]:
    """How often releases of this grid were scored on the split; the folder may hold others."""
    lines = [line for line in store.reads() if line["split"] == split and line["release"] in keys]
    times = Counter((line["release"], line["domain"]) for line in lines)
    return {"scored": len(times), "repeated": sum(count - 1 for count in times.values())}
