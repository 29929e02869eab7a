"""How far apart are the surfaces of prediction and reference, structure by structure?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perdure.errors import EvaluationError
from perdure.evaluation.confusion import confusion
from perdure.types import IGNORED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Box = tuple[slice, ...]

PERCENTILE = 95


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances of one case in the unit of its spacing, one for each class `(classes,)`; NaN where there is none.

    Args:
        hd95: the 95th percentile of the Hausdorff distance.
        assd: the average symmetric surface distance.
    """

    hd95: NDArray[np.float64]
    assd: NDArray[np.float64]


def surface_distances(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    classes: int,
    spacing: Sequence[float],
    ignore: int | None = IGNORED,
) -> SurfaceDistances:
    r"""How far apart the surfaces of prediction and reference are, structure by structure.

    .. math:: \mathrm{HD95}_k = \max\big(Q_{95}\{d(p, \partial T_k) : p \in \partial P_k\},
              Q_{95}\{d(t, \partial P_k) : t \in \partial T_k\}\big), \qquad
              \mathrm{ASSD}_k = \frac{\sum_{p \in \partial P_k} d(p, \partial T_k)
              + \sum_{t \in \partial T_k} d(t, \partial P_k)}{|\partial P_k| + |\partial T_k|}

    P_k and T_k are the pixels that prediction and reference call structure k, and a ∂ before them those that have a
    neighbour outside across a face, or lie at the border of the image; d is the Euclidean distance between the centre
    of a pixel and the nearest one of a surface, and Q_95 the 95th percentile, interpolated between neighbours. Surfaces
    and distances are those of MONAI, as in its `compute_hausdorff_distance` with `percentile=95` and its
    `compute_average_surface_distance` with `symmetric=True`.

    Source: Huttenlocher et al. 1993 for the Hausdorff distance; `monai.metrics` for the two percentiles, of which the
    larger counts, and for the average over the pixels of both surfaces.

    Open in the papers, decided here: a structure that is absent in both has no distance (NaN), as it has no Dice; one
    that is absent in one of them has none either, there Dice is 0. The background has none. Where `reference` is
    `ignore`, neither of them holds any structure: one that goes on there ends at those pixels in both, and where both
    reach them the distance is 0. An axis of one pixel has no surface across it: a volume of one slice is a picture.

    Args:
        prediction: class indices of one case, any shape, integers.
        reference: class indices of the same shape; `ignore` where a pixel does not count.
        classes: how many classes there are, background included.
        spacing: from one pixel to the next along each axis, such as mm; 1 for distances in pixels.
        ignore: the value in `reference` whose pixels are left out on both sides.

    Raises:
        EvaluationError: if shapes differ, a value is not a class, or `spacing` is not one positive number an axis.
    """
    from scipy import ndimage

    if len(spacing) != prediction.ndim or not all(0 < step < math.inf for step in spacing):
        raise EvaluationError(
            f"`spacing` must have a number above 0 for each of {prediction.ndim} axes; got {tuple(spacing)}."
        )
    counts = confusion(reference, prediction, classes, ignore=ignore)
    if ignore is not None and (left_out := reference == ignore).any():
        prediction, reference = np.where(left_out, 0, prediction), np.where(left_out, 0, reference)
    wide = [axis for axis, pixels in enumerate(prediction.shape) if pixels != 1] or [0]
    steps = [float(spacing[axis]) for axis in wide]
    prediction, reference = (
        labels.reshape([labels.shape[axis] for axis in wide]) for labels in (prediction, reference)
    )
    boxes = [ndimage.find_objects(labels, classes - 1) for labels in (prediction, reference)]
    found = SurfaceDistances(np.full(classes, np.nan), np.full(classes, np.nan))
    for k in range(1, classes):
        if counts[k].any() and counts[:, k].any():
            box = _around(boxes[0][k - 1], boxes[1][k - 1])
            there, back = _directed(prediction[box] == k, reference[box] == k, steps)
            found.hd95[k] = max(np.percentile(there, PERCENTILE), np.percentile(back, PERCENTILE))
            found.assd[k] = np.concatenate([there, back]).mean()
    return found


def _around(one: Box, other: Box) -> Box:
    """The smallest box that holds both."""
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))


def _directed(
    one: NDArray[np.bool_], other: NDArray[np.bool_], steps: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each pixel of the surface of one the distance to that of the other, and the other way round."""
    from monai.metrics import get_mask_edges, get_surface_distance

    # what lies outside the box is no structure, as what lies outside the image
    surface, others = get_mask_edges(one, other, crop=False)
    there = get_surface_distance(surface, others, spacing=steps)
    back = get_surface_distance(others, surface, spacing=steps)
    return np.asarray(there, np.float64), np.asarray(back, np.float64)
