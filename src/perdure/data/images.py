"""Reading: what stands in an image or label file, with nothing lost and nothing scaled."""

from __future__ import annotations

import gzip
import io
import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from perdure.data.content import MAX_PIXELS, Header, Image, refusal
from perdure.data.dicom.labels import read_dicom_labels
from perdure.data.dicom.series import is_dicom, is_picture, open_series, read_series
from perdure.errors import DataError
from perdure.types import MAX_VOXELS

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

    from perdure.data.content import Pixels

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
IMAGE_SUFFIXES = (".png",)

_MM = 2  # of the code for units
_MAX_EXTENSION = 64 * 2**20
"""Bytes between the header and the voxels of a NIfTI file, for extensions: dcm2niix writes a few thousand."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE, _GREY_ALPHA = 0, 3, 4


def is_volume_file(path: Path) -> bool:
    """Whether `path` is a volume: by its name, and of DICOM by what it says.

    A folder is the DICOM files of one series, and a volume.

    Raises:
        DataError: it is something that cannot be read.
    """
    name = path.name.lower()
    if name.endswith(VOLUME_SUFFIXES):
        return True
    if name.endswith(IMAGE_SUFFIXES):
        return False
    if is_dicom(path):
        return not is_picture(path)
    known = f"{', '.join(VOLUME_SUFFIXES + IMAGE_SUFFIXES)}, a DICOM file, or a folder with one DICOM series"
    found = f"a file named {path.name!r}" if path.exists() else f"no such file or folder, {path.name!r}"
    raise refusal(path, found, f"give one of {known}")


def is_dicom_path(path: Path) -> bool:
    """Whether `path` is DICOM: a folder with a series, or a file of it."""
    return not path.name.lower().endswith(VOLUME_SUFFIXES + IMAGE_SUFFIXES) and is_dicom(path)


def read_header(path: Path) -> Header:
    """Reads shape, channels and affine only.

    Raises:
        DataError: the file is not what its name says, or larger than we read.
    """
    if is_dicom_path(path):
        return open_series(path).header
    if is_volume_file(path):
        return _volume_header(path, _load_volume(path))
    try:
        with path.open("rb") as file:
            return _png_header(path, file.read(33))[0]
    except OSError as error:
        raise _unreadable(path, error) from error


def read_image(path: Path) -> Image:
    """Reads an image: every voxel, decoded and finite.

    A volume is scaled as its header says (NIfTI `scl_slope`, DICOM RescaleSlope). A picture with a palette becomes RGB;
    alpha is dropped. Of a radiograph small numbers are dark: MONOCHROME1 is turned round.

    Raises:
        DataError: the file is missing, damaged, too large, of another kind, or holds a number that is not finite.
    """
    if is_dicom_path(path):
        image = read_series(path)
        if image.pixels.dtype.kind == "f":
            _refuse_non_finite(path, image.pixels)
        return image
    if not is_volume_file(path):
        return _read_png(path, palette="colours")
    header, pixels = _read_volume(path)
    if pixels.dtype.kind == "f":
        _refuse_non_finite(path, pixels)
    maximum = {"uint8": 255, "uint16": 65535}.get(pixels.dtype.name)
    return Image(header, pixels, maximum)


def read_labels(path: Path, image: Path | None = None, structures: Mapping[str, int] | None = None) -> Image:
    """Reads a label map or a mask: whole numbers, one a pixel. A picture with a palette gives its indices.

    A volume that belongs to a DICOM series is turned to the series' grid by quarter turns and flips, which change no
    voxel, where it lies on the same grid and only counts its axes otherwise.

    Args:
        path: the file: NIfTI, MGH, PNG, DICOM SEG or RTSTRUCT.
        image: the image that it belongs to; DICOM needs it.
        structures: of DICOM the value of each structure, by `Description.structure_values`.

    Raises:
        DataError: as `read_image`; also for a number that is not whole, and for a picture with several channels.
    """
    of_dicom = image is not None and is_dicom_path(image)
    if is_dicom_path(path):
        if image is None or not of_dicom:
            raise refusal(path, "a DICOM label of an image that is no DICOM", "give a label map as NIfTI, MGH or PNG")
        return read_dicom_labels(path, image, structures or {})
    if not is_volume_file(path):
        picture = _read_png(path, palette="indices")
        if picture.header.channels != 1:
            found = f"a picture of {picture.header.channels} channels"
            raise refusal(path, found, "a label map has one channel (grey, or a palette): its value is the label")
        return Image(picture.header, picture.pixels[0], picture.maximum)
    header, pixels = _read_volume(path)
    if pixels.dtype.kind == "f":
        _refuse_non_finite(path, pixels)
        whole = np.rint(pixels).astype(np.int64)
        if (other := whole != pixels).any():
            raise refusal(
                path, f"the value {pixels[other][0]}", "labels are whole numbers; was this file interpolated?"
            )
        pixels = whole
    labels = Image(header, pixels, None)
    return _turned(labels, read_header(image)) if image is not None and of_dicom else labels


def labels_key(path: Path | None, structures: Mapping[str, int]) -> str:
    """All besides the content of a label file that decides what is read of it: of DICOM, the values of structures."""
    if path is None or not is_dicom_path(path):
        return ""
    return f" {json.dumps(dict(structures), sort_keys=True)}"


def _turned(labels: Image, header: Header) -> Image:
    """A label map with its axes in the order and direction of those of an image."""
    from nibabel import orientations

    if labels.header.affine is None or header.affine is None:
        return labels
    own, wanted = (orientations.io_orientation(affine) for affine in (labels.header.affine, header.affine))
    turn = orientations.ornt_transform(own, wanted)
    affine = labels.header.affine @ orientations.inv_ornt_aff(turn, labels.header.shape)
    pixels = orientations.apply_orientation(labels.pixels, turn)
    return Image(Header(pixels.shape, 1, affine), pixels, labels.maximum)


def _load_volume(path: Path) -> SpatialImage:
    import nibabel as nib

    try:
        _check_extension(path)
        with np.errstate(all="ignore"):  # a damaged header may hold any number; what comes of it is looked at below
            loaded = nib.load(path)
    except _volume_errors() as error:
        raise _unreadable(path, error) from error
    if not isinstance(loaded, nib.spatialimages.SpatialImage):
        raise refusal(path, f"a {type(loaded).__name__}", "give a volume as NIfTI or MGZ")
    return loaded


def _check_extension(path: Path) -> None:
    """Refuses a NIfTI file whose extension, which nibabel reads with the header, would not fit into memory."""
    from nibabel.openers import ImageOpener

    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return
    with ImageOpener(str(path)) as file:
        start = file.read(176)
    for order in "<>":
        for size, form, place in ((348, "f", 108), (540, "q", 168)):
            if len(start) == 176 and struct.unpack_from(f"{order}i", start)[0] == size:
                offset = struct.unpack_from(f"{order}{form}", start, place)[0]
                if not offset <= _MAX_EXTENSION:  # NaN is not
                    found = f"voxels that begin at byte {offset:g}"
                    raise refusal(path, found, f"at most {_MAX_EXTENSION:,} bytes of extensions are read")


def _volume_errors() -> tuple[type[Exception], ...]:
    from nibabel.filebasedimages import ImageFileError
    from nibabel.freesurfer.mghformat import MGHError
    from nibabel.spatialimages import HeaderDataError, ImageDataError
    from nibabel.wrapstruct import WrapStructError

    # all that nibabel, gzip and numpy raise on a damaged header or a file cut short
    damaged = (ImageFileError, HeaderDataError, ImageDataError, MGHError, WrapStructError, zlib.error)
    return (*damaged, OSError, EOFError, ValueError, TypeError, KeyError, OverflowError, MemoryError)


def _volume_header(path: Path, volume: SpatialImage) -> Header:
    shape = tuple(int(n) for n in volume.shape)
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise refusal(path, f"the shape {shape}", "give one volume of three dimensions a file")
    if np.prod(shape, dtype=np.float64) > MAX_VOXELS:
        raise refusal(path, f"{shape}, which is too many voxels", f"at most {MAX_VOXELS:,} are read")
    dtype = volume.get_data_dtype()
    if dtype.kind not in "iuf":
        raise refusal(path, f"voxels of type {dtype}", "give one real number a voxel")
    if volume.affine is None or not np.isfinite(volume.affine).all():
        raise refusal(path, "an affine with a number that is not finite", "mend sform or qform", field="affine")
    _check_nifti(path, volume)
    affine = np.asarray(volume.affine, np.float64)
    with np.errstate(all="ignore"):  # overflow means that the next line refuses it
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        volume_of_unit = abs(np.linalg.det(affine[:3, :3] / np.where(lengths > 0, lengths, 1)))
    if not (np.isfinite(lengths).all() and lengths.min() > 0 and volume_of_unit > 1e-3):
        raise refusal(path, "an affine that is flat: it has no inverse", "mend sform or qform", field="affine")
    return Header(shape[:3], 1, affine)


def _check_nifti(path: Path, volume: SpatialImage) -> None:
    """Refuses a NIfTI file whose affine is in another unit than mm, or says nothing of where left and right are.

    Units that are not given are taken for mm, as everybody does. nibabel makes an affine up where there is none.
    """
    from nibabel.nifti1 import Nifti1Pair

    if not isinstance(volume, Nifti1Pair):
        return
    header = volume.header
    unit = int(header["xyzt_units"]) & 7
    if unit not in (0, _MM):
        found = {1: "metres", 3: "micrometres"}.get(unit, f"the code {unit}")
        raise refusal(path, found, "lengths are in mm: convert the affine, and say so (code 2)", field="xyzt_units")
    if not (header["sform_code"] > 0 or header["qform_code"] > 0):
        allowed = "one of the two must be above 0, or left cannot be told from right; set it where you know the affine"
        raise refusal(path, "0 and 0", allowed, field="sform_code, qform_code")


def _read_volume(path: Path) -> tuple[Header, Pixels]:
    volume = _load_volume(path)
    header = _volume_header(path, volume)
    try:
        _check_complete(path, volume)
        with np.errstate(all="ignore"):  # what overflows here is refused as not finite
            pixels = np.asanyarray(volume.dataobj).reshape(header.shape)
            return header, pixels.astype(np.float32) if pixels.dtype.kind == "f" else np.ascontiguousarray(pixels)
    except _volume_errors() as error:
        raise _unreadable(path, error) from error


def _check_complete(path: Path, volume: SpatialImage) -> None:
    """Refuses a file that holds fewer bytes than its header says, before memory is taken for them, or far more.

    A compressed one is read as far as its checksum, which stands behind the voxels; nibabel stops before.
    """
    needed = volume.get_data_dtype().itemsize * math.prod(volume.shape) + getattr(volume.dataobj, "offset", 0)
    found = path.stat().st_size
    if path.name.lower().endswith((".gz", ".mgz")):
        found = 0
        with gzip.open(path) as file:
            while found <= needed + _MAX_EXTENSION and (piece := file.read(2**20)):
                found += len(piece)
        if found > needed + _MAX_EXTENSION:
            raise refusal(path, "more content than its header says", "the file is damaged: fetch it again")
    if found < needed:
        raise refusal(path, f"{found:,} bytes of {needed:,}", "the file was cut short: fetch it again")


def _png_header(path: Path, start: bytes) -> tuple[Header, int, int]:
    """Header, bit depth and colour type, from the first 33 bytes of a PNG."""
    if len(start) < 33 or not start.startswith(_PNG_SIGNATURE) or start[12:16] != b"IHDR":
        raise refusal(path, "no PNG header", "the file is damaged, or of another format than its name says")
    width, height, depth, colour = struct.unpack(">IIBB", start[16:26])
    if not 0 < width * height <= MAX_PIXELS:
        raise refusal(path, f"{height} x {width} pixels", f"at least one and at most {MAX_PIXELS:,} are read")
    return Header((height, width), 1 if colour in (_GREY, _GREY_ALPHA) else 3, None), depth, colour


def _read_png(path: Path, palette: Literal["colours", "indices"]) -> Image:
    import imagecodecs

    try:
        data = path.read_bytes()
        header, depth, colour = _png_header(path, data[:33])
        if depth == 16 and colour != _GREY:  # Pillow cuts these down to 8 bits
            pixels = np.atleast_3d(imagecodecs.png_decode(data))
        else:
            pixels = _pillow_pixels(data, header, depth, colour, palette)
    except _picture_errors() as error:
        raise _unreadable(path, error) from error
    if colour == _PALETTE:
        header = Header(header.shape, 3 if palette == "colours" else 1, None)
        depth = 8
    if pixels.shape[:2] != header.shape or pixels.shape[2] < header.channels:
        raise refusal(path, f"pixels of shape {pixels.shape}", f"the header says {header.shape}; the file is damaged")
    pixels = pixels[..., : header.channels].transpose(2, 0, 1)
    return Image(header, np.ascontiguousarray(pixels), 2**depth - 1)


def _picture_errors() -> tuple[type[Exception], ...]:
    import imagecodecs
    import PIL.Image

    # all that Pillow, libpng and zlib raise on a damaged file
    theirs: tuple[type[Exception], ...] = (imagecodecs.PngError, PIL.Image.DecompressionBombError)
    return (*theirs, OSError, SyntaxError, ValueError, EOFError, MemoryError, zlib.error, struct.error)


@contextmanager
def _whole_files_alone() -> Iterator[None]:
    """Has Pillow refuse what is cut short or damaged, whatever another library has set for all (WeasyPrint does)."""
    import PIL.ImageFile

    before, PIL.ImageFile.LOAD_TRUNCATED_IMAGES = PIL.ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        PIL.ImageFile.LOAD_TRUNCATED_IMAGES = before


def _pillow_pixels(
    data: bytes, header: Header, depth: int, colour: int, palette: Literal["colours", "indices"]
) -> Pixels:
    import PIL.Image

    with _whole_files_alone(), PIL.Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        if picture.size != header.shape[::-1]:  # a second header, and with it any size
            raise ValueError(f"one header says {header.shape}, another {picture.size[::-1]}")
        picture.load()
        if colour == _PALETTE and palette == "colours":
            return np.asarray(picture.convert("RGB"))
        pixels = np.atleast_3d(np.asarray(picture))
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8)
    # Pillow stretches grey of 2 and 4 bits to 0..255; a label map must keep its numbers
    return pixels // (255 // (2**depth - 1)) if colour == _GREY and depth in (2, 4) else pixels


def _refuse_non_finite(path: Path, pixels: Pixels) -> None:
    finite = np.isfinite(pixels)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        found = f"{pixels[where]} at {where}, and {finite.size - int(finite.sum())} voxels in all that are not finite"
        raise refusal(path, found, "every voxel must be a finite number", field="voxels")


def _unreadable(path: Path, error: Exception) -> DataError:
    what = str(error) or "no further message"
    if isinstance(error, FileNotFoundError):
        return refusal(path, "no such file", "mend the path in the manifest, or put the file there")
    return refusal(path, f"an unreadable file ({type(error).__name__}: {what})", "the file is damaged: fetch it again")
