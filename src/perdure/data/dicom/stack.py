r"""From the places of single slices to one grid.

Slices are put in order along their normal, which is rightwards x downwards. With row spacing :math:`s_r`, column
spacing :math:`s_c`, positions :math:`p_0 \dots p_{n-1}` in that order, and voxel (i, j, k) the pixel of column i and
row j in slice k, it lies (in DICOM's LPS) at

.. math:: p_0 + i\,s_c\,\text{rightwards} + j\,s_r\,\text{downwards} + k\,\frac{p_{n-1} - p_0}{n - 1}

and in NIfTI's RAS after the signs of x and y are turned. The distance of slices is that of their positions;
SliceThickness and SpacingBetweenSlices are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from perdure.data.dicom.instances import Plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNEVEN = 0.1
"""How far from its even place a slice may lie, in steps between slices: scanners round positions."""

SLANTED = 0.5
"""How far the last slice may be shifted sideways from straight above the first, in pixels."""

_LARGEST_STEP = 1e4  # mm
_SAME_AXES = 1e-4  # of two unit vectors, in each component
_SAME_PIXELS = 1e-4  # of two spacings, as a fraction
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class StackError(ValueError):
    """Slices that are no grid; `found` says what they are, `allowed` what to do, and `field` where it shows."""

    def __init__(self, field: str, found: str, allowed: str) -> None:
        self.field, self.found, self.allowed = field, found, allowed
        super().__init__(found)


def stacked(planes: Sequence[Plane], names: Sequence[str]) -> tuple[list[int], NDArray[np.float64]]:
    """The order of slices, and the affine (voxel to mm, RAS) of the volume that they are.

    Args:
        planes: one a slice, in any order.
        names: what each is called in errors.

    Raises:
        StackError: they differ in orientation or pixel size, lie at one place twice, unevenly or slanted, or there is
            only one.
    """
    first = planes[0]
    for plane, name in zip(planes, names, strict=True):
        if not np.allclose(
            (plane.rightwards, plane.downwards), (first.rightwards, first.downwards), rtol=0, atol=_SAME_AXES
        ):
            found = f"slices of different orientations ({names[0]} and {name})"
            raise StackError("ImageOrientationPatient", found, "give one stack a folder; is a localizer among them?")
        if not np.allclose(plane.spacing, first.spacing, rtol=_SAME_PIXELS, atol=0):
            found = f"pixels of {first.spacing} mm in {names[0]} and of {plane.spacing} mm in {name}"
            raise StackError("PixelSpacing", found, "all slices of a volume have pixels of one size")
    if len(planes) == 1:
        allowed = "the distance of slices is that of their positions, so that at least two are needed"
        raise StackError("slices", "a single one", allowed)
    positions = np.array([plane.position for plane in planes])
    normal = np.cross(first.rightwards, first.downwards)
    heights = (positions - positions[0]) @ normal
    order = [int(i) for i in np.argsort(heights, kind="stable")]
    _check_steps(heights[order], [names[i] for i in order])
    step = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
    _check_straight(positions[order], step, normal, first.spacing)
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(first.rightwards) * first.spacing[1]
    affine[:3, 1] = np.asarray(first.downwards) * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[order[0]]
    return order, _LPS_TO_RAS @ affine


def slice_of(plane: Plane, slices: Sequence[Plane]) -> int | None:
    """The number of the slice that a plane of the same shape covers pixel by pixel; None if there is none."""
    gaps = [math.dist(plane.position, one.position) for one in slices]
    k = gaps.index(min(gaps))
    own = slices[k]
    same = gaps[k] <= UNEVEN * min(own.spacing) and np.allclose(plane.spacing, own.spacing, rtol=1e-3, atol=0)
    axes = (plane.rightwards, plane.downwards), (own.rightwards, own.downwards)
    return k if same and np.allclose(*axes, rtol=0, atol=_SAME_AXES) else None


def _check_steps(heights: NDArray[np.float64], names: Sequence[str]) -> None:
    steps = np.diff(heights)
    usual = float(np.median(steps))
    if (twice := steps <= UNEVEN * usual).any() or usual <= 0:
        at = int(np.argmax(twice)) if usual > 0 else int(np.argmin(steps))
        found = f"two slices at one place ({names[at]} and {names[at + 1]}), and {int(twice.sum())} such pairs in all"
        allowed = (
            "one slice a place; give each echo, phase or repetition a SeriesInstanceUID and a folder of its own, or "
            "convert the series to NIfTI, one file each"
        )
        raise StackError("ImagePositionPatient", found, allowed)
    if not usual <= _LARGEST_STEP:
        raise StackError("ImagePositionPatient", f"slices {usual:.4g} mm apart", f"at most {_LARGEST_STEP:,.0f} mm")
    even = heights[0] + np.arange(len(heights)) * (heights[-1] - heights[0]) / (len(heights) - 1)
    if np.abs(heights - even).max() > UNEVEN * usual or steps.max() > 1.5 * usual:
        at, least = int(np.argmax(steps)), float(steps.min())
        found = f"slices {least:.4g} to {steps[at]:.4g} mm apart, most between {names[at]} and {names[at + 1]}"
        raise StackError("ImagePositionPatient", found, "slices lie evenly; is one missing? Fetch the series again")


def _check_straight(
    positions: NDArray[np.float64], step: NDArray[np.float64], normal: NDArray[np.float64], spacing: Sequence[float]
) -> None:
    sideways = positions - positions[0]
    sideways = sideways - np.outer(sideways @ normal, normal)
    if float(np.linalg.norm(sideways, axis=1).max()) > SLANTED * min(spacing):
        lean = float(np.degrees(np.arccos(min(1.0, abs(float(step @ normal)) / float(np.linalg.norm(step))))))
        found = f"slices shifted sideways against each other (by {lean:.3g}° on the whole)"
        raise StackError("ImagePositionPatient", found, "a tilted gantry has to be straightened by resampling first")
