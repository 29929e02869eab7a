"""Did a row do better than another on a domain, and could chance alone have done it? Subject by subject."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import polars as pl

from perdure.benchmark.outcomes import RowOutcome, SequenceOutcome, spread_of
from perdure.benchmark.record import RecordHeader
from perdure.errors import EvaluationError
from perdure.evaluation import (
    Interval,
    PairedTest,
    Spread,
    difference_over_subjects,
    grade_error_test,
    holm,
    kappa,
    kappa_interval,
    paired_test,
)
from perdure.evaluation.confusion import confusion
from perdure.evaluation.matrix import defined_mean
from perdure.types import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.05
"""What p is held against."""
FEW = 20
"""With fewer subjects the bootstrap's p is too small; see `kappa_interval`."""


class Difference(Value):
    """What one row scores on one domain above another.

    Args:
        domain: which one.
        interval: of the difference, over subjects: of mean Dice, or of the kappa of the cases of all seeds together.
        over_seeds: the same difference of each seed by itself; None where no seed has one.
        test: Wilcoxon's signed-rank test over subjects: of Dice; of classes, how many grades each subject's cases are
            off (wrong or not, where they have no order), so that there a fall is better.
        p: of the test for Dice, of the bootstrap for kappa; corrected for the number of domains (Holm).
        p_errors: of classes the p of `test`, corrected likewise; None for Dice.
        smallest_p: what the corrected p could be at least with so few subjects, if every domain showed its utmost.
    """

    domain: str
    interval: Interval
    over_seeds: Spread | None
    test: PairedTest
    p: float | None
    p_errors: float | None
    smallest_p: float

    @property
    def can_decide(self) -> bool:
        """Whether there are subjects enough for p to reach the level at all."""
        return self.smallest_p <= self.test.level

    @property
    def keeps_level(self) -> bool:
        """Whether a p below the level is as rare as the level says where nothing differs."""
        return self.interval.p is None or self.interval.n >= FEW


