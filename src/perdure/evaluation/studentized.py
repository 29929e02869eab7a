"""Between which bounds does the mean change of all subjects lie, seen a handful of them?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from perdure.errors import EvaluationError
from perdure.evaluation.intervals import PIECE, check_level

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 9999

# Changes that agree to this much are the same; they are in [-1, 1], where float64 is good to some 1e-16.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Bounds:
    """An interval of a mean change and two tests of it, each of shape `(...)`.

    Args:
        low: the lower end.
        high: the upper end.
        p_above: one-sided, of the mean being at most the threshold; small where it lies above.
        p_below: one-sided, of the mean being at least the threshold; small where it lies below.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p_above: NDArray[np.float64]
    p_below: NDArray[np.float64]


def fewest_subjects(level: float) -> int:
    r"""Below how many subjects nothing is decided: the smallest n with :math:`2 / 2^n \le` `level`.

    With fewer, not even subjects that all change in the same direction can show it without an assumption on the shape
    of changes: no two-sided test of signs or signed ranks can reach `level`. It is 6 for .05.

    Args:
        level: in (0, 1).
    """
    check_level(level)
    return math.ceil(1 - math.log2(level) - 1e-9)


def mean_bounds(changes: NDArray[np.float64], threshold: float, level: float) -> Bounds:
    r"""The wider of two intervals of a mean on each side: Student's t and the bootstrap-t.

    .. math:: t^* = \frac{\bar d^* - \bar d}{s^* / \sqrt n}, \qquad
              \mathrm{low} = \bar d - \max\big(t_{n-1,\,1-\alpha/2},\; t^*_{(1-\alpha/2)}\big)\,\frac{s}{\sqrt n}, \quad
              \mathrm{high} = \bar d - \min\big(t_{n-1,\,\alpha/2},\; t^*_{(\alpha/2)}\big)\,\frac{s}{\sqrt n}

    d are the changes of n subjects, s their standard deviation (n - 1), * says that subjects were drawn with
    replacement, α is `level`. Losses are skewed: most subjects lose little, a few much. Student's interval is then too
    short on the side of the loss; the bootstrap-t sees the skew. With heavy tails it is the other way round. The p
    values are the larger ones of both tests, so that p is at most α / 2 exactly where the threshold lies outside the
    interval on that side.

    Where all n changes are the same, the interval is that one number, and p is :math:`2^{-n}`: the sign test of the
    median, which alone can be computed then. Nothing is learnt about subjects that are unlike all of those seen.

    Source: Student 1908; Efron 1981 and Efron and Tibshirani 1993, section 12.5 (bootstrap-t). Of drawing both and
    taking the wider, decision 0021 has the coverage.

    Deviation: a draw of which all changes are the same has no s*; its t* is infinite with the sign of its numerator,
    which makes the interval wider.

    Args:
        changes: `(..., n)`, one a subject, finite, in [-1, 1] as differences of shares are; n of at least 2.
        threshold: the mean is tested against it.
        level: α in (0, 1).

    Returns:
        Ends within [-1, 1]; no change can be larger.

    Raises:
        EvaluationError: if there are fewer than two subjects, or a change is not finite or outside [-1, 1].
    """
    from scipy import stats

    check_level(level)
    n = changes.shape[-1]
    if n < 2 or not np.all(np.abs(changes) <= 1):
        raise EvaluationError("`changes` must be differences of scores of at least two subjects, each in [-1, 1].")
    # in order, so that not even rounding depends on the order of the subjects
    changes = np.sort(changes, axis=-1)
    mean = changes.mean(axis=-1)
    centred = changes - mean[..., None]
    s = centred.std(axis=-1, ddof=1)
    is_same = np.ptp(changes, axis=-1) <= ROUNDING
    error = np.where(is_same, 1.0, s / math.sqrt(n))
    drawn = np.sort(_studentized(centred, np.where(is_same, 1.0, s)), axis=-1)
    rank = _rank(level)
    student = float(stats.t.ppf(1 - level / 2, n - 1))
    longest = np.maximum(drawn[..., RESAMPLES - rank], student)
    shortest = np.minimum(drawn[..., rank - 1], -student)
    t = (mean - threshold) / error
    p_above = np.maximum(_share_beyond(drawn, t), stats.t.sf(t, n - 1))
    p_below = np.maximum(_share_beyond(-drawn[..., ::-1], -t), stats.t.sf(-t, n - 1))
    signs = 2.0**-n
    with np.errstate(invalid="ignore"):
        low, high = mean - longest * error, mean - shortest * error
    return Bounds(
        low=np.where(is_same, mean, np.clip(low, -1, 1)),
        high=np.where(is_same, mean, np.clip(high, -1, 1)),
        p_above=np.where(is_same, np.where(mean > threshold + ROUNDING, signs, 1.0), p_above),
        p_below=np.where(is_same, np.where(mean < threshold - ROUNDING, signs, 1.0), p_below),
    )


def _studentized(centred: NDArray[np.float64], s: NDArray[np.float64]) -> NDArray[np.float64]:
    """t* of every draw, `(..., draws)`."""
    n = centred.shape[-1]
    pieces: list[NDArray[Any]] = []
    for times in _draws(n) if n * RESAMPLES <= PIECE else _made_draws(n):
        mean = centred @ times / n
        variance = (np.square(centred) @ times / n - np.square(mean)) * n / (n - 1)
        # relative to the sample's own size, because a difference of squares leaves rounding where it should leave 0
        has_spread = variance > ROUNDING * np.square(s)[..., None]
        t = mean / np.sqrt(np.where(has_spread, variance, 1.0) / n)
        is_off = np.abs(mean) > ROUNDING * s[..., None]
        pieces.append(np.where(has_spread, t, np.where(is_off, np.copysign(np.inf, mean), 0.0)))
    return np.concatenate(pieces, axis=-1)


@lru_cache(maxsize=4)
def _draws(n: int) -> tuple[NDArray[np.float64], ...]:
    return tuple(_made_draws(n))


def _made_draws(n: int) -> list[NDArray[np.float64]]:
    """How often each subject was drawn, in pieces `(n, draws)`; the same ones always."""
    rng = np.random.default_rng(0)
    rows = max(1, PIECE // n)
    sizes = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    return [rng.multinomial(n, np.full(n, 1 / n), size).T.astype(np.float64) for size in sizes]


def _rank(level: float) -> int:
    """How many draws, of all and the sample itself, lie beyond either end."""
    rank = math.floor((RESAMPLES + 1) * level / 2 + 1e-9)
    if rank < 1:
        fewest = 2 / (RESAMPLES + 1)
        raise EvaluationError(f"`level` must be at least {fewest:.2g} for {RESAMPLES} draws; got {level:g}.")
    return rank


def _share_beyond(drawn: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """(1 + how many of the sorted draws are at least t) / (1 + how many there are)."""
    flat, ts = drawn.reshape(-1, drawn.shape[-1]), np.ravel(t)
    beyond = [RESAMPLES - np.searchsorted(row, one, side="left") for row, one in zip(flat, ts, strict=True)]
    return (1 + np.array(beyond).reshape(np.shape(t))) / (RESAMPLES + 1)
