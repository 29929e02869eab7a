"""Compressed frames, decoded by codecs that a damaged file does not bring down.

pydicom would try GDCM where it is installed, which ends the whole process on some damaged frames (an assertion in its
C++ code, seen with 3.2.6), and a frame whose own header names another size than the file makes any codec reserve what
that asks for. So the size in a frame is compared with that of the file before it is decoded, and libjpeg-turbo, CharLS
and OpenJPEG (in imagecodecs) decode it. Run lengths and frames that are not compressed are pydicom's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

Family: TypeAlias = Literal["JPEG", "JPEG-LS", "JPEG 2000"]

FAMILIES: dict[str, Family] = {
    "1.2.840.10008.1.2.4.50": "JPEG",  # baseline, 8 bits
    "1.2.840.10008.1.2.4.51": "JPEG",  # extended, 12 bits
    "1.2.840.10008.1.2.4.57": "JPEG",  # lossless
    "1.2.840.10008.1.2.4.70": "JPEG",  # lossless, first-order prediction: what most mammographs write
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "JPEG 2000",  # high throughput, as the next two
    "1.2.840.10008.1.2.4.202": "JPEG 2000",
    "1.2.840.10008.1.2.4.203": "JPEG 2000",
}
"""The codec of each transfer syntax that is decoded here."""

_JPEG_SIZES = (0xC0, 0xC1, 0xC2, 0xC3, 0xF7)  # markers of headers that name a size; the last is that of JPEG-LS
_SCAN = 0xDA


class CodecError(ValueError):
    """A frame cannot be decoded as what it should be."""


def decoded_frames(dataset: Dataset, family: Family) -> NDArray[np.integer]:
    """All frames, `(frames, rows, columns)` or with RGB last.

    Raises:
        CodecError: a frame is damaged, or of another size than the file says.
    """
    shape = (int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel", 1)))
    photometric = str(dataset.PhotometricInterpretation)
    frames = []
    for frame in _frames(dataset):
        if (found := frame_shape(frame, family)) != shape:
            raise CodecError(f"a frame of {found} rows, columns and samples where the file says {shape}")
        frames.append(_decoded(frame, family, photometric, shape))
    return np.stack(frames)


def frame_shape(frame: bytes, family: Family) -> tuple[int, int, int] | None:
    """Rows, columns and samples that a frame says it has; None if it does not."""
    return _jpeg_2000_shape(frame) if family == "JPEG 2000" else _jpeg_shape(frame)


def _frames(dataset: Dataset) -> Iterator[bytes]:
    from pydicom.encaps import generate_frames

    number = int(dataset.get("NumberOfFrames", 1) or 1)
    extended = None
    if dataset.get("ExtendedOffsetTable") and dataset.get("ExtendedOffsetTableLengths"):
        extended = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    count = 0
    for frame in generate_frames(dataset.PixelData, number_of_frames=number, extended_offsets=extended):
        count += 1
        if count > number:
            raise CodecError("more frames than the file says")
        yield frame
    if count != number:
        raise CodecError(f"{count} frames where the file says {number}")


def _decoded(frame: bytes, family: Family, photometric: str, shape: tuple[int, int, int]) -> NDArray[np.integer]:
    import imagecodecs

    pixels: NDArray[np.integer]
    try:
        if family == "JPEG 2000":
            pixels = imagecodecs.jpeg2k_decode(frame)  # undoes its own colour transform
        elif family == "JPEG-LS":
            pixels = imagecodecs.jpegls_decode(frame)
        elif shape[2] == 1:
            pixels = imagecodecs.jpeg8_decode(frame)
        else:
            coded = "YCBCR" if photometric.startswith("YBR") else "RGB"
            pixels = imagecodecs.jpeg8_decode(frame, colorspace=coded, outcolorspace="RGB")
    except (RuntimeError, ValueError, TypeError, MemoryError, OverflowError) as error:
        raise CodecError(str(error)) from error
    if pixels.size != np.prod(shape) or pixels.dtype.kind not in "iu":
        raise CodecError(f"{pixels.shape} numbers of type {pixels.dtype}")
    return pixels.reshape(shape[:2] if shape[2] == 1 else shape)


def _jpeg_shape(frame: bytes) -> tuple[int, int, int] | None:
    """Out of the one header with a size; a second one would be decoded instead of it."""
    at, found = 2, None
    while at + 10 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # a byte that only fills
            at += 1
            continue
        if marker in _JPEG_SIZES:
            if found is not None:
                return None
            found = (_number(frame, at + 5, 2), _number(frame, at + 7, 2), frame[at + 9])
        if marker == _SCAN:
            return found
        at += 2 + _number(frame, at + 2, 2)
    return None


def _jpeg_2000_shape(frame: bytes) -> tuple[int, int, int] | None:
    """Out of the SIZ segment, which comes first: size of the grid less its offset, components without subsampling."""
    if frame[:4] != b"\xff\x4f\xff\x51" or len(frame) < 42:
        return None
    width, height, left, top = (_number(frame, at, 4) for at in (8, 12, 16, 20))
    tile_width, tile_height = _number(frame, 24, 4), _number(frame, 28, 4)
    samples = _number(frame, 40, 2)
    steps = [frame[at : at + 2] for at in range(43, 43 + 3 * samples, 3)] if samples <= 3 else []
    if set(steps) != {b"\x01\x01"} or min(tile_width, tile_height) < min(64, height - top, width - left):
        return None
    return height - top, width - left, samples


def _number(frame: bytes, at: int, count: int) -> int:
    return int.from_bytes(frame[at : at + count], "big")
