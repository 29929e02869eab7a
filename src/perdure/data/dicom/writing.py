"""Writing: a label map as a DICOM SEG that a PACS takes into the study of its source.

One binary segment a structure, frame by frame on the source's own grid. Patient and study are those of the source, as
they stand there. The same release on the same images gives the same UIDs and the same voxels; only the dates of making
differ. Other voxels (another machine rounds differently) are another object.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perdure.data.content import refusal
from perdure.data.dicom.codes import MANUFACTURER, PRIVATE_SCHEME, coded_name
from perdure.data.dicom.opening import damaged, quiet, read_dataset
from perdure.data.dicom.series import Series, open_series
from perdure.data.manifest import structure_key

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from numpy.typing import NDArray
    from pydicom import DataElement, Dataset

    from perdure.types import Structure

_CHARACTERS = "SpecificCharacterSet"
_UIDS = uuid.UUID("6f0a6f3e-54a5-4c0b-9a3e-0d6d6e2f9a51")
_SERIES_NUMBER = 1000  # behind those that a scanner gives
_LONG_STRING = 64  # characters of VR LO
_WHOSE = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""What every object of a study has, empty or not. highdicom checks it, and tells in its log what it finds odd."""


@dataclass(frozen=True)
class Origin:
    """What made a segmentation.

    Args:
        name: of the release.
        release: its id.
        domain: whose batch norm it used; None where there is one for all.
    """

    name: str
    release: str
    domain: str | None = None


def segmentation_file(
    place: Path, classes: NDArray[np.uint8], structures: Sequence[Structure], origin: Origin
) -> bytes:
    """A DICOM SEG of a series, or of one radiograph or mammogram.

    Structures that no voxel has are left out. If that is all of them, each is described, with one blank frame: the
    object says that they were looked for.

    Args:
        place: the image: a folder with one series, or a file.
        classes: class indices on its own grid, `(columns, rows, slices)` or `(rows, columns)`; 0 is background.
        structures: the classes in order.
        origin: what made it.

    Raises:
        DataError: the source lacks what a SEG has to say of it.
    """
    series = open_series(place)
    frames = classes[None] if classes.ndim == 2 else classes.transpose(2, 1, 0)
    sources, frames = _sources(series, frames)
    present = [index for index in range(1, len(structures)) if (frames == index).any()]
    further: list[Dataset] = []
    if not present and len(sources) > 1:
        sources, further, frames = sources[:1], sources[1:], frames[:1]
    described = present or list(range(1, len(structures)))
    names = [structures[i].name for i in described]
    if empty := [name for name in names if not structure_key(name)]:
        allowed = "a name with a letter or digit in it; rename it in dataset.toml, or write NIfTI (--format nifti)"
        raise refusal(place, f"a structure called {empty[0][:64]!r}", allowed, "structures")
    number = np.zeros(256, np.uint8)
    number[described] = np.arange(1, len(described) + 1)
    try:
        with quiet():
            held = _without_person([*sources, *further])
            _set_spacing(sources, series)
            made = _made(sources, further, number[frames], names, origin)
            for keyword, element in held.items():
                made[keyword] = element
            content = BytesIO()
            made.save_as(content, enforce_file_format=True)
    except damaged() as error:
        # not the message of the error: it may quote any element
        found = f"headers that a SEG cannot be made from ({type(error).__name__})"
        raise refusal(place, found, "mend the series, or write NIfTI (--format nifti)") from error
    return content.getvalue()


def segmented_instances(file: Path) -> set[str]:
    """The SOP Instance UIDs of the images that a SEG segments.

    Raises:
        DataError: it is no SEG.
    """
    seg = read_dataset(file, file, file.name)
    try:
        with quiet():
            referenced = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
            return {str(one.ReferencedSOPInstanceUID) for one in referenced}
    except damaged() as error:
        raise refusal(file, "no segmentation", "remove the file; the same command makes it anew") from error


def _sources(series: Series, frames: NDArray[np.uint8]) -> tuple[list[Dataset], NDArray[np.uint8]]:
    """The headers that highdicom takes, and the frames in their order: one a slice, or the frames of the one file."""
    first = series.instances[0]
    files = [one.instance for one in series.slices] if first.frames == 1 and series.slices else [first]
    headers = [read_dataset(series.place, file.file, file.called) for file in files]
    if series.slices and len({header.get("FrameOfReferenceUID") or "" for header in headers} - {""}) != 1:
        found = "none, or several: a SEG lies in the frame of reference of its source"
        raise refusal(series.place, found, "mend the series, or write NIfTI (--format nifti)", "FrameOfReferenceUID")
    if len(files) == len(frames):
        return headers, frames
    own_order = np.empty_like(frames)
    own_order[[one.frame for one in series.slices]] = frames
    return headers, own_order


