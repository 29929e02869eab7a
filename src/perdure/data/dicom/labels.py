"""A label map out of a DICOM SEG or RTSTRUCT, on the grid of the series that it was made on.

Which value a segment (or region) has is said by dataset.toml, by name: case, spaces and punctuation do not count, so
that "Left Kidney" is `left_kidney`. A name that is neither in `[labels]` nor in `background_structures` is an error:
what it means would be a guess. Voxels that two of them claim with different values are an error too, and so are two
names in one label that differ in nothing that counts.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perdure.data.content import Image, refusal
from perdure.data.dicom.codes import MANUFACTURER
from perdure.data.dicom.contours import check_regions, regions
from perdure.data.dicom.opening import quiet, read_dataset, reading
from perdure.data.dicom.segmentation import check_segments, segments
from perdure.data.dicom.series import Series, open_series, series_files
from perdure.data.manifest import structure_key
from perdure.data.places import LIST_SUFFIX

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset


def read_dicom_labels(place: Path, image: Path, values: Mapping[str, int]) -> Image:
    """Reads a SEG (BINARY or LABELMAP) or an RTSTRUCT.

    Args:
        place: the file, or a list of one.
        image: the series, or the picture, that it was made on.
        values: of each structure, by its key.

    Raises:
        DataError: it is something else, was made on another series or another grid, has a structure that has no value,
            or two that claim one voxel, or whose names cannot be told apart.
    """
    series = open_series(image)
    files = series_files(place)
    called = "file 1" if place.name.endswith(LIST_SUFFIX) else files[0].name
    if len(files) > 1:
        raise refusal(place, f"{len(files)} files", "a label is one DICOM SEG or RTSTRUCT")
    dataset = read_dataset(place, files[0], called, pixels=True)
    with reading(place, called), quiet():
        modality = dataset.get("Modality")
        if modality not in ("SEG", "RTSTRUCT"):
            raise refusal(place, f"{called}, which is neither", "a DICOM label is a SEG or an RTSTRUCT", "Modality")
        made_on = reference(place, called, dataset)
        of_picture = not series.slices and series.instances[0].uid not in made_on.images
        if made_on.series != series.uid or of_picture:
            found = f"{called}, made on {'another image' if made_on.series else 'no image that it names'}"
            raise refusal(place, found, "name the label of this image", "ReferencedSeriesSequence")
        wanted = {key for key, value in values.items() if value}
        _check_names(place, called, made_on.structures, wanted)
        if modality == "SEG":
            parts = segments(place, called, dataset, series)
        else:
            parts = regions(place, called, dataset, series, wanted)
        labels = _claimed(place, parts, series, values)
    return Image(series.header, labels, None)


def check_dicom_labels(place: Path, file: Path, called: str, series: Series, wanted: Container[str]) -> None:
    """Looks at all of a SEG or RTSTRUCT but its pixels.

    Args:
        place: what errors name.
        file: the label.
        called: what it is called in errors.
        series: that it was made on.
        wanted: keys of the structures that are not background.

    Raises:
        DataError: its header says that it cannot be read.
    """
    dataset = read_dataset(place, file, called)
    _check_names(place, called, reference(place, called, dataset).structures, wanted)
    with reading(place, called), quiet():
        if dataset.get("Modality") == "SEG":
            check_segments(place, called, dataset, series)
        else:
            check_regions(place, called, dataset, series, wanted)


@dataclass(frozen=True)
class Reference:
    """What a SEG or RTSTRUCT says that it was made on.

    Args:
        series: SeriesInstanceUID; "" if it says none, or several.
        images: SOPInstanceUIDs.
        structures: the names of its own structures.
    """

    series: str
    images: frozenset[str]
    structures: tuple[str, ...]


def reference(place: Path, called: str, dataset: Dataset) -> Reference:
    """What a SEG or RTSTRUCT says that it was made on, and of what.

    Raises:
        DataError: it cannot be read.
    """
    with reading(place, called), quiet():
        found = list(dataset.get("ReferencedSeriesSequence") or ())
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
            for study in frame.get("RTReferencedStudySequence") or ():
                found += study.get("RTReferencedSeriesSequence") or ()
        series = {str(item.get("SeriesInstanceUID", "")) for item in found}
        images = [image for item in found for image in item.get("ReferencedInstanceSequence") or ()]
        named = [(item, "SegmentLabel") for item in dataset.get("SegmentSequence") or ()]
        named += [(item, "ROIName") for item in dataset.get("StructureSetROISequence") or ()]
        return Reference(
            series.pop() if len(series) == 1 else "",
            frozenset(str(image.get("ReferencedSOPInstanceUID", "")) for image in images),
            tuple(str(item.get(keyword, "")) for item, keyword in named),
        )


def is_by_perdure(dataset: Dataset) -> bool:
    """Whether a SEG is a prediction of Perdure that, as far as it says, nobody has changed."""
    kinds = {item.get("SegmentAlgorithmType") for item in dataset.get("SegmentSequence") or ()}
    return dataset.get("Manufacturer") == MANUFACTURER and kinds == {"AUTOMATIC"}


def _check_names(place: Path, called: str, names: Iterable[str], wanted: Container[str]) -> None:
    """Refuses names that would be one class though whoever drew the structures meant several: PTV+2mm and PTV-2mm."""
    first: dict[str, str] = {}
    for name in names:
        key = structure_key(name)
        if key in wanted and (other := first.setdefault(key, name)) != name:
            allowed = (
                "case, spaces and punctuation do not tell structures apart: rename one of them, or leave both to the "
                "background (import with --structure for those that are classes, or put both into "
                "`background_structures`)"
            )
            raise refusal(place, f"{other[:64]!r} and {name[:64]!r} in {called}", allowed, "structures")


def _claimed(
    place: Path, parts: Iterable[tuple[str, int, NDArray[np.bool_]]], series: Series, values: Mapping[str, int]
) -> NDArray[np.uint16]:
    """The value of each voxel, from masks `(rows, columns)` of named structures in slices."""
    depth = max(1, len(series.slices))
    first = series.instances[0]
    labels = np.zeros((depth, first.rows, first.columns), np.uint16)
    unknown = []
    for name, k, mask in parts:
        value = values.get(structure_key(name))
        if value is None:
            unknown.append(name)
        elif value:
            if (taken := mask & (labels[k] != 0) & (labels[k] != value)).any():
                found = f"{int(taken.sum())} voxels of {name[:64]!r} that another structure has too"
                raise refusal(
                    place, found, "structures may not overlap; put one into `background_structures`", "voxels"
                )
            labels[k][mask] = value
    if unknown:
        found = ", ".join(sorted({repr(name[:64]) for name in unknown}))
        allowed = "each is one of [labels] or of `background_structures` in dataset.toml"
        raise refusal(place, found, allowed, "structures")
    return labels.transpose(2, 1, 0) if series.slices else labels[0]
