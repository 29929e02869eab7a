r"""What do subjects show of a mean change, whatever its distribution, if nobody can lose more than a known bound?

Student's t and the bootstrap see the spread of a sample, and a sample of which nobody lost much has none. Whether a few
of those who are not in it lose far more, only a bound on a single loss and enough subjects can say. A bet does: with
each subject a player who starts with 1 puts a share c of what they have on the mean lying above a threshold τ,

.. math:: W(\tau) = \frac{1}{K} \sum_{k=1}^{K} \prod_{s=1}^{n} \left(1 + c_k\,\frac{d_s - \tau}{\tau - l}\right),
          \qquad c_k = \frac{k}{K}

d are the changes of n subjects, l the lowest change that there can be (minus the largest loss). If the mean is at most
τ, then W is 1 or less on average, and reaches 1/α with a probability of at most α (Markov, Ville): 1/W is a p value.
The mean over the shares makes it independent of the order of the subjects.

Where nobody changes at all, :math:`n = \ln(1/\alpha) / -\ln(1 - m/L)` subjects are needed for a margin m and a largest
loss L, and no test that holds for every distribution needs fewer; W needs a few more, for the mean over shares.

Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", with a mixture over
fixed shares in place of one that follows the data.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from perdure.evaluation.intervals import check_level

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARES = 100
"""K. The last share is all that there is: one subject at the lowest change loses it."""
_STEPS = 60
"""Halvings of a range of at most 2, to below the rounding of float64."""


def bounded_p(values: NDArray[np.float64], lowest: float, threshold: float) -> float:
    """One-sided, of the mean being at most the threshold; holds for every distribution.

    Args:
        values: `(n,)`, none below `lowest`.
        lowest: l, below the threshold.
        threshold: τ.

    Raises:
        ValueError: if a value lies below `lowest`, or the threshold does not lie above it.
    """
    return min(1.0, math.exp(-_log_wealth(values, lowest, threshold)))


def bounded_low(values: NDArray[np.float64], lowest: float, level: float) -> float:
    """The one-sided lower bound of the mean at `level` / 2: the largest threshold with a p of at most that.

    Args:
        values: `(n,)`, none below `lowest`.
        lowest: l.
        level: in (0, 1).
    """
    check_level(level)
    low, high = lowest, float(values.mean())
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if bounded_p(values, lowest, middle) <= level / 2 else (low, middle)
    return low


def bounded_needed(values: NDArray[np.float64], lowest: float, threshold: float, level: float, most: int) -> int | None:
    """How many subjects like these, each as often as it was seen, would bring p to `level` / 2.

    Args:
        values: as `bounded_p`.
        lowest: likewise.
        threshold: likewise.
        level: in (0, 1).
        most: more than this are as good as none.

    Returns:
        None where the mean does not lie above the threshold, or more than `most` would be needed.
    """
    n = len(values)

    def is_enough(wanted: int) -> bool:
        return _log_wealth(values, lowest, threshold, wanted / n) >= math.log(2 / level)

    if float(values.mean()) <= threshold or not is_enough(most):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _log_wealth(values: NDArray[np.float64], lowest: float, threshold: float, times: float = 1.0) -> float:
    if threshold <= lowest or float(values.min()) < lowest:
        raise ValueError(f"`lowest` must be below the threshold and below no value; got {lowest}, {threshold}.")
    gains = (values - lowest) / (threshold - lowest) - 1
    shares = np.arange(1, SHARES + 1) / SHARES
    with np.errstate(divide="ignore"):  # who bets all and loses it has nothing left
        logs = times * np.log1p(np.maximum(shares[:, None] * gains, -1.0)).sum(axis=1)
    top = float(logs.max())
    return top if not math.isfinite(top) else top + math.log(float(np.exp(logs - top).mean()))
