"""What one DICOM file says of itself, checked and in plain types, before its pixels are read.

Nothing of a patient is in it, and no error quotes the content of an element that could name one.
"""

from __future__ import annotations

import math
from collections.abc import MutableSequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perdure.data.content import MAX_PIXELS, refusal
from perdure.data.dicom.opening import damaged, no_image, quiet, read_dataset, reading
from perdure.errors import DataError
from perdure.types import MAX_VOXELS

if TYPE_CHECKING:
    from pydicom import Dataset

SLICED = ("CT", "MR", "PT")
"""Modalities whose single-frame files are slices of a volume, whatever else they say."""

RESCALING = ("RescaleIntercept", "RescaleSlope")

_ELEMENT = 16  # bits of a number with VR US or SS
_LARGEST = 1e9  # of a length or a factor; squares of it are still numbers
_OVERLAYS = range(0x6000, 0x6020, 2)


@dataclass(frozen=True)
class Plane:
    """Where one frame lies, and what its stored numbers mean.

    Args:
        rightwards: unit vector (LPS) in which the column number grows.
        downwards: unit vector (LPS) in which the row number grows.
        position: mm (LPS), the centre of the first pixel.
        spacing: mm between rows, and between columns.
        slope: of the rescaling of stored numbers.
        intercept: of the same.
        unsaid: which elements of the rescaling are not there.
    """

    rightwards: tuple[float, ...]
    downwards: tuple[float, ...]
    position: tuple[float, ...]
    spacing: tuple[float, ...]
    slope: float
    intercept: float
    unsaid: tuple[str, ...]


@dataclass(frozen=True)
class Instance:
    """One file.

    Args:
        file: its path.
        called: what it is called in errors.
        uid: its SOPInstanceUID.
        series: its SeriesInstanceUID.
        modality: CT, MR, MG ...
        rows: of pixels.
        columns: of pixels.
        channels: 1 or 3.
        bits: that it says it stores; the largest number is 2**bits - 1.
        spare: bits of each number beyond those.
        signed: whether numbers may be negative.
        inverted: whether small numbers are bright (MONOCHROME1).
        shared: whether the spare bits hold an overlay, as old files have it.
        padding: the smallest and the largest stored number that stands for no pixel, such as outside the circle of a
            CT; None if there is none.
        planes: one for each frame; empty where the file says nothing of places.
        slope: of the rescaling of a picture.
        frames: how many.
    """

    file: Path
    called: str
    uid: str
    series: str
    modality: str
    rows: int
    columns: int
    channels: int
    bits: int
    spare: int
    signed: bool
    inverted: bool
    shared: bool
    padding: tuple[int, int] | None
    planes: tuple[Plane, ...]
    slope: float
    frames: int

    @property
    def is_picture(self) -> bool:
        """Whether it is a radiograph, a mammogram or a photograph: one frame, in no place."""
        return self.frames == 1 and not self.planes and self.modality not in SLICED


def read_instance(place: Path, file: Path, called: str) -> Instance:
    """Reads what a file says besides its pixels.

    Args:
        place: what the user has named.
        file: the file.
        called: what it is called in errors.

    Raises:
        DataError: it is damaged, holds no image, or one of a kind that is not read.
    """
    return instance_of(place, file, called, read_dataset(place, file, called))


def instance_of(place: Path, file: Path, called: str, dataset: Dataset) -> Instance:
    """The same of a file that is open already.

    Raises:
        DataError: as `read_instance`.
    """
    with reading(place, called), quiet():
        return _Reader(place, called, dataset).instance(file)


def kind_of(file: Path) -> Literal["slice", "frames", "picture", "no image", "damaged"]:
    """What a DICOM file is, found without an error, so that one bad file does not hide the others."""
    try:
        dataset = read_dataset(file, file, file.name)
        with quiet():
            if no_image(dataset):
                return "no image"
        instance = read_instance(file, file, file.name)
    except DataError:
        return "damaged"
    except damaged():
        return "damaged"
    return "picture" if instance.is_picture else "slice" if instance.frames == 1 else "frames"


def read_planes(place: Path, called: str, dataset: Dataset) -> tuple[Plane, ...]:
    """Where the frames of a dataset lie, one plane a frame; empty if it does not say.

    Raises:
        DataError: what it says makes no sense.
    """
    with reading(place, called), quiet():
        reader = _Reader(place, called, dataset)
        return reader.planes(reader.whole("NumberOfFrames", 1))