class Comparison(Value):
    """One row held against another, on every domain at one stage.

    Args:
        label: of the row.
        reference: what it is held against.
        seeds: those that both have scores for.
        differences: one a domain; row minus reference.
    """

    label: str
    reference: str
    seeds: tuple[int, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class _Side:
    row: RowOutcome
    stage: int


class _Found(NamedTuple):
    interval: Interval
    test: PairedTest
    by_seed: list[float]


def compared_metric(header: RecordHeader) -> str:
    """What differences are of: of classes kappa, whatever the scores are."""
    return header.metric if header.task == "segmentation" else "kappa"


def compared(outcome: SequenceOutcome, label: str, reference: str) -> Comparison | None:
    """A row held against another at the end of the sequence; None where no seed has scores of both.

    Values of one subject are means over the seeds that both have, and over the structures that both could be scored on;
    seeds are paired, because they share base releases.

    Raises:
        EvaluationError: if there is no such row, or the two were scored on different cases.
    """
    last = len(outcome.domains) - 1
    return _compared(outcome, _Side(_row(outcome, reference), last), _Side(_row(outcome, label), last), reference)


def compared_with_base(outcome: SequenceOutcome, label: str) -> Comparison | None:
    """A row at the end of the sequence held against its own base release; None where no seed has scores."""
    row = _row(outcome, label)
    return _compared(outcome, _Side(row, 0), _Side(row, len(outcome.domains) - 1), "before")


def against(outcome: SequenceOutcome, reference: str) -> dict[str, Comparison | None]:
    """Every other row held against one, by label in the order of tables; empty where there is no such reference."""
    found = outcome.row(reference)
    if found is None:
        return {}
    labels = [row.label for row in outcome.rows if row.label != found.label]
    return {label: compared(outcome, label, found.label) for label in labels}


def _row(outcome: SequenceOutcome, label: str) -> RowOutcome:
    for row in outcome.rows:
        if row.label == label:
            return row
    raise EvaluationError(
        f"{outcome.record.header.name}: no row {label!r}; there are {', '.join(row.label for row in outcome.rows)}."
    )


def _compared(outcome: SequenceOutcome, before: _Side, after: _Side, reference: str) -> Comparison | None:
    seeds = tuple(seed for seed in after.row.matrices if seed in before.row.matrices)
    if not seeds:
        return None
    of_cases = outcome.record.header.task == "classification"
    of_domain = _of_cases if of_cases else _of_subjects
    found = {domain: of_domain(outcome, before, after, domain, seeds) for domain in outcome.domains}
    errors = holm({domain: one.test.p for domain, one in found.items()})
    kappas = holm({domain: one.interval.p for domain, one in found.items()})
    smallest = _smallest(tuple(one.test.smallest_p for one in found.values()))
    differences = tuple(
        Difference(
            domain=domain,
            interval=one.interval,
            over_seeds=spread_of(one.by_seed),
            test=one.test,
            p=kappas[domain] if of_cases else errors[domain],
            p_errors=errors[domain] if of_cases else None,
            smallest_p=least,
        )
        for (domain, one), least in zip(found.items(), smallest, strict=True)
    )
    return Comparison(label=after.row.label, reference=reference, seeds=seeds, differences=differences)


@cache
def _smallest(p_values: tuple[float, ...]) -> tuple[float, ...]:
    """The smallest p of every domain, corrected as if each of them had its smallest."""
    found = holm(dict(zip(map(str, range(len(p_values))), p_values, strict=True)))
    return tuple(1.0 if p is None else p for p in found.values())


def _of_subjects(outcome: SequenceOutcome, before: _Side, after: _Side, domain: str, seeds: tuple[int, ...]) -> _Found:
    """Scores subject by subject: means over seeds and over the structures that both sides could be scored on."""
    scores = [[side.row.matrices[seed].per_subject[domain] for seed in seeds] for side in (before, after)]
    subjects = scores[0][0].subjects
    if any(one.subjects != subjects for side in scores for one in side):
        raise EvaluationError(
            f"{outcome.record.header.name}: {before.row.label} and {after.row.label} were scored on different "
            f"subjects of {domain}."
        )
    # of shape (sides, seeds, subjects, structures)
    values = np.array(
        [[one.values[side.stage] for one in of_side] for side, of_side in zip((before, after), scores, strict=True)]
    )
    values[:, np.isnan(values).any(axis=0)] = np.nan
    means = defined_mean(defined_mean(values, axis=1), axis=-1)
    old, new = (dict(zip(subjects, side, strict=True)) for side in means.tolist())
    by_seed = defined_mean(defined_mean(values[1] - values[0], axis=-1), axis=-1)
    return _Found(difference_over_subjects(old, new), paired_test(old, new, level=LEVEL), by_seed.tolist())


def _of_cases(outcome: SequenceOutcome, before: _Side, after: _Side, domain: str, seeds: tuple[int, ...]) -> _Found:
    header = outcome.record.header
    found = [_cases(outcome, side, domain, seeds) for side in (before, after)]
    if not found[0].drop("prediction").equals(found[1].drop("prediction")):
        raise EvaluationError(
            f"{header.name}: {before.row.label} and {after.row.label} were scored on different cases of {domain}."
        )
    truth, old, new = (
        _classes(found[side], name) for side, name in ((0, "truth"), (0, "prediction"), (1, "prediction"))
    )
    subjects, classes = found[0]["subject"].to_list(), len(header.structures)
    weights: Literal["linear", "none"] = "linear" if header.ordinal else "none"
    interval = kappa_interval(truth, old, new, subjects=subjects, classes=classes, weights=weights)
    by_seed = []
    for seed in seeds:
        own = (found[0]["seed"] == seed).to_numpy()
        counts = [confusion(truth[own], side[own], classes) for side in (old, new)]
        by_seed.append(float(np.diff(kappa(np.stack(counts), weights)).item()))
    if not header.ordinal:
        # without an order of classes one is right or wrong
        truth, old, new = np.zeros_like(truth), (old != truth).astype(np.int64), (new != truth).astype(np.int64)
    return _Found(interval, grade_error_test(truth, old, new, subjects, level=LEVEL), by_seed)


def _classes(cases: pl.DataFrame, column: str) -> NDArray[np.int64]:
    return cases[column].cast(pl.Int64).to_numpy()


def _cases(outcome: SequenceOutcome, side: _Side, domain: str, seeds: tuple[int, ...]) -> pl.DataFrame:
    """Truth and prediction of every case, once a seed."""
    wanted = (
        (pl.col("sequence") == outcome.name)
        & (pl.col("label") == side.row.label)
        & (pl.col("stage") == side.stage)
        & (pl.col("domain") == domain)
        & pl.col("seed").is_in(seeds)
        & pl.col("metric").is_in(["truth", "prediction"])
    )
    index = ["seed", "subject", "case"]
    return outcome.record.table.filter(wanted).pivot("metric", index=index, values="value").sort(index)
