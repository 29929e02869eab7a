"""The regions of an RTSTRUCT, slice by slice.

A contour is a polygon in mm through points on one slice. A voxel belongs to it when the voxel's centre lies inside:
whole indices are centres, so that the outline of a voxel runs half a voxel around it. (A centre on the line itself is
in or out as scikit-image has it.) Of several contours of a region in one slice one within another is a hole, one
within a hole is an island; those that fill the same voxels count once. Where DICOM says that they are taken by
exclusive or (CLOSEDPLANAR_XOR), they are. Slices without a contour have none of the region; nothing is interpolated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perdure.data.content import refusal
from perdure.data.dicom.series import Series
from perdure.data.dicom.stack import UNEVEN
from perdure.data.manifest import structure_key

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset


_RASTERIZED = 0.05
"""Of the voxels of the smaller of two contours: so many may lie on the wrong side of the other's line."""

_MOST_ON_A_SLICE = 500
"""Contours of one region, each of which is held against each."""


class _OverlapError(ValueError):
    """Two contours that are neither apart nor one within the other; says which of it."""


@dataclass(frozen=True)
class _Contour:
    """One contour.

    Args:
        slice: the number of the slice that it lies on.
        is_xor: whether it is taken by exclusive or.
        points: `(row, column)` on that slice.
    """

    slice: int
    is_xor: bool
    points: NDArray[np.float64]


@dataclass(frozen=True)
class _Region:
    number: int
    name: str
    contours: Iterator[_Contour]


def regions(
    place: Path, called: str, dataset: Dataset, series: Series, wanted: Container[str]
) -> Iterator[tuple[str, int, NDArray[np.bool_]]]:
    """Of each region in each slice: its name, the number of the slice, and where it is `(rows, columns)`.

    Args:
        place: what the user has named.
        called: what the file is called in errors.
        dataset: the RTSTRUCT.
        series: that it was made on.
        wanted: keys of the regions that are looked at. Any other may be a point or an open line, such as an isocentre;
            it comes once, and is nowhere.

    Raises:
        DataError: a contour is open, or lies on no slice; contours of a region overlap, or fill nothing; the image is a
            picture.
    """
    columns, rows, depth = series.header.shape
    for region in _regions(place, called, dataset, series, wanted):
        on_slice: dict[int, list[_Contour]] = defaultdict(list)
        for contour in region.contours:
            on_slice[contour.slice].append(contour)
        is_empty = True
        for k, contours in sorted(on_slice.items()):
            try:
                mask = _filled(contours, (rows, columns))
            except _OverlapError as error:
                found = f"contours of region {region.number} of {called}, {error}, in slice {k} of 0 to {depth - 1}"
                allowed = f"at most {_MOST_ON_A_SLICE}, one within another (a hole) or apart: mend or remove some"
                raise refusal(place, found, allowed, "ContourSequence") from error
            is_empty &= not mask.any()
            yield region.name, k, mask
        if on_slice and is_empty:
            found = f"contours of region {region.number} of {called} that hold the centre of no voxel"
            raise refusal(place, found, "it would be missing: make it background, or remove it", "ContourSequence")
        if not on_slice:
            yield region.name, 0, np.zeros((rows, columns), np.bool_)  # so that its name is looked at


def check_regions(place: Path, called: str, dataset: Dataset, series: Series, wanted: Container[str]) -> None:
    """Looks at all contours of regions that are wanted, and fills none.

    Raises:
        DataError: as `regions`, but for what only filling shows.
    """
    for region in _regions(place, called, dataset, series, wanted):
        for _ in region.contours:
            pass


