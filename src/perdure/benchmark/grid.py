"""Runs a grid: bases, trials, selection, finals; whatever is finished is not done again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

from perdure.benchmark.cell import SCORES, CellRecord, folder_of, record_of, run_cell
from perdure.benchmark.config import Settings
from perdure.benchmark.engines import Engine
from perdure.benchmark.plan import Cell, Kind, Plan, first_candidate
from perdure.benchmark.record import Finished, Record, RecordHeader, Row, rows_of, together
from perdure.benchmark.selection import Choice, selected
from perdure.benchmark.soundness import check_plan
from perdure.benchmark.store import Store
from perdure.errors import (
    BatchNormError,
    ConfigurationError,
    DivergenceError,
    MemoryShortageError,
    MethodError,
    NetworkError,
    UpdateError,
)
from perdure.evaluation import Scores
from perdure.release.folder import replace_file

_NAMES_NOBODY = frozenset(
    one.__name__
    for one in (
        BatchNormError, ConfigurationError, DivergenceError, MemoryShortageError, MethodError, NetworkError, UpdateError
    )
)  # fmt: skip
"""Errors that are about settings and numbers; those of data say which file and which case it was."""

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


def run_benchmark(
    plan: Plan,
    out: Path,
    engine: Engine,
    *,
    only: Collection[str] = (),
    seeds: Collection[int] = (),
    command: str = "",
    told: Told | None = None,
    preparing: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Runs every cell that is not finished, and gathers what all of them found.

    Args:
        plan: which cells.
        out: where everything is kept; the same call goes on where it was stopped. Cells are known by what decides
            their result, so that a row can be added later.
        engine: where they run.
        only: runs these rows alone, by label; the record has what is finished of all.
        seeds: runs these seeds alone.
        command: for the record.
        told: about every cell that is over.
        preparing: told how many images of how many are prepared, before the first cell begins.

    Raises:
        ConfigurationError: if a method, setting or domain cannot be.
        DataError: if the data are not sound.
    """
    check_plan(plan)
    total = sum(len(domain.rows) for domain in plan.domains.values())
    done = 0
    for domain in plan.domains.values():
        domain.prepare(partial(_counted, preparing, done, total))
        done += len(domain.rows)
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(plan, out, engine, wanted(plan, only, seeds), told)
    run.phase(plan.bases())
    run.phase(plan.trials())
    choices = selected(plan, out, out / SELECTION)
    run.phase(plan.finals(choices.settings()))
    failures = {cell.name: why for cell, why in run.failures.items()}
    replace_file(out / FAILURES, (json.dumps(failures, indent=2) + "\n").encode())
    record = gathered(plan, out, choices.choices, run.failures, command)
    record.write(out / RECORDS)
    return Outcome(record, run.failures)


def wanted(plan: Plan, only: Collection[str], seeds: Collection[int]) -> Callable[[Cell], bool]:
    """Whether a cell is one of those that are asked for, or a base release that one of them starts from.

    Args:
        plan: whose cells.
        only: these rows, by label; all if empty.
        seeds: these seeds; all if empty.
    """
    labels = set(only) or {entry.name for entry in plan.config.methods}
    bases = {entry.base for entry in plan.config.methods if entry.name in labels}

    def is_wanted(cell: Cell) -> bool:
        row = cell.base in bases if cell.kind == "base" else cell.label in labels
        return row and (not seeds or cell.seed in seeds)

    return is_wanted


