"""Is a change of scores, seen in these subjects, above a threshold; below it; or can these subjects not tell?

The threshold is minus the margin where the question is whether not too much was lost (non-inferiority), and the
smallest gain where it is whether enough was gained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from perdure.errors import EvaluationError
from perdure.evaluation.bounded import bounded_low, bounded_needed, bounded_p
from perdure.evaluation.classification import kappa
from perdure.evaluation.intervals import check_level
from perdure.evaluation.kappa_interval import check_cases, counts_by_subject
from perdure.evaluation.power import MOST, subjects_needed
from perdure.evaluation.studentized import ROUNDING, fewest_subjects, mean_bounds
from perdure.types import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

Weights = Literal["linear", "none"]


class Comparison(Value):
    """A change, its interval over subjects, and two one-sided tests against a threshold.

    Args:
        estimate: the change; None where it cannot be computed.
        low: the lower end of its interval; None where there is none.
        high: the upper end, likewise.
        threshold: what the change is held against.
        level: the interval has confidence 1 - `level`; either end is a one-sided bound at `level` / 2.
        n: how many subjects it rests on.
        p_above: one-sided, of a change of at most the threshold; None where there is no interval.
        p_below: one-sided, of a change of at least the threshold, likewise.
        is_decided: whether there are subjects enough for a decision at all.
        is_same: whether no subject differs from any other, so that the interval is a single number.
        needed: how many subjects would do to show a change above the threshold, if they are like those seen.
        reason: why something is missing; None where nothing is.
    """

    estimate: float | None
    low: float | None = None
    high: float | None = None
    threshold: float
    level: float
    n: int
    p_above: float | None = None
    p_below: float | None = None
    is_decided: bool = False
    is_same: bool = False
    needed: int | None = None
    reason: str | None = None


def compare_means(
    changes: Mapping[str, float],
    *,
    threshold: float,
    level: float = 0.05,
    wanted: float = 0.8,
    largest_loss: float | None = None,
) -> Comparison:
    """The mean change over subjects against a threshold; see `studentized.mean_bounds` for the interval.

    Args:
        changes: by subject, one number: the mean over its cases of what changed (they are no independent pairs).
        threshold: in the unit of the scores.
        level: in (0, 1); the false alarm rate of either end is half of it.
        wanted: the power that `needed` is for.
        largest_loss: that a single subject can have, above minus `threshold`; then the lower end and `p_above` hold for
            every distribution too, see `bounded`. Where a subject was seen to lose more, 1 stands in.

    Returns:
        Without ends for fewer than two subjects. With fewer than `fewest_subjects(level)` there is an interval to look
        at, but `is_decided` is False and there is no p.

    Raises:
        EvaluationError: if a change is not finite, or outside [-1, 1].
    """
    n, fewest = len(changes), fewest_subjects(level)
    fixed: dict[str, Any] = {"threshold": threshold, "level": level, "n": n}
    values = np.array(list(changes.values()), np.float64)
    if not np.all(np.abs(values) <= 1):
        raise EvaluationError("`changes` must be finite differences of scores, each in [-1, 1].")
    if n < 2:
        estimate = float(values[0]) if n else None
        return Comparison(estimate=estimate, **fixed, needed=fewest, reason=_too_few(n, fewest))
    bounds = mean_bounds(values, threshold, level)
    found = _completed(
        Comparison(
            estimate=float(np.sort(values).mean()),
            low=float(bounds.low),
            high=float(bounds.high),
            p_above=float(bounds.p_above),
            p_below=float(bounds.p_below),
            is_same=bool(np.ptp(values) <= ROUNDING),
            **fixed,
        ),
        float(values.std(ddof=1)),
        wanted,
    )
    return found if largest_loss is None else _for_every_distribution(found, values, -largest_loss)


def _for_every_distribution(found: Comparison, values: NDArray[np.float64], lowest: float) -> Comparison:
    """The same comparison, held to the wider lower end and the larger p of the test by betting."""
    lowest = lowest if values.min() >= lowest else -1.0
    assert found.low is not None
    low = min(found.low, bounded_low(values, lowest, found.level))
    needed = bounded_needed(values, lowest, found.threshold, found.level, MOST)
    p = None if found.p_above is None else max(found.p_above, bounded_p(values, lowest, found.threshold))
    both = None if needed is None or found.needed is None else max(needed, found.needed)
    return found.model_copy(update={"low": low, "p_above": p, "needed": both})


def compare_kappas(
    truth: NDArray[Any],
    before: NDArray[Any],
    after: NDArray[Any],
    *,
    subjects: Sequence[str],
    classes: int,
    threshold: float,
    weights: Weights = "linear",
    is_unchanged: bool = False,
    level: float = 0.05,
    wanted: float = 0.8,
) -> Comparison:
    r"""The change of kappa against a threshold, by a jackknife that leaves out whole subjects.

    .. math:: \psi_s = n\,\Delta\kappa - (n - 1)\,\Delta\kappa_{-s}, \qquad
              \mathrm{se}^2 = \frac{\sum_s (\psi_s - \bar\psi)^2}{n (n - 1)} + \frac{2 h^2}{(n + 1)(n + 2)}, \qquad
              \Delta\kappa \pm t_{n-1,\,1-\alpha/2}\,\mathrm{se}, \qquad
              h = \frac{n}{m} \cdot \frac{\max\big(1, \sqrt{\overline{w^2}}\big)}{\bar w}

    Δκ is kappa after less kappa before, Δκ_-s the same without the cases of subject s; n subjects, m cases; w is by how
    many grades two cases differ (for classes without an order, whether they do), and the bars are means over pairs of a
    truth and a prediction after that have nothing to do with each other. 2 h² is what two made up subjects add, of whom
    one case each changed its grade, by one or by as much as unrelated grades differ, once for the worse and once for
    the better. Grades change in steps, and of few cases most often none does: without the second term the interval of
    predictions that happen to agree would be the single number 0, whatever the truth (decision 0021).

    Source: Quenouille 1956 and Tukey 1958 (jackknife); Agresti and Coull 1998 (two made up observations against
    intervals of no width, there of a proportion).

    Args:
        truth: class indices `(cases,)`.
        before: predicted ones `(cases,)`.
        after: those of the later release, on the same cases.
        subjects: whose each case is.
        classes: how many classes the label set has, seen or not.
        threshold: in units of kappa.
        weights: `linear` for grades in order, or `none`.
        is_unchanged: whether the later release gives every case the very same probabilities, not only the same grade.
            Then it is no coincidence that no grade changed: the interval is [0, 0], as for means, and p is 2^-n.
        level: in (0, 1); the false alarm rate of either end is half of it.
        wanted: the power that `needed` is for.

    Returns:
        Without an estimate where kappa is not defined (one class only); without ends where it is not without one of the
        subjects, or there are fewer than two. Below `fewest_subjects(level)` as `compare_means`.

    Raises:
        EvaluationError: if shapes differ, there is no case, a value is no class, or the level is outside its range.
    """
    from scipy import stats

    check_level(level)
    check_cases(subjects, {"truth": truth, "before": before, "after": after}, classes)
    tables = counts_by_subject(truth, [before, after], subjects, classes)
    n, fewest = len(tables), fewest_subjects(level)
    fixed: dict[str, Any] = {"threshold": threshold, "level": level, "n": n}
    whole = tables.sum(axis=0)
    estimate = float(_change(whole, weights))
    if math.isnan(estimate):
        return Comparison(estimate=None, **fixed, reason="kappa is not defined: truth and prediction hold one class")
    if is_unchanged:
        return compare_means(dict.fromkeys(sorted(set(subjects)), 0.0), threshold=threshold, level=level, wanted=wanted)
    if n < 2:
        return Comparison(estimate=estimate, **fixed, needed=fewest, reason=_too_few(n, fewest))
    without = _change(whole - tables, weights)
    if np.isnan(without).any():
        reason = "without one of the subjects all are of one class, and kappa is not defined"
        return Comparison(estimate=estimate, **fixed, reason=reason)
    own = n * estimate - (n - 1) * without
    made_up = 2 * _step(whole[1], n, weights) ** 2 / ((n + 1) * (n + 2))
    error = math.sqrt(float(own.var(ddof=1)) / n + made_up)
    reach = float(stats.t.ppf(1 - level / 2, n - 1)) * error
    t = (estimate - threshold) / error
    return _completed(
        Comparison(
            estimate=estimate,
            low=max(estimate - reach, -2.0),
            high=min(estimate + reach, 2.0),
            p_above=float(stats.t.sf(t, n - 1)),
            p_below=float(stats.t.sf(-t, n - 1)),
            **fixed,
        ),
        error * math.sqrt(n),
        wanted,
    )


def _completed(comparison: Comparison, sd: float, wanted: float) -> Comparison:
    """With the number of subjects needed; without p where there are too few of them to decide anything."""
    needed, fewest = _needed(comparison, sd, wanted), fewest_subjects(comparison.level)
    if comparison.n >= fewest:
        return comparison.model_copy(update={"is_decided": True, "needed": needed})
    too_few = {"p_above": None, "p_below": None, "reason": _too_few(comparison.n, fewest)}
    return comparison.model_copy(update={"needed": needed, **too_few})


def _change(tables: NDArray[Any], weights: Weights) -> NDArray[np.float64]:
    """Kappa after less kappa before, of counts `(..., 2, classes, classes)`."""
    values = kappa(tables, weights)
    return np.asarray(values[..., 1] - values[..., 0])


def _step(counts: NDArray[Any], n: int, weights: Weights) -> float:
    """h: by how much n kappa changes where one case changes its grade."""
    classes = np.arange(len(counts))
    w = np.abs(classes[:, None] - classes[None, :]).astype(float)
    if weights == "none":
        w = (w > 0).astype(float)
    cases = counts.sum()
    by_chance = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / cases**2
    change = max(1.0, math.sqrt(float((w**2 * by_chance).sum())))
    return float(n / cases * change / (w * by_chance).sum())


def _needed(comparison: Comparison, sd: float, wanted: float) -> int | None:
    """`subjects_needed` for the deviation that Student's interval would have to have to reach as low as this one.

    So the skew of changes counts, and more than n are needed wherever n could not tell. Where the lower end is the
    lowest that there is, it says nothing of the deviation, and `sd` stands in.
    """
    from scipy import stats

    assert comparison.estimate is not None
    assert comparison.low is not None
    n, level = comparison.n, comparison.level
    if comparison.low > -1:
        sd = (comparison.estimate - comparison.low) * math.sqrt(n) / float(stats.t.ppf(1 - level / 2, n - 1))
    found = subjects_needed(
        change=comparison.estimate, sd=sd, threshold=comparison.threshold, level=level, wanted=wanted
    )
    is_shown = comparison.low > comparison.threshold
    return found if found is None or is_shown else max(found, n + 1)


def _too_few(n: int, fewest: int) -> str:
    return f"{n} subject{'' if n == 1 else 's'}, and nothing is decided with fewer than {fewest}"
