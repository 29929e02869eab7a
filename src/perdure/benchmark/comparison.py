"""Did a row do better than another on a domain, and could chance alone have done it? Subject by subject."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from perdure.benchmark.outcomes import RowOutcome, SequenceOutcome
from perdure.errors import EvaluationError
from perdure.evaluation import (
    Interval,
    PairedTest,
    difference_over_subjects,
    grade_error_test,
    holm,
    kappa_interval,
    paired_test,
)
from perdure.evaluation.matrix import defined_mean
from perdure.types import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.05
"""What p is held against."""


class Difference(Value):
    """What one row scores on one domain above another.

    Args:
        domain: which one.
        interval: of the difference, over subjects: of mean Dice, or of the kappa of the cases of all seeds together.
        test: Wilcoxon's signed-rank test over subjects: of Dice; of classes, how many grades each subject's cases are
            off (wrong or not, where they have no order), so that there a fall is better.
        p: of the test for Dice, of the bootstrap for kappa; corrected for the number of domains (Holm).
        p_errors: of classes the p of `test`, corrected likewise; None for Dice.
        smallest_p: what the corrected p could be at least with so few subjects, if every domain showed its utmost.
    """

    domain: str
    interval: Interval
    test: PairedTest
    p: float | None
    p_errors: float | None
    smallest_p: float

    @property
    def can_decide(self) -> bool:
        """Whether there are subjects enough for p to reach the level at all."""
        return self.smallest_p <= self.test.level


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


def compared(outcome: SequenceOutcome, label: str, reference: str) -> Comparison | None:
    """A row held against another at the end of the sequence; None where no seed has scores of both.

    Values of one subject are means over the seeds that both have; seeds are paired, because they share base releases.

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
    pairs = []
    for domain in outcome.domains:
        if of_cases:
            pairs.append(_of_cases(outcome, before, after, domain, seeds))
        else:
            sides = [_by_subject(side, domain, seeds) for side in (before, after)]
            pairs.append((difference_over_subjects(*sides), paired_test(*sides, level=LEVEL)))
    errors = holm({domain: test.p for domain, (_, test) in zip(outcome.domains, pairs, strict=True)})
    kappas = holm({domain: interval.p for domain, (interval, _) in zip(outcome.domains, pairs, strict=True)})
    smallest = _smallest(tuple(test.smallest_p for _, test in pairs))
    differences = tuple(
        Difference(
            domain=domain,
            interval=interval,
            test=test,
            p=kappas[domain] if of_cases else errors[domain],
            p_errors=errors[domain] if of_cases else None,
            smallest_p=least,
        )
        for domain, (interval, test), least in zip(outcome.domains, pairs, smallest, strict=True)
    )
    return Comparison(label=after.row.label, reference=reference, seeds=seeds, differences=differences)


@cache
def _smallest(p_values: tuple[float, ...]) -> tuple[float, ...]:
    """The smallest p of every domain, corrected as if each of them had its smallest."""
    found = holm(dict(zip(map(str, range(len(p_values))), p_values, strict=True)))
    return tuple(1.0 if p is None else p for p in found.values())


def _by_subject(side: _Side, domain: str, seeds: tuple[int, ...]) -> dict[str, float | None]:
    """The mean over seeds and structures, by subject; None where nothing could be scored."""
    scores = [side.row.matrices[seed].per_subject[domain] for seed in seeds]
    if any(one.subjects != scores[0].subjects for one in scores):
        raise EvaluationError(f"{side.row.label}: seeds were scored on different subjects of {domain}.")
    means = defined_mean(defined_mean(np.stack([one.values[side.stage] for one in scores]), axis=0), axis=-1)
    return {
        subject: None if np.isnan(value) else float(value)
        for subject, value in zip(scores[0].subjects, means, strict=True)
    }


def _of_cases(
    outcome: SequenceOutcome, before: _Side, after: _Side, domain: str, seeds: tuple[int, ...]
) -> tuple[Interval, PairedTest]:
    header = outcome.record.header
    found = [_cases(outcome, side, domain, seeds) for side in (before, after)]
    if not found[0].drop("prediction").equals(found[1].drop("prediction")):
        raise EvaluationError(
            f"{header.name}: {before.row.label} and {after.row.label} were scored on different cases of {domain}."
        )
    truth, old, new = (
        _classes(found[side], name) for side, name in ((0, "truth"), (0, "prediction"), (1, "prediction"))
    )
    subjects = found[0]["subject"].to_list()
    interval = kappa_interval(
        truth,
        old,
        new,
        subjects=subjects,
        classes=len(header.structures),
        weights="linear" if header.ordinal else "none",
    )
    if not header.ordinal:
        # without an order of classes one is right or wrong
        truth, old, new = np.zeros_like(truth), (old != truth).astype(np.int64), (new != truth).astype(np.int64)
    return interval, grade_error_test(truth, old, new, subjects, level=LEVEL)


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
