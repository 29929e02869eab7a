"""The segments of a DICOM SEG, slice by slice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perdure.data.content import refusal
from perdure.data.dicom.instances import read_planes
from perdure.data.dicom.pixels import decoded
from perdure.data.dicom.series import Series
from perdure.data.dicom.stack import slice_of
from perdure.types import MAX_VOXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset


_MOST_VOXELS = 4 * MAX_VOXELS  # of all segments, a byte each


def segments(
    place: Path, called: str, dataset: Dataset, series: Series
) -> Iterator[tuple[str, int, NDArray[np.bool_]]]:
    """Of each segment in each slice: its name, the number of the slice, and where it is `(rows, columns)`.

    Raises:
        DataError: it is fractional, or not on the grid of the series.
    """
    kind, names, places = _header(place, called, dataset, series)
    rows, columns, frames = int(dataset.Rows), int(dataset.Columns), len(places)
    # all at once, because pydicom 3.0 cannot find a frame of single bits that does not begin a byte
    decoded_frames = decoded(place, called, dataset)
    if decoded_frames.size != frames * rows * columns:
        raise refusal(place, f"{decoded_frames.shape} numbers in {called}", "the file is damaged", "PixelData")
    for frame, k in enumerate(places):
        pixels = decoded_frames.reshape(frames, rows, columns)[frame]
        if kind == "BINARY":
            yield _named(place, called, names, _number(dataset, frame)), k, pixels != 0
        else:
            for number in np.unique(pixels[pixels != 0]):
                yield _named(place, called, names, int(number)), k, pixels == number


def check_segments(place: Path, called: str, dataset: Dataset, series: Series) -> None:
    """Looks at all but the pixels.

    Raises:
        DataError: as `segments`.
    """
    _header(place, called, dataset, series)


def _header(place: Path, called: str, dataset: Dataset, series: Series) -> tuple[str, dict[int, str], list[int]]:
    """The type, the name of each segment by its number, and the number of the slice that each frame lies on."""
    kind = str(dataset.get("SegmentationType", ""))
    if kind not in ("BINARY", "LABELMAP"):
        allowed = "BINARY or LABELMAP: a fraction says nothing certain of a voxel; write it anew with a threshold"
        raise refusal(place, f"{kind[:16] or 'nothing'} in {called}", allowed, "SegmentationType")
    names = {int(item.SegmentNumber): str(item.SegmentLabel) for item in dataset.get("SegmentSequence") or ()}
    first = series.instances[0]
    rows, columns, frames = int(dataset.Rows), int(dataset.Columns), int(dataset.get("NumberOfFrames", 1))
    if (rows, columns) != (first.rows, first.columns) or rows * columns * frames > _MOST_VOXELS:
        found = f"{frames} frames of {rows} x {columns} pixels in {called}"
        raise refusal(place, found, f"slices of the image have {first.rows} x {first.columns}", "Rows")
    if kind == "BINARY":
        for frame in range(frames):
            _named(place, called, names, _number(dataset, frame))
    return kind, names, _slices(place, called, dataset, series, frames)


def _slices(place: Path, called: str, dataset: Dataset, series: Series, frames: int) -> list[int]:
    """The number of the slice that each frame lies on."""
    if not series.slices:
        return [0] * frames
    planes = read_planes(place, called, dataset)
    if len(planes) != frames:
        raise refusal(place, f"no place in space in {called}", "each frame says where it lies", "ImagePositionPatient")
    own = [one.plane for one in series.slices]
    found = [slice_of(plane, own) for plane in planes]
    for frame, k in enumerate(found, 1):
        if k is None:
            raise refusal(
                place, f"frame {frame} of {called}, which is on no slice", "the label lies on the image's own grid"
            )
    return [k for k in found if k is not None]


def _number(dataset: Dataset, frame: int) -> int:
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for group in (dataset.PerFrameFunctionalGroupsSequence[frame], *shared[:1]):
        if "SegmentIdentificationSequence" in group:
            return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    return 0


def _named(place: Path, called: str, names: dict[int, str], number: int) -> str:
    if number not in names:
        raise refusal(place, f"segment {number} of {called}", "each segment stands in its list", "SegmentSequence")
    return names[number]
