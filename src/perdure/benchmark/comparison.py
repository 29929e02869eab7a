"""Did a row do better than another on a domain, and could chance alone have done it? Subject by subject."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from perdure.benchmark.outcomes import RowOutcome, SequenceOutcome, spread_of
from perdure.benchmark.record import Classes, RecordHeader
from perdure.errors import EvaluationError
from perdure.evaluation import (
    Interval,
    PairedTest,
    Spread,
    accuracy_interval,
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
    from collections.abc import Sequence

LEVEL = 0.05
"""What p is held against."""
FEW = 20
"""With fewer subjects the bootstrap's p is too small; see `kappa_interval`."""


class Further(Value):
    """The same difference in a score besides the one that is tested.

    Args:
        metric: `accuracy` or `auc`.
        interval: over subjects, of the cases of all seeds together; None for AUC, because a record keeps no
            probabilities of single cases.
        over_seeds: of each seed by itself; None where no seed has one.
    """

    metric: Literal["accuracy", "auc"]
    interval: Interval | None
    over_seeds: Spread | None


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
        further: of classes the same in accuracy and AUC.
    """

    domain: str
    interval: Interval
    over_seeds: Spread | None
    test: PairedTest
    p: float | None
    p_errors: float | None
    smallest_p: float
    further: tuple[Further, ...] = ()

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
    further: tuple[Further, ...] = ()


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
            further=one.further,
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
    of_seeds = [[_classes(outcome, side, seed, domain) for seed in seeds] for side in (before, after)]
    old, new = (_together(of_side) for of_side in of_seeds)
    if any(not np.array_equal(old[place], new[place]) for place in range(3)):
        raise EvaluationError(
            f"{header.name}: {before.row.label} and {after.row.label} were scored on different cases of {domain}."
        )
    classes, predictions = len(header.structures), (old.prediction, new.prediction)
    weights: Literal["linear", "none"] = "linear" if header.ordinal else "none"
    subjects = old.subject.tolist()
    interval = kappa_interval(old.truth, *predictions, subjects=subjects, classes=classes, weights=weights)
    accuracies = accuracy_interval(old.truth, *predictions, subjects=subjects, classes=classes)
    counts = [[confusion(one.truth, one.prediction, classes) for one in of_side] for of_side in of_seeds]
    kappas = kappa(np.array(counts), weights)
    by_seed = {
        metric: [
            outcome.record.score(outcome.name, after.row.label, seed, after.stage, domain, metric)
            - outcome.record.score(outcome.name, before.row.label, seed, before.stage, domain, metric)
            for seed in seeds
        ]
        for metric in ("accuracy", "auc")
    }
    further = (
        Further(metric="accuracy", interval=accuracies, over_seeds=spread_of(by_seed["accuracy"])),
        Further(metric="auc", interval=None, over_seeds=spread_of(by_seed["auc"])),
    )
    truth = old.truth
    if not header.ordinal:
        # without an order of classes one is right or wrong
        predictions = (predictions[0] != truth).astype(np.int64), (predictions[1] != truth).astype(np.int64)
        truth = np.zeros_like(truth)
    test = grade_error_test(truth, *predictions, subjects, level=LEVEL)
    return _Found(interval, test, (kappas[1] - kappas[0]).tolist(), further)


def _classes(outcome: SequenceOutcome, side: _Side, seed: int, domain: str) -> Classes:
    return outcome.record.classes(outcome.name, side.row.label, seed, side.stage, domain)


def _together(of_seeds: Sequence[Classes]) -> Classes:
    """The cases of every seed, one after the other."""
    return Classes(*(np.concatenate(column) for column in zip(*of_seeds, strict=True)))
