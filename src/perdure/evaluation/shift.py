r"""How far are new scans from what a release's batch norm has seen, layer by layer, and could chance alone do that?

A batch norm keeps mean :math:`\mu_c` and variance :math:`\sigma_c^2` of what reached each of its C channels while the
release was trained. For subject s of the new scans, in evaluation mode, over all its pixels,

.. math::
    a_{sc} = \frac{\bar x_{sc} - \mu_c}{\sigma_c}, \qquad
    b_{sc} = \frac{1}{2} \left( \frac{\overline{(x_{sc} - \mu_c)^2}}{\sigma_c^2} - 1 \right)

are how far mean and spread lie from what is kept, in old deviations; both are 0 on average where nothing has shifted.
With :math:`z_s = (a_s, b_s)`, 2C numbers a subject, and S their covariance over the n new subjects, the **distance** of
a layer is

.. math:: d = \sqrt{\frac{1}{C} \max\!\left(0, \lVert \bar z \rVert^2 - \frac{1}{n} \operatorname{tr} S \right)}

that of their mean, without what so few subjects would be off by chance. The test holds z against a mean of 0. Channels
are more than subjects and depend on each other, so Hotelling's test cannot be computed; Dempster's can:

.. math::
    F = \frac{\lVert \bar z \rVert^2}{(1/n + 1/N) \operatorname{tr} S} \sim F_{r, (n-1) r}, \qquad
    r = \frac{(\operatorname{tr} S)^2}{\operatorname{tr} S^2}

N is the number of subjects that the release was trained on, r the number of directions in which subjects really differ.
The release keeps no spread between its subjects, and none is needed: that of the new ones stands for it.

Source: Dempster 1958, "A high dimensional two sample significance test"; tr S² without its bias from Bai and
Saranadasa 1996, "Effect of high dimension: by an example of a two sample problem".
Decided here: r is at least 1 and at most 2C; mean and spread count alike; the running statistics count as N subjects,
though a fading average forgets some of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perdure.errors import EvaluationError
from perdure.types import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST_SUBJECTS = 3
"""Without a third subject tr S² cannot be estimated, and nothing is tested."""


class LayerShift(Value):
    """How far new scans are from one batch norm's statistics.

    Args:
        layer: the batch norm's name; `intensities` for the input itself.
        distance: d, in old deviations; of `intensities` the Kolmogorov-Smirnov distance, in [0, 1].
        p: that chance alone gives such a distance; None where there are too few subjects.
    """

    layer: str
    distance: float
    p: float | None


def distance(z: NDArray[np.float64]) -> float:
    """The distance of one layer; of one subject nothing is taken off, because its chance cannot be known.

    Args:
        z: `(subjects, 2 x channels)`, a then b.
    """
    n, width = z.shape
    by_chance = z.var(axis=0, ddof=1).sum() / n if n > 1 else 0.0
    return float(np.sqrt(max(0.0, np.square(z.mean(axis=0)).sum() - by_chance) / (width / 2)))


def divergence(z: NDArray[np.float64]) -> float:
    r"""How unlike one layer's old values the new ones are, to tell which of several domains they are nearest to.

    .. math:: \frac{1}{C} \sum_c \frac{1}{2} \left( m_c - 1 - \log (m_c - \bar a_c^2) \right), \qquad
              m_c = 1 + 2 \bar b_c

    the Kullback-Leibler divergence of two normal distributions. A domain of large deviations is not near to everything
    by it, as it is by the distance.

    Args:
        z: `(subjects, 2 x channels)`, a then b.
    """
    a, b = np.split(z.mean(axis=0), 2)
    m = 1 + 2 * b
    spread = np.maximum(m - a**2, 1e-12)
    return float((m - 1 - np.log(spread)).mean() / 2)


def dempster_p(z: NDArray[np.float64], subjects_before: int) -> float | None:
    """The p of Dempster's test that the mean of z is 0.

    Args:
        z: `(subjects, values)`.
        subjects_before: N, at least 1.

    Returns:
        None for fewer than three subjects; 1 where z is 0 throughout, 0 where all subjects agree and are not 0.

    Raises:
        EvaluationError: if a value is not finite, or N is below 1.
    """
    from scipy import stats

    n, width = z.shape
    if not np.isfinite(z).all():
        raise EvaluationError(
            "Activations on the new scans are not finite: a scan, or the release, holds NaN or infinity."
        )
    if subjects_before < 1:
        raise EvaluationError(f"`subjects_before` must be at least 1; got {subjects_before}.")
    if n < FEWEST_SUBJECTS:
        return None
    mean = z.mean(axis=0)
    far = float(mean @ mean)
    centred = z - mean
    # n x n in place of values x values: the same trace
    gram = centred @ centred.T / (n - 1)
    trace = float(np.trace(gram))
    if trace <= 1e-12 * max(far, 1e-300):
        return 1.0 if far == 0 else 0.0
    # Bai and Saranadasa: tr S² itself is too large by tr(S)² / (n - 1), about
    unbiased = (float(np.square(gram).sum()) - trace**2 / (n - 1)) * (n - 1) ** 2 / ((n - 2) * (n + 1))
    r = min(max(trace**2 / unbiased if unbiased > 0 else width, 1.0), float(width))
    return float(stats.f.sf(far / ((1 / n + 1 / subjects_before) * trace), r, (n - 1) * r))


def ks_distance(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """The largest difference of two distribution functions at the same levels, over channels `(channels, levels)`."""
    return float(np.abs(before - after).max())


def ks_p(d: float, subjects: int, subjects_before: int) -> float:
    r"""The p of the two-sample Kolmogorov-Smirnov test, each subject counted as one draw.

    .. math:: n = \frac{n_1 n_2}{n_1 + n_2}

    A subject's pixels are far from independent, and more than one draw: p is too large rather than too small.
    """
    from scipy import stats

    n = max(1, round(subjects * subjects_before / (subjects + subjects_before)))
    return float(stats.kstwo.sf(d, n))
