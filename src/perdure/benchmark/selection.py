"""Which of several candidates is taken, from validation cases alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from perdure.benchmark.cell import CellRecord, record_of
from perdure.benchmark.config import Selection, Settings
from perdure.benchmark.plan import Cell, Plan
from perdure.release.folder import replace_file
from perdure.types import Value


class Candidate(Value):
    """One candidate, scored.

    Args:
        settings: what is tried.
        old: mean over seeds of the first domain's validation score, before and after the update; None if none was
            scored.
        new: the same of the domain that was learnt.
        seeds: how many of the seeds have a score.
        diverged: how many left the numbers.
    """

    settings: Settings
    old: tuple[float, float] | None = None
    new: tuple[float, float] | None = None
    seeds: int
    diverged: int = 0

    @property
    def loss(self) -> float:
        """What the first domain lost; at least 0."""
        assert self.old is not None
        return max(0.0, self.old[0] - self.old[1])


class Choice(Value):
    """What was chosen for one row and sequence.

    Args:
        sequence: which sequence.
        label: which row.
        made: when; before any final cell of the row began.
        chosen: the settings; None where no candidate has a score for every seed, or a trial is not finished.
        candidates: all of them, in the order of the file.
        unfinished: how many trials are not finished; nothing is chosen before they are.
    """

    sequence: str
    label: str
    made: str
    chosen: Settings | None
    candidates: tuple[Candidate, ...]
    unfinished: int = 0


class Choices(Value):
    """Everything that was chosen.

    Args:
        selection: the rule.
        choices: one a row that searches, and sequence.
    """

    selection: Selection
    choices: tuple[Choice, ...]

    def settings(self) -> dict[tuple[str, str], Settings | None]:
        """By sequence and label what was chosen."""
        return {(one.sequence, one.label): one.chosen for one in self.choices}


def choose(selection: Selection, candidates: Sequence[Candidate], seeds: int) -> Settings | None:
    """The candidate that the rule takes; of equals the first. Only those with a score for every seed can be taken.

    Args:
        selection: the rule.
        candidates: all that were tried.
        seeds: how many scores a candidate must have.
    """
    whole = [one for one in candidates if one.seeds == seeds and one.old is not None and one.new is not None]
    if not whole:
        return None
    if selection.rule == "mean":
        return max(whole, key=lambda one: one.old[1] + one.new[1]).settings  # type: ignore[index]
    cheap = [one for one in whole if one.loss <= selection.margin]
    if not cheap:
        return min(whole, key=lambda one: one.loss).settings
    return max(cheap, key=lambda one: one.new[1]).settings  # type: ignore[index]


def chosen_before(file: Path) -> dict[tuple[str, str], Settings | None]:
    """What an earlier run chose; nothing where there was none."""
    return Choices.model_validate_json(file.read_bytes()).settings() if file.exists() else {}


def selected(plan: Plan, out: Path, file: Path) -> Choices:
    """Chooses for every row that searches, from the trials that are finished, and writes it down.

    Args:
        plan: whose trials.
        out: the folder of the benchmark.
        file: what was chosen; kept as it is where nothing has changed.
    """
    by_row: dict[tuple[str, str], list[Cell]] = {}
    for cell in plan.trials():
        by_row.setdefault((cell.sequence, cell.label), []).append(cell)
    choices = tuple(
        _choice(plan, sequence, label, {cell: record_of(plan, cell, out) for cell in cells})
        for (sequence, label), cells in by_row.items()
    )
    before = Choices.model_validate_json(file.read_bytes()) if file.exists() else None
    if before is not None and before.selection == plan.config.selection:
        # what has not changed keeps the time at which it was chosen
        known = {(one.sequence, one.label): one for one in before.choices}
        choices = tuple(_kept(known.get((one.sequence, one.label)), one) for one in choices)
    made = Choices(selection=plan.config.selection, choices=choices)
    if made != before:
        replace_file(file, (made.model_dump_json(indent=2) + "\n").encode())
    return made


def _kept(before: Choice | None, now: Choice) -> Choice:
    return before if before is not None and before.model_copy(update={"made": now.made}) == now else now


def _choice(plan: Plan, sequence: str, label: str, records: Mapping[Cell, CellRecord | None]) -> Choice:
    old, new = plan.config.sequences[sequence][:2]
    settings: list[Settings] = []
    for cell in records:
        if cell.settings not in settings:
            settings.append(cell.settings)
    candidates = tuple(
        _candidate([record for cell, record in records.items() if cell.settings == one], one, old, new)
        for one in settings
    )
    unfinished = sum(record is None for record in records.values())
    chosen = None if unfinished else choose(plan.config.selection, candidates, len(plan.config.seeds))
    made = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Choice(
        sequence=sequence, label=label, made=made, chosen=chosen, candidates=candidates, unfinished=unfinished
    )


def _candidate(records: Sequence[CellRecord | None], settings: Settings, old: str, new: str) -> Candidate:
    scored = [
        record.validation
        for record in records
        if record is not None and record.validation and None not in (*record.validation[old], *record.validation[new])
    ]
    return Candidate(
        settings=settings,
        old=_mean([scores[old] for scores in scored]),
        new=_mean([scores[new] for scores in scored]),
        seeds=len(scored),
        diverged=sum(record is not None and record.status == "diverged" for record in records),
    )


def _mean(pairs: Sequence[tuple[float | None, float | None]]) -> tuple[float, float] | None:
    if not pairs:
        return None
    before, after = ([float(pair[side] or 0.0) for pair in pairs] for side in (0, 1))
    return sum(before) / len(pairs), sum(after) / len(pairs)