def _regions(place: Path, called: str, dataset: Dataset, series: Series, wanted: Container[str]) -> Iterator[_Region]:
    if find_spec("skimage") is None:
        raise refusal(place, "contours, and no scikit-image to fill them", "pip install 'perdure[dicom]'")
    if series.header.affine is None:
        raise refusal(place, f"contours in {called}", "they belong to a volume; this image is a picture")
    names = {int(item.ROINumber): str(item.ROIName) for item in dataset.get("StructureSetROISequence") or ()}
    # contours are in LPS
    to_voxels = np.asarray(np.linalg.inv(series.header.affine) @ np.diag([-1.0, -1.0, 1.0, 1.0]), np.float64)
    depth = series.header.shape[2]
    for region in dataset.get("ROIContourSequence") or ():
        number = int(region.ReferencedROINumber)
        if number not in names:
            raise refusal(place, f"region {number} of {called}", "each has a name", "StructureSetROISequence")
        about = f"a contour of {names[number][:64]!r} in {called}"
        is_wanted = structure_key(names[number]) in wanted
        contours = (region.get("ContourSequence") or ()) if is_wanted else ()
        contours = [contour for contour in contours if contour.get("ContourData")]
        on_slices = (_on_slice(place, about, contour, to_voxels, depth) for contour in contours)
        yield _Region(number, names[number], on_slices)


def _on_slice(place: Path, about: str, contour: Dataset, to_voxels: NDArray[np.float64], depth: int) -> _Contour:
    kind = str(contour.get("ContourGeometricType", ""))
    data = np.array([float(value) for value in contour.ContourData])
    if kind not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR") or data.size % 3 or not np.isfinite(data).all():
        found = f"{about} of kind {kind[:16] or 'nothing'} with {data.size} numbers"
        allowed = (
            "closed contours of points in mm; regions of another kind can only be background: import with --structure "
            "for those that are classes, or put the others into `background_structures`"
        )
        raise refusal(place, found, allowed, "ContourSequence")
    points = np.c_[data.reshape(-1, 3), np.ones(data.size // 3)] @ to_voxels.T
    heights = points[:, 2]
    k = round(float(heights.mean()))
    if np.abs(heights - k).max() > UNEVEN or not 0 <= k < depth:
        found = f"{about} at slice {heights.min():.3g} to {heights.max():.3g} of 0 to {depth - 1}"
        raise refusal(place, found, "a contour lies on one slice of its image", "ContourData")
    return _Contour(k, kind == "CLOSEDPLANAR_XOR", points[:, [1, 0]])


def _filled(contours: Sequence[_Contour], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The voxels of a region in one slice.

    Raises:
        _OverlapError: contours overlap in part, or are nearly the same.
    """
    from scipy import ndimage

    masks: dict[bytes, NDArray[np.bool_]] = {}
    for contour in contours:
        if not contour.is_xor and (mask := _inside(contour.points, shape)).any():
            masks[np.packbits(mask).tobytes()] = mask
        if len(masks) > _MOST_ON_A_SLICE:
            raise _OverlapError(f"of which more than {_MOST_ON_A_SLICE} cannot be compared")
    distinct = sorted(masks.values(), key=np.count_nonzero, reverse=True)
    edges = [np.flatnonzero(mask & ~ndimage.binary_erosion(mask, border_value=1)) for mask in distinct]
    region = np.zeros(shape, np.bool_)
    for number, mask in enumerate(distinct):
        voxels = np.flatnonzero(mask)
        within = sum(_is_within(voxels, edges[number], distinct[i], edges[i]) for i in range(number))
        region[mask] = within % 2 == 0
    for contour in contours:
        if contour.is_xor:
            region ^= _inside(contour.points, shape)
    return region


def _is_within(
    voxels: NDArray[np.intp], edge: NDArray[np.intp], larger: NDArray[np.bool_], larger_edge: NDArray[np.intp]
) -> bool:
    """Whether a contour lies within another, or else apart from it, but for what rasterization moves."""
    shared = voxels[larger.ravel()[voxels]]
    common = shared.size
    if common <= _RASTERIZED * voxels.size:
        return False
    if common < (1 - _RASTERIZED) * voxels.size:
        # a line through centres is in both of those that it parts
        if np.isin(shared, edge).all() and np.isin(shared, larger_edge).all():
            return False
        raise _OverlapError("two of which overlap in part")
    # a hole leaves a ring, of the outline at least; one contour drawn twice leaves less
    if 2 * (np.count_nonzero(larger) + voxels.size - 2 * common) < larger_edge.size:
        raise _OverlapError("two of which are nearly the same")
    return True


def _inside(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    from skimage.draw import polygon

    mask = np.zeros(shape, np.bool_)
    mask[polygon(points[:, 0], points[:, 1], shape)] = True  # type: ignore[no-untyped-call]
    return mask
