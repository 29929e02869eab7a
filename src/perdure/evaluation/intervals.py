"""How far might a number lie from the truth? Intervals over subjects, by the bootstrap.

What is drawn with replacement is always a whole subject with all of its cases: those resemble each other, and drawn
one by one they would make the interval too short.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from perdure.errors import EvaluationError
from perdure.types import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

CaseValues: TypeAlias = "Sequence[float | None] | NDArray[np.float64] | float | None"
"""The values of one subject's cases, or its only one; None or NaN where a case could not be scored."""

Bootstrap: TypeAlias = Literal["BCa", "percentile"]

# Numbers held at once: keeps what is drawn for thousands of subjects at 32 MiB.
PIECE = 2**22

# Values that agree to this share of the largest are the same; BCa would take their rounding for a shape.
_ROUNDING = 1e-12


class Interval(Value):
    """An estimate and the interval around it, with what it counts.

    Args:
        estimate: the number itself, in its own unit; None where it cannot be computed.
        low: the lower end; None where there is no interval.
        high: the upper end, likewise.
        level: the confidence level, in (0, 1).
        n: how many subjects, or seeds, it is computed from.
        left_out: how many subjects had no value.
        over: what would be different the next time: other subjects, or another seed.
        kind: `BCa` (bootstrap, bias-corrected and accelerated), `percentile` (bootstrap) or `t`.
        reason: why there is no interval, or why it is not of the kind asked for, or what it leaves out.
        p: of a difference of two kappas or accuracies, the two-sided bootstrap p of no difference (see
            `kappa_interval`); else None.
    """

    estimate: float | None
    low: float | None = None
    high: float | None = None
    level: float
    n: int
    left_out: int = 0
    over: Literal["subjects", "seeds"]
    kind: Literal["BCa", "percentile", "t"]
    reason: str | None = None
    p: float | None = None

    def said(self, digits: int = 3) -> str:
        """As it is printed, for example `.012 [-.004, .030] (95 %, 8 subjects)`.

        Args:
            digits: how many stand behind the point.
        """
        if self.estimate is None:
            return f"not computed ({self.reason})"
        if self.low is None or self.high is None:
            return f"{short(self.estimate, digits)} (no interval: {self.reason})"
        ends = f"[{short(self.low, digits)}, {short(self.high, digits)}]"
        return f"{short(self.estimate, digits)} {ends} ({100 * self.level:g} %, {self.n} {self.over})"


def interval_over_subjects(
    values: Mapping[str, CaseValues],
    *,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
    kind: Bootstrap = "BCa",
) -> Interval:
    r"""The mean over subjects of the mean over each subject's cases, and its interval over subjects.

    .. math:: \bar v = \frac{1}{n} \sum_{s=1}^{n} \bar v_s, \qquad \bar v_s = \frac{1}{m_s} \sum_{c=1}^{m_s} v_{sc}

    n subjects, m_s cases of subject s. Cases are averaged before anything is drawn, so a subject with many cases counts
    once, as in the train-test matrix. Neither the order nor the names of the subjects matter.

    With few subjects a bootstrap interval is too short: of normal values, 95 % ones by BCa held the truth in 83 % of
    4000 trials with 5 subjects, 89 % with 8 and 93 % with 20 (measured).

    Source: Efron and Tibshirani 1993, sections 13.3 and 14.3; computed by `scipy.stats.bootstrap`.

    Args:
        values: by subject, the values of its cases or one number. Cases without a value (None, NaN) are left out, and
            with them a subject that has no other.
        level: the confidence level, in (0, 1).
        resamples: how often the subjects are drawn; at least 2 / (1 - level), so that either end has one beyond it.
        seed: of the draws; the same seed gives the same interval.
        kind: `BCa`, or `percentile`. BCa is not defined where all subjects have the same value, but for rounding; then
            the percentiles are given, and `kind` and `reason` say so.

    Returns:
        Without ends for fewer than two subjects; without an estimate where no subject has a value.

    Raises:
        EvaluationError: if there is no subject, a value is infinite, or an argument is outside its range.
    """
    check_arguments(level, resamples, kind)
    cases = {subject: _cases(subject, of) for subject, of in values.items()}
    return _of_means(cases, level, resamples, seed, kind)


def difference_over_subjects(
    before: Mapping[str, CaseValues],
    after: Mapping[str, CaseValues],
    *,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
    kind: Bootstrap = "BCa",
) -> Interval:
    """The mean over subjects of what changed, after minus before, and its interval over subjects.

    The differences are taken case by case, then treated as the values of `interval_over_subjects`: both releases are
    always drawn together, so what makes one subject harder than another cancels.

    Args:
        before: by subject, the values of its cases or one number.
        after: the same subjects and, in the same order, the same cases. A case that lacks a value on one side is left
            out on both.
        level: see `interval_over_subjects`.
        resamples: likewise.
        seed: likewise.
        kind: likewise.

    Raises:
        EvaluationError: if subjects or numbers of cases differ, or as in `interval_over_subjects`.
    """
    check_arguments(level, resamples, kind)
    check_same_subjects(before, after)
    changes: dict[str, NDArray[np.float64]] = {}
    for subject in before:
        old, new = _cases(subject, before[subject]), _cases(subject, after[subject])
        if old.shape != new.shape:
            raise EvaluationError(
                f"Subject {subject!r} has {old.size} cases before and {new.size} after; both must be scores of the "
                "same cases, None where there is none."
            )
        changes[subject] = new - old
    return _of_means(changes, level, resamples, seed, kind)