def _without_person(headers: Sequence[Dataset]) -> dict[str, DataElement]:
    """Empties what is the person's, and gives that of the first header back, with its character set.

    highdicom takes not all character sets: none with an empty first value, as Japanese and Korean studies have. What
    was read keeps its characters without.
    """
    held = {keyword: headers[0][keyword] for keyword in (_CHARACTERS, *_WHOSE) if keyword in headers[0]}
    for header in headers:
        if _CHARACTERS in header:
            del header[_CHARACTERS]
        for keyword in _WHOSE:
            if keyword in header:
                del header[keyword]
            setattr(header, keyword, "")
    return held


def _set_spacing(headers: Sequence[Dataset], series: Series) -> None:
    """Makes headers say how far slices are apart by their places: SpacingBetweenSlices of a source may be the gap."""
    if series.header.affine is None:
        return
    columns, rows, slices = series.header.affine[:3, :3].T
    normal = np.cross(columns, rows)
    between = float(abs(slices @ normal) / np.linalg.norm(normal))
    for header in headers:
        shared = header.get("SharedFunctionalGroupsSequence")
        measures = shared[0].PixelMeasuresSequence[0] if shared else header
        measures.SpacingBetweenSlices = f"{between:.10g}"
        if not measures.get("SliceThickness"):
            measures.SliceThickness = f"{between:.10g}"


def _made(
    sources: Sequence[Dataset],
    further: Sequence[Dataset],
    frames: NDArray[np.uint8],
    names: Sequence[str],
    origin: Origin,
) -> Dataset:
    from highdicom.seg import Segmentation, SegmentationTypeValues

    series = _uid(origin.release, origin.domain or "", *sorted(one.SOPInstanceUID for one in (*sources, *further)))
    voxels = hashlib.sha256(frames.tobytes()).hexdigest()
    made = Segmentation(
        source_images=sources,
        further_source_images=further,
        pixel_array=frames,
        omit_empty_frames=bool(frames.any()),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(number, name, origin) for number, name in enumerate(names, 1)],
        series_instance_uid=series,
        series_number=_SERIES_NUMBER,
        sop_instance_uid=_uid(series, voxels, *names),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="Perdure",
        software_versions=version("perdure"),
        device_serial_number=origin.release,
        series_description=_plain(f"Perdure segmentation, release {origin.name}"),
        content_description="Automatic segmentation, not reviewed by a person",
    )
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = _uid(series, "dimensions")
    for item, name in zip(made.SegmentSequence, names, strict=True):
        if not name.isascii():
            # of the item alone: patient and study keep the characters, and the character set, of the source
            item.SpecificCharacterSet = "ISO_IR 192"
    return made


def _segment(number: int, name: str, origin: Origin) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    coded, label = coded_name(name), _label(name)
    if coded.concept is None:
        what = CodedConcept(label, PRIVATE_SCHEME, label)
    else:
        scheme, _, concept = coded.concept.rpartition(".")
        what = CodedConcept.from_code(getattr(getattr(codes, scheme or "SCT"), concept))
    if coded.side is not None:
        side = CodedConcept.from_code(getattr(codes.SCT, coded.side))
        what.SegmentedPropertyTypeModifierCodeSequence = [side]
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=getattr(codes.SCT, coded.category),
        segmented_property_type=what,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=_plain(f"Perdure {origin.name}"),
            version=origin.release,
            family=codes.DCM.ArtificialIntelligence,
        ),
    )


def _uid(*of: str) -> str:
    """A UID that is always the same of the same (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(_UIDS, chr(0).join(of)).int}"


def _label(name: str) -> str:
    """The name of a structure as one element in UTF-8 holds it: no other has the same, however long both are."""
    text = "".join(letter if letter.isprintable() else " " for letter in name.replace("\\", "/")).strip()
    if len(text) <= _LONG_STRING:
        return text
    return f"{text[: _LONG_STRING - 9]}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _plain(text: str) -> str:
    """As much of a text as one element of any character set holds."""
    return text.encode("ascii", "replace").decode().replace("\\", "/")[:_LONG_STRING].strip()
