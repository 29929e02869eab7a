"""What an image or label file holds, whatever its format, and how large it may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from perdure.errors import DataError, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels: TypeAlias = "NDArray[np.generic]"

MAX_PIXELS = 80_000_000
"""The most pixels of a picture: more is a mistake or a decompression bomb (Pillow itself warns above 89 million)."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are read.

    Args:
        shape: voxels along the three axes of a volume, or height and width of a picture.
        channels: 1 or 3; alpha does not count.
        affine: voxel indices to mm (4x4), as in NIfTI; None for a picture.
        modality: CT, MR, MG ... as DICOM has it; empty where a format says nothing of it.
    """

    shape: tuple[int, ...]
    channels: int
    affine: NDArray[np.float64] | None
    modality: str = ""

    @property
    def is_volume(self) -> bool:
        """Whether the file holds a volume with an affine."""
        return self.affine is not None


@dataclass(frozen=True)
class Image:
    """The content of one file, in its own numbers.

    Args:
        header: shape, channels and affine.
        pixels: of a volume `(x, y, z)`, of a picture `(channels, height, width)`; of labels `shape`.
        maximum: the largest number that the format can hold (1, 3, 15, 255 or 65535; of DICOM that of the bits that it
            says it stores, 4095 or 16383 for example); None where there is no such number, as in a file of
            floating-point numbers.
    """

    header: Header
    pixels: Pixels
    maximum: int | None


def refusal(path: Path, found: str, allowed: str, field: str = "content") -> DataError:
    """The error for one file that cannot be read as it is."""
    return DataError([Problem(str(path), field, found, allowed)])
