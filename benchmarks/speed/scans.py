"""Files as a clinic has them in size: volumes and pictures, drawn at random."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

AFFINE = np.array([[-1, 0, 0, 128], [0, 0, 1, -128], [0, -1, 0, 128], [0, 0, 0, 1]], float)
"""Of a conformed volume: 1 mm, axes to the left, down and to the front (LIA), the last one across coronal slices."""


def volume(file: Path, pixels: int, slices: int) -> Path:
    """A round, smooth head in 16 bits, `(pixels, pixels, slices)`; what is there already is left."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(0)
        coarse = draw.random([max(2, extent // 8) for extent in (pixels, pixels, slices)], np.float32)
        shape = np.array((pixels, pixels, slices)) / coarse.shape
        smooth = ndimage.zoom(coarse, shape, order=1)[:pixels, :pixels, :slices]
        axes = np.meshgrid(*[np.linspace(-1, 1, extent) for extent in smooth.shape], indexing="ij", sparse=True)
        head = sum(axis**2 for axis in axes) < 0.8
        content = np.where(head, 200 + 800 * smooth, 0).astype(np.int16)
        nib.save(nib.Nifti1Image(content, AFFINE), file)
    return file


def pictures(folder: Path, pixels: int, number: int) -> Path:
    """So many smooth pictures in colour, PNG."""
    from PIL import Image

    if not folder.exists():
        folder.mkdir(parents=True)
        draw = np.random.default_rng(0)
        for k in range(number):
            coarse = draw.random((max(2, pixels // 8), max(2, pixels // 8), 3))
            smooth = ndimage.zoom(coarse, (pixels / coarse.shape[0], pixels / coarse.shape[1], 1), order=1)
            Image.fromarray((255 * smooth).clip(0, 255).astype(np.uint8)).save(folder / f"picture-{k:03}.png")
    return folder
