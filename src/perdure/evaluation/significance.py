"""Could chance alone have done this? Tests of pairs of values by subject, and Holm's correction for many of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from perdure.errors import EvaluationError
from perdure.evaluation.intervals import check_level, check_same_subjects
from perdure.evaluation.kappa_interval import check_cases
from perdure.types import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Additions that the exact distribution may cost: some 0.3 s. 450 subjects that all changed cost this much.
_LARGEST = 10**8

# Differences that agree to this share of the largest value are ties; 0.3 - 0.2 and 0.2 - 0.1 are.
_ROUNDING = 1e-12


class PairedTest(Value):
    """What the Wilcoxon signed-rank test says of pairs of values, one pair a subject.

    Args:
        n: how many pairs.
        ties: how many of them did not change.
        left_out: how many subjects lack a value on either side.
        mean_difference: the mean of after minus before, in the unit of the values; None without a pair.
        median_difference: the median of the same.
        effect: the matched-pairs rank-biserial correlation, in [-1, 1]: 1 where every subject rose, -1 where every one
            fell, 0 where rises and falls outweigh each other or nothing changed.
        p: two-sided, in (0, 1]; None without a pair.
        kind: `exact`, or `normal` for the approximation that many subjects need.
        level: the level that p is held against.
        smallest_p: the smallest p that n subjects can give at all, 2 / 2^n, known before any score is.
        can_decide: whether that is at most `level`. Where it is not, a large p says nothing.
    """

    n: int
    ties: int
    left_out: int
    mean_difference: float | None
    median_difference: float | None
    effect: float | None
    p: float | None
    kind: Literal["exact", "normal"]
    level: float
    smallest_p: float
    can_decide: bool

    def said(self) -> str:
        """In words, for example `p 0.039, 8 subjects` or `too few subjects: with 4 pairs p cannot go below 0.125`."""
        if self.p is None:
            return f"not computed: none of the {_subjects(self.left_out)} has a value both before and after"
        if not self.can_decide:
            return f"too few subjects: with {_pairs(self.n)} p cannot go below {self.smallest_p:.3g}"
        unchanged = f", {self.ties} of them unchanged" if self.ties else ""
        approximate = "" if self.kind == "exact" else " (normal approximation)"
        p = "below 0.001" if self.p < 0.001 else f"{self.p:.3f}"
        return f"p {p}{approximate}, {_subjects(self.n)}{unchanged}"


def paired_test(
    before: Mapping[str, float | None], after: Mapping[str, float | None], *, level: float = 0.05
) -> PairedTest:
    r"""Wilcoxon's signed-rank test of one value a subject before and after, with Pratt's treatment of no change.

    .. math:: d_s = a_s - b_s, \qquad r_s = \mathrm{rank}\,|d_s|, \qquad
              W = \sum_s \mathrm{sign}(d_s)\, r_s, \qquad p = P(|W^*| \ge |W|)

    a_s and b_s are the values of subject s after and before. Ranks run over all n subjects, those without a change
    included, and changes of equal size share their mean rank; no change then adds nothing to W (Pratt). W* is W with
    every sign drawn anew: the distribution over all 2^n of them, exactly as the ranks stand, ties and zeros with it.
    Where that would take too long (from about 450 subjects), p comes from the normal approximation with Cureton's
    variance. The effect is W as a share of its largest value:

    .. math:: r = \frac{W}{n (n + 1) / 2}

    Source: Wilcoxon 1945; Pratt 1959; Cureton 1967 (variance); King, Rosopa and Minium 2011 and Kerby 2014 (effect).

    Open in the papers, decided here: subjects without a change stay in the divisor of the effect, as half a rise and
    half a fall, so that one subject that rose among a hundred that stayed is no effect of 1.

    Args:
        before: by subject, one value, for example its mean Dice. None or NaN where it has none: the pair is left out.
        after: the same subjects.
        level: what p is to be held against, in (0, 1).

    Raises:
        EvaluationError: if either side does not map subjects to values, there is no subject, one stands on one side
            only, a value is infinite, or `level` is outside its range.
    """
    from scipy import stats

    check_level(level)
    check_same_subjects(before, after)
    if not before:
        raise EvaluationError("No subject to test; give one value a subject before and after.")
    pairs = np.array([[_number(subject, side[subject]) for side in (before, after)] for subject in before])
    pairs = pairs[~np.isnan(pairs).any(axis=1)]
    # so that not even rounding depends on the order of the subjects
    pairs = pairs[np.lexsort(pairs.T)]
    n = len(pairs)
    d = pairs[:, 1] - pairs[:, 0]
    size = _sizes(d, _ROUNDING * float(np.abs(pairs).max(initial=0)))
    changed = size > 0
    mean = median = effect = p = None
    kind: Literal["exact", "normal"] = "exact"
    if n:
        # doubled, so that mean ranks are whole numbers and equal sums are equal
        ranks = np.rint(2 * stats.rankdata(size)).astype(np.int64)[changed]
        W = int((np.sign(d[changed]) * ranks).sum())
        mean, median, effect = float(d.mean()), float(np.median(d)), W / (n * (n + 1))
        # not by scipy: its exact distribution is that of ranks without ties, and above 13 pairs with a tie or a zero
        # it turns to the normal approximation without saying so
        if ranks.sum() * ranks.size <= _LARGEST:
            p = _exact_p(ranks, W)
        else:
            normal = stats.wilcoxon(np.sign(d) * size, zero_method="pratt", method="asymptotic")
            kind, p = "normal", float(normal.pvalue)
    smallest = min(1.0, 2.0 ** (1 - n))
    return PairedTest(
        n=n,
        ties=n - int(changed.sum()),
        left_out=len(before) - n,
        mean_difference=mean,
        median_difference=median,
        effect=effect,
        p=p,
        kind=kind,
        level=level,
        smallest_p=smallest,
        can_decide=smallest <= level,
    )


def grade_error_test(
    truth: NDArray[Any],
    before: NDArray[Any],
    after: NDArray[Any],
    subjects: Sequence[str],
    *,
    level: float = 0.05,
) -> PairedTest:
    r"""`paired_test` of how many grades each subject's cases are off, on average, before and after.

    .. math:: e_s = \frac{1}{m_s} \sum_{c=1}^{m_s} |\hat y_{sc} - y_{sc}|

    m_s cases of subject s, y their grades and ŷ the predicted ones. A positive difference or effect means that the
    later release errs more.

    Open in the paper, decided here: Gupta et al. 2020 test kappas with Wilcoxon and do not say what is paired. One
    subject has no kappa, but it has an error in grades, which is what linear weights count. Cases are averaged, because
    those of one subject are no independent pairs.

    Args:
        truth: grades `(cases,)`, counted from 0.
        before: predicted ones `(cases,)`.
        after: those of the later release, on the same cases.
        subjects: whose each case is.
        level: see `paired_test`.

    Raises:
        EvaluationError: if shapes differ, there is no case, or a grade is not a whole number from 0.
    """
    check_cases(subjects, {"truth": truth, "before": before, "after": after})
    names, whose = np.unique(np.asarray(subjects), return_inverse=True)
    errors: list[dict[str, float | None]] = []
    for prediction in (before, after):
        # signed, because the difference of unsigned grades wraps around
        off = np.abs(prediction.astype(np.int64) - truth.astype(np.int64))
        of_subject = np.bincount(whose, weights=off) / np.bincount(whose)
        errors.append(dict(zip(names.tolist(), of_subject.tolist(), strict=True)))
    return paired_test(errors[0], errors[1], level=level)


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    r"""Each p corrected for how many there are, so that one false alarm among all of them stays as rare as for one.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min\big(1, (m - j + 1)\, p_{(j)}\big)

    p_(1) to p_(m) are the p values in rising order. Holds whatever the tests share.

    Source: Holm 1979.

    Args:
        p_values: by name, each in [0, 1]; None where a test could not be computed. Such a one is no member of the
            family: it corrects no other, and stays None.

    Returns:
        The corrected ones, under the same names and in the same order.

    Raises:
        EvaluationError: if a value is not in [0, 1].
    """
    for name, p in p_values.items():
        if p is not None and not 0 <= p <= 1:
            raise EvaluationError(f"p of {name!r} must be in [0, 1], or None where it was not computed; got {p}.")
    family = {name: p for name, p in p_values.items() if p is not None}
    rising = sorted(family, key=family.__getitem__)
    # not by statsmodels, which collects garbage at every call: a quarter of a second with torch loaded
    tried = [min(1.0, (len(rising) - place) * family[name]) for place, name in enumerate(rising)]
    found = dict(zip(rising, itertools.accumulate(tried, max), strict=True))
    return {name: found.get(name) for name in p_values}


def _number(subject: str, value: float | None) -> float:
    if value is not None and math.isinf(value):
        raise EvaluationError(f"Subject {subject!r} has the value {value}; allowed are finite numbers, or None.")
    return math.nan if value is None else float(value)


def _sizes(d: NDArray[np.float64], rounding: float) -> NDArray[np.int64]:
    """The place of each |d| among those that differ by more than rounding; 0 where nothing changed."""
    order = np.argsort(np.abs(d))
    size = np.empty(len(d), np.int64)
    size[order] = np.cumsum(np.diff(np.abs(d)[order], prepend=0) > rounding)
    return size


def _exact_p(ranks: NDArray[np.int64], W: int) -> float:
    """The share of all signs of `ranks` whose sum is as far from 0 as W is."""
    total = int(ranks.sum())
    # share[s]: of all signs so far, those whose positive ranks sum to s; then W* = 2 s - total
    share = np.zeros(total + 1)
    share[0] = 1
    reached = 0
    for rank in ranks.tolist():
        share[rank : reached + rank + 1] += share[: reached + 1].copy()
        share[: reached + rank + 1] /= 2
        reached += rank
    return min(1.0, float(share[np.abs(2 * np.arange(total + 1) - total) >= abs(W)].sum()))


def _subjects(n: int) -> str:
    return f"{n} subject{'' if n == 1 else 's'}"


def _pairs(n: int) -> str:
    return f"{n} pair{'' if n == 1 else 's'}"