def check_same_subjects(before: Mapping[str, object], after: Mapping[str, object]) -> None:
    """Passes if both sides are values by subject, of the same subjects.

    Raises:
        EvaluationError: naming a subject that stands on one side only.
    """
    for name, side in (("before", before), ("after", after)):
        if not isinstance(side, Mapping):
            raise EvaluationError(
                f"`{name}` must map each subject to its value; got {type(side).__name__}. Subjects are what is paired: "
                "cases of one subject, or draws of a bootstrap, would count the same people again and again."
            )
    differing = before.keys() ^ after.keys()
    if differing:
        subject = min(differing, key=str)
        has, lacks = ("before", "after") if subject in before else ("after", "before")
        raise EvaluationError(
            f"Subject {subject!r} has a value {has} but none {lacks} ({len(differing)} in all stand on one side "
            "only); score both releases on the same subjects."
        )


def check_arguments(level: float, resamples: int, kind: str) -> None:
    """Passes if the settings of a bootstrap can be used.

    Raises:
        EvaluationError: naming the one that cannot.
    """
    check_level(level)
    # 1 - 0.95 is a little more than 0.05, and other levels a little less
    fewest = math.ceil(2 / (1 - level) - 1e-6)
    if resamples < fewest:
        raise EvaluationError(f"`resamples` must be at least {fewest} for a level of {level:g}; got {resamples}.")
    if kind not in get_args(Bootstrap):
        raise EvaluationError(f"`kind` must be 'BCa' or 'percentile'; got {kind!r}.")


def check_level(level: float) -> None:
    """Passes if a level of confidence or significance is a share.

    Raises:
        EvaluationError: if it is not, as where it is a percentage.
    """
    if not 0 < level < 1:
        raise EvaluationError(f"`level` must be in (0, 1), as 0.95 for 95 %; got {level}.")


def short(value: float, digits: int) -> str:
    """A number as tables print it: `-.004`, without the 0 before the point."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _of_means(
    cases: Mapping[str, NDArray[np.float64]], level: float, resamples: int, seed: int, kind: Bootstrap
) -> Interval:
    if not cases:
        raise EvaluationError("No subject has a value; an interval over subjects needs them, by name.")
    means = [float(of[~np.isnan(of)].mean()) for of in cases.values() if not np.isnan(of).all()]
    n = len(means)
    interval = partial(Interval, level=level, n=n, left_out=len(cases) - n, over="subjects")
    if n == 0:
        return interval(estimate=None, kind=kind, reason=f"none of the {len(cases)} subjects has a value")
    # in order, so that a draw does not depend on the order or the names of the subjects
    subjects = np.sort(np.array(means))
    estimate = float(subjects.mean())
    if n == 1:
        return interval(estimate=estimate, kind=kind, reason="one subject")
    low, high, found = _bootstrap(subjects, level, resamples, seed, kind)
    reason = None if found == kind else "BCa is not defined for these values"
    return interval(estimate=estimate, low=low, high=high, kind=found, reason=reason)


def _bootstrap(
    subjects: NDArray[np.float64], level: float, resamples: int, seed: int, kind: Bootstrap
) -> tuple[float, float, Bootstrap]:
    """The ends of the interval of the mean, and of which kind they came to be."""
    from scipy import stats

    common: dict[str, Any] = {"confidence_level": level, "vectorized": True, "batch": max(1, PIECE // subjects.size)}
    plain = stats.bootstrap(
        (subjects,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed), **common
    )
    ends = plain.confidence_interval
    if kind == "BCa" and np.ptp(subjects) > _ROUNDING * np.abs(subjects).max():
        with warnings.catch_warnings():
            # of what cannot be computed: that is what the check below is for
            warnings.simplefilter("ignore")
            again = stats.bootstrap(
                (subjects,), np.mean, n_resamples=0, method="BCa", bootstrap_result=plain, **common
            ).confidence_interval
        if np.isfinite(again).all():
            return float(again.low), float(again.high), "BCa"
    return float(ends.low), float(ends.high), "percentile"


def _cases(subject: str, values: CaseValues) -> NDArray[np.float64]:
    """One subject's values `(cases,)`, NaN where there is none."""
    # None becomes NaN
    numbers = np.atleast_1d(np.asarray(values, np.float64))
    if numbers.ndim != 1 or np.isinf(numbers).any():
        found = f"shape {numbers.shape}" if numbers.ndim != 1 else "an infinite value"
        raise EvaluationError(f"Subject {subject!r} has {found}; allowed are finite numbers, one a case.")
    return numbers
