"""How many subjects would have been enough?"""

from __future__ import annotations

import math

from perdure.evaluation.intervals import check_level
from perdure.evaluation.studentized import fewest_subjects

MOST = 100_000
"""More subjects than this are as good as none: no test split is that large."""


def power(n: int, *, change: float, sd: float, threshold: float, level: float) -> float:
    r"""How likely n subjects show that a mean change lies above a threshold.

    .. math:: P\big(T_{n-1}(\delta) > t_{n-1,\,1-\alpha/2}\big), \qquad \delta = \frac{d - \tau}{\sigma / \sqrt n}

    d is the true mean change, σ the standard deviation of changes over subjects, τ the threshold (minus the margin), α
    the level, T(δ) Student's t with n - 1 degrees of freedom and non-centrality δ.

    Source: Julious 2004, section 3 (non-inferiority, one-sided at α / 2); the same as the power of a one-sided,
    one-sample t test.

    Args:
        n: subjects, at least 2.
        change: d, in the unit of the scores.
        sd: σ, above 0.
        threshold: τ.
        level: α in (0, 1).

    Returns:
        A share in [0, 1].
    """
    from scipy import stats

    check_level(level)
    away = (change - threshold) / (sd / math.sqrt(n))
    critical = float(stats.t.ppf(1 - level / 2, n - 1))
    found = float(stats.nct.sf(critical, n - 1, away))
    # scipy gives up (NaN) where the non-centrality is large; there is no doubt left then
    return found if math.isfinite(found) else float(away > 0)


def subjects_needed(*, change: float, sd: float, threshold: float, level: float, wanted: float = 0.8) -> int | None:
    """The smallest number of subjects with at least the wanted power, if they are like those seen.

    Args:
        change: see `power`.
        sd: likewise, at least 0.
        threshold: likewise.
        level: likewise.
        wanted: the power, in (0, 1).

    Returns:
        At least `fewest_subjects(level)`; None where the change does not lie above the threshold, or more than `MOST`
        would be needed.
    """
    fewest = fewest_subjects(level)
    if change <= threshold:
        return None
    if sd <= 0:
        return fewest

    def is_enough(n: int) -> bool:
        return power(n, change=change, sd=sd, threshold=threshold, level=level) >= wanted

    if not is_enough(MOST):
        return None
    low, high = fewest - 1, MOST
    # power rises with n, so the smallest n is found by halving
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
