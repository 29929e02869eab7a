"""Writing: a prediction as a file that overlays its input exactly."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perdure.data.images import is_dicom_path, is_volume_file, read_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MGH_TYPES = (np.dtype(np.uint8), np.dtype(np.int16), np.dtype(np.int32))
"""All whole numbers that the MGH format knows."""


def label_name(image: Path, name: Path) -> Path:
    """What the label map of an image is called, beside those of other images: as the image, and of DICOM as what it is.

    Args:
        image: the image that was segmented.
        name: what it is called itself.
    """
    if not is_dicom_path(image):
        return name
    stem = name.name if name.name.lower().endswith(".dcm") else f"{name.name}.dcm"
    return name.with_name(f"{stem}.nii.gz" if is_volume_file(image) else f"{stem}.png")


def label_file(image: Path, labels: NDArray[np.integer], largest: int) -> bytes:
    """A label map in the format of the image that it belongs to: same grid and affine, NIfTI, MGH or PNG.

    That of a DICOM image is a compressed NIfTI, or a PNG.

    The labels of a volume are stored in its own type where that is a whole-number type that holds the whole label set,
    else in the smallest type of the format that does; those of a picture in 8 or 16 bits.

    Args:
        image: the image that was segmented.
        labels: label values on the image's own grid.
        largest: of all values that the label set has, so that every file of it gets the same type.
    """
    if not is_volume_file(image):
        import imagecodecs

        return bytes(imagecodecs.png_encode(labels.astype(np.min_scalar_type(largest))))
    import nibabel as nib

    if is_dicom_path(image):
        volume = nib.Nifti1Image(labels.astype(np.min_scalar_type(largest)), read_header(image).affine)
        return _compressed(volume.to_bytes())
    original = nib.load(image)
    assert isinstance(original, nib.Nifti1Image | nib.MGHImage)
    is_nifti = isinstance(original, nib.Nifti1Image)
    own = original.get_data_dtype()
    others = (np.min_scalar_type(largest),) if is_nifti else _MGH_TYPES
    kept = next(kind for kind in (own, *others) if kind.kind in "iu" and np.iinfo(kind).max >= largest)
    header = original.header.copy()  # type: ignore[no-untyped-call]
    header.set_data_dtype(kept)
    if is_nifti:
        # the input's display window is not that of labels
        header["cal_min"] = header["cal_max"] = 0
    content = type(original)(labels.astype(kept).reshape(original.shape), original.affine, header).to_bytes()
    return _compressed(content) if image.name.lower().endswith((".gz", ".mgz")) else bytes(content)


def _compressed(content: bytes) -> bytes:
    packed = io.BytesIO()
    # no name and no time inside, so that the same labels give the same bytes
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0, compresslevel=6) as file:
        file.write(content)
    return packed.getvalue()
