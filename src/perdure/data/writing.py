"""Writing: a prediction as a file that overlays its input exactly."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from perdure.data.images import is_dicom_path, is_volume_file, read_header

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    import nibabel as nib
    from numpy.typing import NDArray

    Volume: TypeAlias = nib.Nifti1Image | nib.MGHImage
    Header: TypeAlias = Any  # nibabel's headers leave most of their types out

_MGH_TYPES = (np.dtype(np.uint8), np.dtype(np.int16), np.dtype(np.int32))
"""All whole numbers that the MGH format knows."""
_SCANNER = 1
"""The code of a NIfTI affine that leads to the scanner's millimetres, as that of an MGH file does."""
_TEXTS = {"descrip", "aux_file", "db_name", "data_type", "intent_name"}
"""The fields of a NIfTI header that hold words."""


def label_file(image: Path, labels: NDArray[np.integer], largest: int, target: Path | None = None) -> bytes:
    """A label map on the grid of the image that it belongs to, with its affine: NIfTI, MGH or PNG.

    The labels of a volume are stored in its own type where that is a whole-number type of the format that holds the
    whole label set, else in the smallest that does; those of a picture in 8 or 16 bits.

    Args:
        image: the image that was segmented.
        labels: label values on the image's own grid.
        largest: of all values that the label set has, so that every file of it gets the same type.
        target: whose name says the format; that of the image if left out. NIfTI and MGH become each other, and
            DICOM either; a picture stays one.
    """
    target = target or image
    if not is_volume_file(image):
        import imagecodecs

        return bytes(imagecodecs.png_encode(labels.astype(np.min_scalar_type(largest))))
    original = _original(image)
    own = original.get_data_dtype()
    header = _header(original, target)
    types = (np.min_scalar_type(largest),) if _is_nifti(target) else _MGH_TYPES
    owns = (own,) if _is_nifti(target) or own.newbyteorder("=") in _MGH_TYPES else ()
    kept = next(kind for kind in (*owns, *types) if kind.kind in "iu" and np.iinfo(kind).max >= largest)
    header.set_data_dtype(kept)
    content = _kind(original, target)(labels.astype(kept).reshape(original.shape), original.affine, header).to_bytes()
    return _compressed(content) if _is_compressed(target) else bytes(content)


def write_probabilities(
    file: BinaryIO, image: Path, maps: Iterable[NDArray[np.float32]], classes: int, target: Path
) -> None:
    """Probabilities on the grid of an image, the class axis last in a volume and first in a picture; float32.

    A volume's are NIfTI or MGH `(x, y, z, classes)` with its affine, written class by class, so that they never stand
    in memory twice. A picture's are an array file of NumPy, `(classes, height, width)`.

    Args:
        file: open for writing.
        image: the image that was segmented.
        maps: of each class its probability on the image's own grid, in order.
        classes: how many.
        target: whose name says the format.
    """
    if not is_volume_file(image):
        np.save(file, np.stack(list(maps)).astype(np.float32), allow_pickle=False)
        return
    header = _header(_original(image), target)
    header.set_data_dtype(np.float32)
    shape = (*header.get_data_shape()[:3], classes)
    if _is_nifti(target):
        header.set_data_shape(shape)
        # nibabel says these as it saves an image, and here nothing saves one
        header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
    else:
        header["dims"] = shape  # `set_data_shape` would forget the spacing
    kind = np.dtype(np.float32).newbyteorder(header.endianness)
    if _is_compressed(target):
        # level 1, because more work makes noise no smaller
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=1) as packed:
            _write_volume(packed, header, (one.astype(kind) for one in maps), target)
    else:
        _write_volume(file, header, (one.astype(kind) for one in maps), target)


def _write_volume(
    file: BinaryIO | gzip.GzipFile, header: Header, maps: Iterable[NDArray[np.float32]], target: Path
) -> None:
    """Header, voxels with the first axis fastest, and what MGH has behind them."""
    block = header.binaryblock
    behind = b""
    if _is_nifti(target):
        start = block + b"\0" * 4  # no extensions
    else:
        from nibabel.freesurfer.mghformat import DATA_OFFSET, footer_dtype

        behind = block[-footer_dtype.itemsize :]
        start = block[: -len(behind)].ljust(DATA_OFFSET, b"\0")
    file.write(start)
    for one in maps:
        file.write(one.tobytes(order="F"))
    file.write(behind)


def _original(image: Path) -> Volume:
    """The image, opened; of a DICOM series an empty NIfTI on its grid."""
    import nibabel as nib

    if is_dicom_path(image):
        grid = read_header(image)
        volume = nib.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.affine)
        volume.set_sform(grid.affine, _SCANNER)
        volume.set_qform(grid.affine, _SCANNER)
        volume.header.set_xyzt_units("mm")
        return volume
    original = nib.load(image)
    assert isinstance(original, nib.Nifti1Image | nib.MGHImage)
    return original


def _header(original: Volume, target: Path) -> Header:
    """The image's own header where the format is the same, else a new one with the same grid and place."""
    import nibabel as nib

    empty = np.zeros(original.shape[:3], np.uint8)
    if isinstance(original, nib.Nifti1Image) == _is_nifti(target):
        header: Header = original.header.copy()  # type: ignore[no-untyped-call]
    elif _is_nifti(target):
        volume = nib.Nifti1Image(empty, original.affine)
        volume.set_sform(original.affine, _SCANNER)
        volume.set_qform(original.affine, _SCANNER)
        header = volume.header
        header.set_xyzt_units("mm")
    else:
        header = nib.MGHImage(empty, original.affine).header
    if _is_nifti(target):
        # the input's display window is not that of labels
        header["cal_min"] = header["cal_max"] = 0
        # texts that people and converters write, a patient's name among them, go no further
        for field in _TEXTS & set(header.keys()):
            header[field] = b""
        header.extensions.clear()
    return header


def _kind(original: Volume, target: Path) -> type[Volume]:
    import nibabel as nib

    if _is_nifti(target):
        return type(original) if isinstance(original, nib.Nifti1Image) else nib.Nifti1Image
    return nib.MGHImage


def _is_nifti(target: Path) -> bool:
    return target.name.lower().endswith((".nii", ".nii.gz"))


def _is_compressed(target: Path) -> bool:
    return target.name.lower().endswith((".gz", ".mgz"))


def _compressed(content: bytes) -> bytes:
    packed = io.BytesIO()
    # no name and no time inside, so that the same labels give the same bytes
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0, compresslevel=6) as file:
        file.write(content)
    return packed.getvalue()
