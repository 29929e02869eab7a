"""The regions of an RTSTRUCT, slice by slice.

A contour is a polygon in mm through points on one slice. A voxel belongs to it when the voxel's centre lies inside:
whole indices are centres, so that the outline of a voxel runs half a voxel around it. (A centre on the line itself is
in or out as scikit-image has it.) Several contours of a region in one slice are taken by exclusive or: one within
another is a hole. Slices without a contour have none of the region; nothing is interpolated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator
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
        DataError: a contour is open, or lies on no slice; the image is a picture.
    """
    columns, rows, _ = series.header.shape
    for name, contours in _contours(place, called, dataset, series, wanted):
        masks: dict[int, NDArray[np.bool_]] = defaultdict(lambda: np.zeros((rows, columns), np.bool_))
        for k, points in contours:
            masks[k] ^= _inside(points, (rows, columns))
        yield from ((name, k, mask) for k, mask in sorted(masks.items()))
        if not masks:
            yield name, 0, np.zeros((rows, columns), np.bool_)  # so that its name is looked at


def check_regions(place: Path, called: str, dataset: Dataset, series: Series, wanted: Container[str]) -> None:
    """Looks at all contours of regions that are wanted, and fills none.

    Raises:
        DataError: as `regions`.
    """
    for _, contours in _contours(place, called, dataset, series, wanted):
        for _ in contours:
            pass


def _contours(
    place: Path, called: str, dataset: Dataset, series: Series, wanted: Container[str]
) -> Iterator[tuple[str, Iterator[tuple[int, NDArray[np.float64]]]]]:
    """Of each region its name and its contours: the slice of each, and its points as `(row, column)`."""
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
        yield names[number], (_on_slice(place, about, contour, to_voxels, depth) for contour in contours)


def _on_slice(
    place: Path, about: str, contour: Dataset, to_voxels: NDArray[np.float64], depth: int
) -> tuple[int, NDArray[np.float64]]:
    """The number of the slice that a contour lies on, and its points as `(row, column)` there."""
    kind = str(contour.get("ContourGeometricType", ""))
    data = np.array([float(value) for value in contour.get("ContourData") or ()])
    if kind not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR") or data.size % 3 or not np.isfinite(data).all():
        found = f"{about} of kind {kind[:16] or 'nothing'} with {data.size} numbers"
        allowed = (
            "closed contours of points in mm; regions of another kind can only be background: import with --structure "
            "for those that are classes, or put the others into `background_structures`"
        )
        raise refusal(place, found, allowed, "ContourSequence")
    points = np.c_[data.reshape(-1, 3), np.ones(data.size // 3)] @ to_voxels.T
    heights = points[:, 2] if len(points) else np.zeros(1)
    k = round(float(heights.mean()))
    if np.abs(heights - k).max() > UNEVEN or not 0 <= k < depth:
        found = f"{about} at slice {heights.min():.3g} to {heights.max():.3g} of 0 to {depth - 1}"
        raise refusal(place, found, "a contour lies on one slice of its image", "ContourData")
    return k, points[:, [1, 0]]


def _inside(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    from skimage.draw import polygon

    mask = np.zeros(shape, np.bool_)
    mask[polygon(points[:, 0], points[:, 1], shape)] = True  # type: ignore[no-untyped-call]
    return mask
