"""The numbers in the pixels of one DICOM file: what is stored, and what it means."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perdure.data.content import refusal
from perdure.data.dicom.codecs import FAMILIES, decoded_frames
from perdure.data.dicom.instances import Instance, Plane
from perdure.data.dicom.opening import quiet, read_dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset


_PYDICOM = {
    "1.2.840.10008.1.2": "",
    "1.2.840.10008.1.2.1": "",
    "1.2.840.10008.1.2.1.99": "",  # deflated as a whole
    "1.2.840.10008.1.2.2": "",
    "1.2.840.10008.1.2.5": "pydicom",  # run lengths; the plugin of GDCM would do, and is not to be trusted
}
"""Transfer syntaxes whose pixels pydicom itself decodes, and its plugin for that."""


def stored(place: Path, instance: Instance) -> NDArray[np.integer]:
    """The stored numbers, MONOCHROME1 turned so that large is bright: `(frames, rows, columns)`, or with channels last.

    Raises:
        DataError: the pixels cannot be decoded, or hold numbers beyond the bits that the file says it stores.
    """
    dataset = read_dataset(place, instance.file, instance.called, pixels=True)
    pixels = decoded(place, instance.called, dataset)
    grey = (instance.frames, instance.rows, instance.columns)
    shape = grey if instance.channels == 1 else (*grey, instance.channels)
    if pixels.size != np.prod(shape) or pixels.dtype.kind not in "iu":
        found = f"{pixels.shape} numbers of type {pixels.dtype} in {instance.called}"
        raise refusal(place, found, f"its header says {shape}; the file is damaged", "PixelData")
    pixels = _as_allocated(instance, pixels.reshape(shape))
    pixels = _within_bits(place, instance, pixels)
    if not instance.inverted:
        return pixels
    lowest, highest = limits(instance)
    return np.asarray(lowest + highest - pixels.astype(np.int64), pixels.dtype)


def decoded(place: Path, called: str, dataset: Dataset) -> NDArray[np.integer]:
    """The numbers of all frames as they were coded; YBR comes as RGB.

    Raises:
        DataError: they cannot be decoded, or are coded in a way that is not read.
    """
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.get("TransferSyntaxUID", "")
    syntax = syntax if isinstance(syntax, str) else ""  # of a damaged file it may be several
    coding = getattr(syntax, "name", "") or "unknown coding"
    if syntax not in FAMILIES and syntax not in _PYDICOM:
        raise refusal(place, f"pixels of {called} in {coding}", "RLE, JPEG, JPEG-LS or JPEG 2000", "TransferSyntaxUID")
    try:
        with quiet():
            if syntax in FAMILIES:
                return decoded_frames(dataset, FAMILIES[syntax])
            if not _PYDICOM[syntax] and dataset["PixelData"].is_undefined_length:
                # pydicom would take compressed bytes for pixels where there are enough of them
                raise ValueError
            pixels: NDArray[np.integer] = pixel_array(
                dataset, correct_unused_bits=False, decoding_plugin=_PYDICOM[syntax]
            )
            return pixels
    except _undecodable() as error:
        found = f"pixels of {called} that cannot be decoded ({coding})"
        raise refusal(place, found, "the file is damaged: fetch it again", "PixelData") from error


def limits(instance: Instance) -> tuple[int, int]:
    """The smallest and the largest number that the stored bits can hold."""
    return (-(2 ** (instance.bits - 1)), 2 ** (instance.bits - 1) - 1) if instance.signed else (0, 2**instance.bits - 1)


def rescaled(pixels: NDArray[np.integer], plane: Plane) -> NDArray[np.integer] | NDArray[np.float32]:
    """What stored numbers mean: slope x number + intercept, whole numbers where both are."""
    if (plane.slope, plane.intercept) == (1, 0):
        return pixels
    meant = pixels.astype(np.float64) * plane.slope + plane.intercept
    whole = plane.slope.is_integer() and plane.intercept.is_integer() and np.abs(meant).max() < 2**31
    return meant.astype(np.int32) if whole else meant.astype(np.float32)


def padded(instance: Instance, pixels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Where numbers, as `stored` gives them, stand for no pixel."""
    if instance.padding is None:
        return np.zeros(pixels.shape, np.bool_)
    first, last = instance.padding
    if instance.inverted:
        whole = sum(limits(instance))
        first, last = whole - last, whole - first
    return np.asarray((pixels >= first) & (pixels <= last), np.bool_)


def darken(place: Path, pixels: NDArray[np.generic], padding: NDArray[np.bool_]) -> None:
    """Makes padding as dark as the darkest pixel of an image that is none.

    0 stays 0 where no pixel is below it, because scalings leave 0 out as what is no tissue.

    Args:
        place: what the user has named.
        pixels: of the whole image, as they are meant; changed in place.
        padding: where they are padding.

    Raises:
        DataError: there is nothing but padding.
    """
    if padding.all():
        allowed = "an image has pixels of its own; if the element is wrong, remove it"
        raise refusal(place, "nothing but padding", allowed, "PixelPaddingValue")
    if padding.any():
        darkest = np.min(pixels, where=~padding, initial=pixels.max())
        pixels[padding] = 0 if darkest > 0 and (pixels[padding] == 0).any() else darkest


def _as_allocated(instance: Instance, pixels: NDArray[np.integer]) -> NDArray[np.integer]:
    """In the type that the file says: codecs know neither the sign of a number nor how many bits were set aside."""
    size = (instance.bits + instance.spare) // 8
    if pixels.dtype.itemsize < size:
        pixels = pixels.astype(np.dtype(f"{pixels.dtype.kind}{size}"))
    kind = np.dtype(f"{'i' if instance.signed else 'u'}{pixels.dtype.itemsize}")
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False).view(kind)


def _within_bits(place: Path, instance: Instance, pixels: NDArray[np.integer]) -> NDArray[np.integer]:
    if instance.spare == 0:
        return pixels
    mask = 2**instance.bits - 1
    if instance.signed:
        # the spare bits of a negative number may repeat its sign, or be zero
        meant = (pixels << instance.spare) >> instance.spare
        fits = (meant == pixels) | ((pixels & mask) == pixels)
    else:
        meant = pixels & mask
        fits = meant == pixels
    if instance.shared or bool(fits.all()):
        return meant.astype(pixels.dtype)
    found = f"the number {int(pixels[~fits][0])} in {instance.called}"
    raise refusal(place, found, f"{instance.bits} bits are stored, it says; mend BitsStored", "PixelData")


def _undecodable() -> tuple[type[Exception], ...]:
    # all that pydicom and its decoders raise on pixels that are cut short, damaged or of an unknown coding
    damaged = (RuntimeError, NotImplementedError, ValueError, TypeError, AttributeError, KeyError, IndexError)
    return (*damaged, struct.error, zlib.error, EOFError, OSError, OverflowError, MemoryError)