class _Reader:
    """Takes elements out of one dataset, and refuses those that make no sense."""

    def __init__(self, place: Path, called: str, dataset: Dataset) -> None:
        self.place, self.called, self.dataset = place, called, dataset

    def instance(self, file: Path) -> Instance:
        rows, columns = self.whole("Rows"), self.whole("Columns")
        frames = self.whole("NumberOfFrames", 1)
        photometric = str(self.dataset.get("PhotometricInterpretation", ""))
        grey = photometric in ("MONOCHROME1", "MONOCHROME2")
        samples = self.whole("SamplesPerPixel", 1)
        allocated, stored = self.whole("BitsAllocated"), self.whole("BitsStored")
        modality = str(self.dataset.get("Modality", ""))
        if modality == "SEG" or not (grey or (samples == 3 and photometric.startswith(("RGB", "YBR")))):
            kind = "a segmentation" if modality == "SEG" else "an image that is neither grey nor RGB"
            raise self._refused("PhotometricInterpretation", kind, "give grey or RGB images; segmentations are labels")
        if (grey and samples != 1) or allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
            found = f"{samples} samples of {stored} bits in {allocated}"
            raise self._refused("BitsStored", found, "one grey sample of up to 8, 16 or 32 bits is read, or RGB of 8")
        if not grey and (allocated, stored) != (8, 8):
            raise self._refused("BitsStored", f"colours of {stored} bits", "colour is read in 8 bits")
        if self.whole("HighBit", stored - 1) != stored - 1:
            raise self._refused("HighBit", f"{self.whole('HighBit')}", f"BitsStored - 1, which is {stored - 1}")
        if "ModalityLUTSequence" in self.dataset:
            raise self._refused("ModalityLUTSequence", "a table of values", "write the file with its table applied")
        most = MAX_PIXELS if frames == 1 else MAX_VOXELS
        if not 0 < rows * columns * frames <= most:
            found = f"{frames} frames of {rows} x {columns} pixels"
            raise self._refused("Rows", found, f"at least one and at most {most:,} pixels are read")
        series = str(self.dataset.get("SeriesInstanceUID", "") or "")
        if not series:
            raise self._refused("SeriesInstanceUID", "nothing", "every file belongs to a series")
        return Instance(
            file=file,
            called=self.called,
            uid=str(self.dataset.get("SOPInstanceUID", "") or ""),
            series=series,
            modality=modality,
            rows=rows,
            columns=columns,
            channels=1 if grey else 3,
            bits=stored,
            spare=allocated - stored,
            signed=self.whole("PixelRepresentation", 0) == 1,
            inverted=photometric == "MONOCHROME1",
            shared=any((group, 0x0102) in self.dataset and (group, 0x3000) not in self.dataset for group in _OVERLAYS),
            padding=self._padding(allocated, stored) if grey else None,
            planes=self.planes(frames),
            slope=self._rescaling(self.dataset)[0],
            frames=frames,
        )

    def planes(self, frames: int) -> tuple[Plane, ...]:
        per_frame = self.dataset.get("PerFrameFunctionalGroupsSequence") or ()
        if not per_frame:
            placed = self.dataset.get("ImageOrientationPatient") or self.dataset.get("ImagePositionPatient")
            if frames > 1 or not placed:
                return ()
            return (self._plane((self.dataset,)),)
        if len(per_frame) != frames:
            found = f"{len(per_frame)} groups for {frames} frames"
            raise self._refused("PerFrameFunctionalGroupsSequence", found, "one group for each frame")
        shared = tuple(self.dataset.get("SharedFunctionalGroupsSequence") or ())[:1]
        places = ("PlaneOrientationSequence", "PlanePositionSequence", "PixelMeasuresSequence")
        if frames == 1 and not any(name in group for name in places for group in (per_frame[0], *shared)):
            return ()
        return tuple(self._plane((group, *shared), grouped=True) for group in per_frame)

    def _plane(self, groups: tuple[Dataset, ...], *, grouped: bool = False) -> Plane:
        def of(sequence: str) -> Dataset:
            if not grouped:
                return groups[0]
            found = next((group[sequence].value for group in groups if group.get(sequence)), ())
            return found[0] if found else groups[0]

        axes = self._numbers(of("PlaneOrientationSequence"), "ImageOrientationPatient", 6)
        position = self._numbers(of("PlanePositionSequence"), "ImagePositionPatient", 3)
        spacing = self._numbers(of("PixelMeasuresSequence"), "PixelSpacing", 2)
        if not 1e-4 <= min(spacing) <= max(spacing) <= 1e4:
            raise self._refused("PixelSpacing", f"{spacing}", "two lengths from 0.0001 to 10,000 mm")
        rightwards, downwards = axes[:3], axes[3:]
        lengths = math.hypot(*rightwards), math.hypot(*downwards)
        across = sum(a * b for a, b in zip(rightwards, downwards, strict=True))
        if max(abs(length - 1) for length in lengths) > 1e-2 or abs(across) > 1e-3:
            raise self._refused("ImageOrientationPatient", f"{axes}", "two unit vectors at a right angle")
        rescaled = of("PixelValueTransformationSequence") if grouped else self.dataset
        rescaled = rescaled if "RescaleSlope" in rescaled else self.dataset
        return Plane(
            tuple(value / lengths[0] for value in rightwards),
            tuple(value / lengths[1] for value in downwards),
            position,
            spacing,
            *self._rescaling(rescaled),
            tuple(name for name in RESCALING if rescaled.get(name) in (None, "")),
        )

    def _rescaling(self, dataset: Dataset) -> tuple[float, float]:
        slope = self._numbers(dataset, "RescaleSlope", 1, (1.0,))[0]
        intercept = self._numbers(dataset, "RescaleIntercept", 1, (0.0,))[0]
        if slope == 0:
            raise self._refused("RescaleSlope", "0", "a factor that is not 0")
        return slope, intercept

    def _padding(self, allocated: int, stored: int) -> tuple[int, int] | None:
        """PixelPaddingValue and PixelPaddingRangeLimit in order, as PixelRepresentation has it, whatever their VR."""
        value, limit = (self._bare(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
        if value is None:
            return None
        ends = [value, value if limit is None else limit]
        if allocated > _ELEMENT:
            return min(ends), max(ends)
        if self.whole("PixelRepresentation", 0) == 1:
            ends = [_signed(end, stored) for end in ends]
        else:
            # a range from a number below 0 to one above has no meaning here; its value alone may be one of 16 bits
            ends = [end % 2**_ELEMENT for end in (ends if max(ends) < 0 or min(ends) >= 0 else ends[:1])]
        return min(ends), max(ends)

    def _bare(self, keyword: str) -> int | None:
        """A number, of several the first, also where the VR is none of numbers."""
        value = self.dataset.get(keyword)
        if isinstance(value, MutableSequence):
            value = value[0] if value else None
        if value is None or value in ("", b""):
            return None
        return int.from_bytes(value[: _ELEMENT // 8], "little") if isinstance(value, bytes) else int(value)

    def whole(self, keyword: str, default: int | None = None) -> int:
        value = self.dataset.get(keyword)
        if value is None or value == "":
            if default is None:
                raise self._refused(keyword, "nothing", "a file with an image has one; is this a report or a plan?")
            return default
        return int(value)

    def _numbers(
        self, dataset: Dataset, keyword: str, count: int, default: tuple[float, ...] | None = None
    ) -> tuple[float, ...]:
        value = dataset.get(keyword)
        if value is None or value == "":
            if default is None:
                raise self._refused(keyword, "nothing", "a slice says where it lies and how large its pixels are")
            return default
        numbers = (float(value),) if isinstance(value, int | float | str) else tuple(float(one) for one in value)
        if len(numbers) != count or not all(abs(number) <= _LARGEST for number in numbers):  # NaN is not
            raise self._refused(keyword, f"{numbers}", f"{count} finite number(s), at most {_LARGEST:,.0f}")
        return numbers

    def _refused(self, field: str, found: str, allowed: str) -> DataError:
        return refusal(self.place, f"{found} in {self.called}", allowed, field)


def _signed(number: int, stored: int) -> int:
    """A number with a sign in 16 bits, or in those that are stored: spare bits may repeat the sign, or be zero."""
    number %= 2**_ELEMENT
    size = stored if number < 2**stored else _ELEMENT
    return number - 2**size if number >= 2 ** (size - 1) else number
