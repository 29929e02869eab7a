"""Which files make one volume or one picture, and what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perdure.data.content import Header, Image, refusal
from perdure.data.dicom.instances import RESCALING, Instance, Plane, instance_of, read_instance
from perdure.data.dicom.opening import looks_like_dicom, no_image, quiet, read_dataset, reading
from perdure.data.dicom.pixels import darken, limits, padded, rescaled, stored
from perdure.data.dicom.stack import StackError, stacked
from perdure.data.places import LIST_SUFFIX, LISTS, listed_files
from perdure.types import MAX_VOXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NO_IMAGES = ("DICOMDIR",)  # the index of a disc


@dataclass(frozen=True)
class Slice:
    """One slice of a series: a file, or a frame of one.

    Args:
        instance: the file.
        frame: its number in the file, from 0.
        plane: where it lies.
    """

    instance: Instance
    frame: int
    plane: Plane


@dataclass(frozen=True)
class Series:
    """One volume or picture, opened but not decoded.

    Args:
        place: the folder or file that was named.
        uid: SeriesInstanceUID.
        slices: of a volume in the order of its third axis; none of a picture.
        instances: the files, in the order of their names.
        header: shape, channels and affine: voxel (i, j, k) is the pixel of column i and row j in slice k.
    """

    place: Path
    uid: str
    slices: tuple[Slice, ...]
    instances: tuple[Instance, ...]
    header: Header


def series_files(place: Path) -> list[Path]:
    """The files of a folder with one series, by name, those of a list, or the one file itself.

    Hidden files and DICOMDIR do not count.

    Raises:
        DataError: the folder is empty, cannot be read, or holds another folder.
    """
    if place.name.endswith(LIST_SUFFIX):
        return listed_files(place)
    if not place.is_dir():
        return [place]
    try:
        entries = sorted(place.iterdir())
    except OSError as error:
        raise refusal(place, f"a folder that cannot be read ({error.strerror})", "mend its permissions") from error
    files = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _NO_IMAGES]
    odd = next((file for file in files if not file.is_file()), None)
    if not files or odd is not None:
        found = "an empty folder"
        if odd is not None:
            found = f"{'another folder in it' if odd.is_dir() else 'no file, or a link to none'}, {odd.name}"
        raise refusal(place, found, "a folder that is one volume holds the DICOM files of one series, and nothing else")
    return files


def open_series(place: Path) -> Series:
    """Reads the headers of all files, and finds the grid that they lie on.

    Segmentations, reports and the like in the folder are passed over; a list names no such file.

    Args:
        place: a folder with the files of one series, a list of them, or one file: multi-frame, or a radiograph,
            mammogram or photograph.

    Raises:
        DataError: a file is damaged or holds no image; the folder holds several series; slices are missing, double or
            uneven, or lie in several orientations; they do not say where they lie.
    """
    listed = place.name.endswith(LIST_SUFFIX)
    # the names of listed files may be those of patients
    files = [(file, f"file {i}" if listed else file.name) for i, file in enumerate(series_files(place), 1)]
    if not place.is_dir():
        return assembled(place, tuple(read_instance(place, file, called) for file, called in files))
    return assembled(place, _of_folder(place, files))


def _of_folder(place: Path, files: Sequence[tuple[Path, str]]) -> tuple[Instance, ...]:
    """The images among the files of a folder."""
    instances, others = [], []
    for file, called in files:
        dataset = read_dataset(place, file, called)
        with reading(place, called), quiet():
            is_other, series = no_image(dataset), str(dataset.get("SeriesInstanceUID") or "")
        if is_other:
            others.append((file, called, dataset, series))
        else:
            instances.append(instance_of(place, file, called, dataset))
    # what calls itself part of the series is no label of it: a slice of which the rest is missing
    own = {"", *(one.series for one in instances)}
    for file, called, dataset, series in others:
        if not instances or series in own:
            instances.append(instance_of(place, file, called, dataset))
    return tuple(instances)


def assembled(place: Path, instances: tuple[Instance, ...]) -> Series:
    """The series that these files are.

    Raises:
        DataError: as `open_series`, but for what a single file says.
    """
    first = instances[0]
    if len(found := Counter(instance.series for instance in instances)) > 1:
        counts = ", ".join(str(count) for count in found.values())
        allowed = f"one series a folder; `perdure import dicom` lists the files of each ({LISTS}/ID{LIST_SUFFIX})"
        raise refusal(place, f"{len(found)} series (of {counts} files)", allowed, "SeriesInstanceUID")
    if first.is_picture and len(instances) == 1:
        if first.signed or first.slope < 0:
            raise refusal(place, "numbers below 0", "a picture is stored in numbers from 0 up", "PixelRepresentation")
        return Series(
            place,
            first.series,
            (),
            instances,
            Header((first.rows, first.columns), first.channels, None, first.modality),
        )
    _check_alike(place, instances)
    slices = [Slice(one, frame, plane) for one in instances for frame, plane in enumerate(one.planes)]
    several = len(instances) > 1
    names = [one.instance.called if several else f"frame {one.frame + 1}" for one in slices]
    try:
        order, affine = stacked([one.plane for one in slices], names)
    except StackError as error:
        if len(slices) == 1 and not place.is_dir():
            raise refusal(place, "one slice of a volume", "name the folder of its series", "slices") from error
        raise refusal(place, error.found, error.allowed, error.field) from error
    _check_rescaling(place, [one.plane for one in slices], names)
    shape = (first.columns, first.rows, len(slices))
    if np.prod(shape, dtype=np.float64) > MAX_VOXELS:
        raise refusal(place, f"{shape}, which is too many voxels", f"at most {MAX_VOXELS:,} are read")
    return Series(
        place, first.series, tuple(slices[i] for i in order), instances, Header(shape, 1, affine, first.modality)
    )


def read_series(place: Path) -> Image:
    """Reads the pixels too: of a volume rescaled (HU for CT), of a picture as they are stored; padding is dark.

    `maximum` is the largest number of the bits that a picture, or a volume without rescaling, says it stores.

    Raises:
        DataError: as `open_series`; also if pixels cannot be decoded, or all are padding.
    """
    series = open_series(place)
    first = series.instances[0]
    if not series.slices:
        pixels = stored(place, first)[0]
        if first.padding is not None:
            padding, pixels = padded(first, pixels), pixels.copy()
            darken(place, pixels, padding)
        pixels = pixels[None] if first.channels == 1 else pixels.transpose(2, 0, 1)
        return Image(series.header, np.ascontiguousarray(pixels), limits(first)[1])
    frames: dict[Path, NDArray[np.generic]] = {}
    volume: NDArray[np.generic] | None = None
    lowest = 0
    has_padding = any(one.padding is not None for one in series.instances)
    padding = np.zeros((len(series.slices), first.rows, first.columns) if has_padding else 0, np.bool_)
    for k, one in enumerate(series.slices):
        if one.instance.file not in frames:
            frames = {one.instance.file: stored(place, one.instance)}
        pixels = rescaled(frames[one.instance.file][one.frame], one.plane)
        if volume is None:
            volume = np.empty((len(series.slices), first.rows, first.columns), pixels.dtype)
        elif volume.dtype != pixels.dtype:
            volume = volume.astype(np.promote_types(volume.dtype, pixels.dtype))
        volume[k] = pixels
        if has_padding:
            padding[k] = padded(one.instance, frames[one.instance.file][one.frame])
            lowest = min(lowest, int(frames[one.instance.file][one.frame].min()))
    assert volume is not None
    if volume.dtype == np.float64:
        volume = volume.astype(np.float32)
    # phases, differences and the like: what is 0 there lies between others and was measured
    measures_0 = first.modality == "MR" and first.padding == (0, 0) and lowest < 0
    if has_padding and not measures_0:
        darken(place, volume, padding)
    plain = all((one.plane.slope, one.plane.intercept) == (1, 0) and not one.instance.signed for one in series.slices)
    return Image(
        series.header, volume.transpose(2, 1, 0), max(limits(one)[1] for one in series.instances) if plain else None
    )


def is_picture(place: Path) -> bool:
    """Whether a file, or a list of one, is a radiograph, mammogram or photograph; a folder is a volume.

    Raises:
        DataError: the file is damaged or holds no image.
    """
    if place.is_dir() or len(files := series_files(place)) > 1:
        return False
    return read_instance(place, files[0], "file 1" if place.name.endswith(LIST_SUFFIX) else place.name).is_picture


def is_dicom(place: Path) -> bool:
    """Whether it is a folder, which is one series then, a list of files, or a file that looks like DICOM."""
    return place.is_dir() or place.name.endswith(LIST_SUFFIX) or looks_like_dicom(place)


def _check_alike(place: Path, instances: tuple[Instance, ...]) -> None:
    """Refuses files that cannot be slices of one volume."""
    first = instances[0]
    for one in instances:
        if not one.planes:
            what = "several pictures" if one.is_picture and len(instances) > 1 else "no place in space"
            allowed = "slices have ImagePositionPatient and ImageOrientationPatient; name pictures one by one"
            raise refusal(place, f"{what} ({one.called})", allowed, "ImagePositionPatient")
        if one.frames > 1 and len(instances) > 1:
            raise refusal(place, f"several multi-frame files ({one.called})", "name one of them", "NumberOfFrames")
        if one.channels != 1:
            raise refusal(place, f"colours in {one.called}", "a volume is grey", "PhotometricInterpretation")
        if one.inverted and one.modality in ("CT", "PT"):
            found = f"MONOCHROME1 in {one.called}"
            allowed = "numbers of CT and PET have a unit, and cannot be turned round: write the file as MONOCHROME2"
            raise refusal(place, found, allowed, "PhotometricInterpretation")
        if (one.rows, one.columns) != (first.rows, first.columns):
            found = f"slices of {first.rows} x {first.columns} and {one.rows} x {one.columns} pixels ({one.called})"
            raise refusal(place, found, "all slices of a volume have one shape", "Rows")


def _check_rescaling(place: Path, planes: Sequence[Plane], names: Sequence[str]) -> None:
    """Refuses slices of which some say how their numbers are rescaled, and others do not."""
    for field in RESCALING:
        without = [name for plane, name in zip(planes, names, strict=True) if field in plane.unsaid]
        if without and len(without) < len(planes):
            found = f"none in {without[0]} ({len(without)} of {len(planes)} slices are without)"
            raise refusal(place, found, "all slices of a series have it, or none has: fetch the series again", field)
