"""Label maps: read from a file, or the brain that nilearn ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from scipy import ndimage

from perdure.data.phantom.physics import Labels, Spacing
from perdure.data.phantom.scanner import CSF, GREY, WHITE
from perdure.errors import DataError, Problem

TISSUES = {"csf": CSF, "grey_matter": GREY, "white_matter": WHITE}
"""The structures of `mni_tissues`."""

_RIM_MM = 3


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A label map and where it lies; value 0 is what surrounds it.

    Args:
        labels: whole numbers `(x, y, z)`.
        affine: 4 x 4, voxel indices to mm.
    """

    labels: Labels
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.labels.ndim != 3 or self.labels.dtype.kind not in "iu" or self.labels.size == 0:
            raise ValueError(
                f"`labels` must be whole numbers in three dimensions; got {self.labels.dtype} "
                f"of shape {self.labels.shape}."
            )
        if self.affine.shape != (4, 4) or min(self.spacing_mm) <= 0:
            raise ValueError(f"`affine` must be 4 x 4 with three directions; got {self.affine.tolist()}.")

    @property
    def spacing_mm(self) -> Spacing:
        """Voxel size along each axis, mm."""
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return first, second, third

    @classmethod
    def read(cls, path: Path | str) -> Anatomy:
        """The label map in a NIfTI file, in its own orientation.

        Raises:
            DataError: the file is missing, unreadable, not three-dimensional, or holds other than whole numbers.
        """
        try:
            image = cast("SpatialImage", nib.load(path))
            values = np.asanyarray(image.dataobj)
        except (OSError, ImageFileError, EOFError) as error:
            raise DataError([Problem(str(path), "file", str(error), "a readable NIfTI label map goes here")]) from error
        labels = np.rint(values).astype(np.int32) if values.dtype.kind == "f" else values
        if values.ndim != 3 or not np.array_equal(labels, values) or image.affine is None:
            raise DataError(
                [
                    Problem(
                        str(path),
                        "voxels",
                        f"{values.dtype} of shape {values.shape}",
                        "whole numbers in three dimensions go here",
                    )
                ]
            )
        return cls(labels, np.asarray(image.affine, dtype=np.float64))


def mni_tissues(spacing_mm: float = 2.0) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Tissue labels of the MNI152 average brain: 0 background, 1 CSF, 2 grey matter, 3 white matter.

    From the skull-stripped T1 template and the grey- and white-matter maps that nilearn ships at 1 mm (nothing is
    downloaded). Within the brain (T1 above 0, closed, plus a rim of 3 mm that stands for the subarachnoid space, which
    the template lacks) a voxel gets the likeliest of grey, white, and CSF = 1 - grey - white. Cropped to the brain.

    Args:
        spacing_mm: isotropic voxel size; the maps are averaged over a voxel before the likeliest is taken.

    Returns:
        The labels, and the affine to MNI space in mm (RAS).

    Raises:
        DataError: nilearn is not installed.
    """
    if not spacing_mm >= 1:
        raise ValueError(f"`spacing_mm` must be 1 or more, the resolution of the maps; got {spacing_mm}.")
    try:
        from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
    except ModuleNotFoundError as error:
        raise DataError(
            "The brain phantom needs nilearn, which ships the MNI152 maps, and it is not installed. "
            "Run `pip install 'perdure[demo]'`, or give a label map of your own."
        ) from error
    template = load_mni152_template(resolution=1)
    brain = ndimage.binary_closing(template.get_fdata() > 0, iterations=_RIM_MM)
    head = ndimage.binary_dilation(brain, iterations=_RIM_MM)
    grey = load_mni152_gm_template(resolution=1).get_fdata()
    white = load_mni152_wm_template(resolution=1).get_fdata()
    maps = np.stack([~head, head * np.clip(1 - grey - white, 0, 1), head * grey, head * white]).astype(np.float32)

    where = np.argwhere(head)
    start, stop = where.min(axis=0), where.max(axis=0) + 1
    grid = [np.arange(a, b, spacing_mm) for a, b in zip(start, stop, strict=True)]
    if spacing_mm != 1:
        points = np.stack(np.meshgrid(*grid, indexing="ij"))
        smooth = ndimage.gaussian_filter(maps, (0, *(spacing_mm / 2.355,) * 3))
        maps = np.stack([ndimage.map_coordinates(m, points, order=1) for m in smooth])
    else:
        maps = maps[:, *(slice(a, b) for a, b in zip(start, stop, strict=True))]
    affine = np.asarray(template.affine, dtype=np.float64).copy()
    affine[:3, 3] += affine[:3, :3] @ start
    affine[:3, :3] *= spacing_mm
    return maps.argmax(axis=0).astype(np.uint8), affine