def _counted(preparing: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    preparing(before + done, total)


class _Run:
    def __init__(
        self, plan: Plan, out: Path, engine: Engine, is_wanted: Callable[[Cell], bool], told: Told | None
    ) -> None:
        self.plan, self.out, self.engine, self.is_wanted, self.told = plan, out, engine, is_wanted, told
        self.failures: dict[Cell, str] = {}
        every = [*plan.bases(), *plan.trials(), *plan.finals({})]
        self.total = sum(cost(plan, cell) for cell in every if is_wanted(cell))
        self.before = self.over = 0.0

    def phase(self, cells: Sequence[Cell]) -> None:
        """Runs those cells that are wanted and left, and whose base release is there."""
        left: dict[tuple[str, ...], Cell] = {}
        text = self.plan.to_json()
        for cell in filter(self.is_wanted, cells):
            if record_of(self.plan, cell, self.out) is not None:
                self.before += cost(self.plan, cell)
                self.over += cost(self.plan, cell)
            elif (lost := self._lost(self.plan.base_of(cell))) is not None and cell.kind != "base":
                self._ended(cell, f"not begun, because its base release {lost}")
            else:
                left[text, cell.model_dump_json(), str(self.out)] = cell
        for job, reason in self.engine.run(run_cell, list(left)):
            self._ended(left[job], reason)

    def _lost(self, base: Cell) -> str | None:
        """Why there is no base release; None where there is one, or there may be."""
        if base in self.failures:
            return f"failed: {self.failures[base]}"
        record = record_of(self.plan, base, self.out)
        return f"diverged: {record.reason}" if record is not None and record.status == "diverged" else None

    def _ended(self, cell: Cell, reason: str | None) -> None:
        self.over += cost(self.plan, cell)
        if reason is not None:
            self.failures[cell] = recordable(reason)
        record = record_of(self.plan, cell, self.out) if reason is None else None
        if self.told is not None:
            how = reason or (record.status if record is not None else "done")
            self.told(cell, how, min(1.0, self.over / self.total), min(1.0, self.before / self.total))


def recordable(reason: str) -> str:
    """The reason of a failure as it may be kept: with its words where these name neither a file of data nor a patient.

    Args:
        reason: the name of an error and, behind a colon, its words; or words alone.
    """
    name, colon, _ = reason.partition(": ")
    if colon and name.isidentifier() and name not in _NAMES_NOBODY:
        return f"{name}: its words may name a patient and are not kept; the same command says them again"
    return reason


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
        runs = len(change.method.rate) if isinstance(change.method.rate, tuple) else change.method.data != "none"
        total += samples * runs * change.recipe.epochs
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
    records: list[CellRecord] = []
    lines = [line for line in Store(out, plan).reads() if line["split"] == plan.config.split]
    for cell in plan.finals(chosen):
        record = record_of(plan, cell, out)
        if record is None:
            status = "failed" if cell in failures else "not run"
            cells.append(_finished(cell, status, failures.get(cell, "not run yet")))
            continue
        cells.append(_finished(cell, record.status, record.reason, record.seconds))
        records.append(record)
        keys.update(release.split()[0] for release in record.releases)
        if record.status == "done":
            scores = Scores.read(folder_of(plan, cell, out) / SCORES)
            parts.append(rows_of(scores, cell.sequence, cell.label, cell.seed))
    cells += [
        _finished(
            Cell(kind="final", sequence=one.sequence, base="", seed=seed, label=one.label),
            "not run" if one.unfinished else "failed",
            f"{one.unfinished} of its trials are not finished" if one.unfinished else "no candidate could be scored",
        )
        for one in choices
        if one.chosen is None
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
        reads=_reads(lines, keys),
        first_read=min((line["at"] for line in lines), default=""),
        command=command,
        created=datetime.now(UTC),
        versions=_all_of(record.versions for record in records),
        machine="; ".join(sorted({record.machine for record in records if record.machine})),
        data=plan.digests,
        weights=plan.weights_digest,
    )
    return Record(header, together(parts))


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
        cell = Cell(
            kind="final", sequence="", base=entry.base, seed=0, label=entry.name, settings=first_candidate(entry)
        )
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


def _reads(lines: Sequence[Mapping[str, str]], keys: Collection[str]) -> dict[str, int]:
    """How often releases of this grid were scored on the split, and how often others in the same folder."""
    times = Counter((line["release"], line["domain"], line["cases"]) for line in lines if line["release"] in keys)
    others = sum(line["release"] not in keys for line in lines)
    return {"scored": len(times), "repeated": sum(count - 1 for count in times.values()), "others": others}


def _all_of(versions: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Every version that took part; several where cells were made with several."""
    found: dict[str, set[str]] = {}
    for one in versions:
        for name, version in one.items():
            found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(values)) for name, values in found.items()}
