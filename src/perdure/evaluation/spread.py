"""How much does a number change from one training to the next? Its spread over seeds.

Never joined with an interval over subjects: that says what other patients would give with the same model, this what
another training would give on the same patients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from perdure.errors import EvaluationError
from perdure.evaluation.intervals import Interval, check_level, short
from perdure.types import Value


class Spread(Value):
    """How much a number changes from one training to the next, all else alike.

    Args:
        n: how many seeds.
        mean: over seeds.
        min: the smallest.
        max: the largest.
        sd: the standard deviation, with n - 1 as divisor; None for a single seed.
        interval: of the mean, by Student's t; without ends for a single seed.
    """

    n: int
    mean: float
    min: float
    max: float
    sd: float | None
    interval: Interval

    def said(self, digits: int = 3) -> str:
        """As it is printed, for example `.712 (4 seeds from .701 to .720, s.d. .008)`; never a bare plus-minus."""
        mean = short(self.mean, digits)
        if self.sd is None:
            return f"{mean} (one seed: the spread is not known)"
        ends = f"from {short(self.min, digits)} to {short(self.max, digits)}"
        return f"{mean} ({self.n} seeds {ends}, s.d. {short(self.sd, digits)})"


def spread_over_seeds(values: Sequence[float], *, level: float = 0.95) -> Spread:
    r"""How much a number changes with the seed, from one value a seed.

    .. math:: \bar v \pm t_{n-1,\,(1 + \mathrm{level})/2}\, \frac{s}{\sqrt n}

    is the interval of the mean, with s the standard deviation over n seeds (divisor n - 1). It takes the values as
    normal, which two or three seeds cannot show.

    Source: Student 1908.

    Args:
        values: one a seed, in any unit.
        level: the confidence level of the interval, in (0, 1).

    Raises:
        EvaluationError: if there is no seed, or a value is not finite.
    """
    from scipy import stats

    check_level(level)
    if len(values) == 0:
        raise EvaluationError("`values` holds no seed; a spread needs one value a seed.")
    numbers = np.asarray(values, np.float64)
    if not np.isfinite(numbers).all():
        place = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise EvaluationError(
            f"`values[{place}]` is {numbers[place]}; every seed must have a finite value. A run without one is not "
            "left out of a spread in silence: take it out of `values`, and say so."
        )
    n, mean = len(numbers), float(numbers.mean())
    spread = partial(Spread, n=n, mean=mean, min=float(numbers.min()), max=float(numbers.max()))
    interval = partial(Interval, estimate=mean, level=level, n=n, over="seeds", kind="t")
    if n == 1:
        return spread(sd=None, interval=interval(reason="one seed"))
    sd = float(numbers.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * sd / math.sqrt(n)
    return spread(sd=sd, interval=interval(low=mean - half, high=mean + half))
