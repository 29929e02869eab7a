r"""How raw intensities become network input.

.. math::
    \text{robust:}\quad x' &= \operatorname{clip}\!\left(\frac{x - \min x}{q_{99.9}(x \mid x \ne 0) - \min x}, 0,
    1\right)\\ \text{format:}\quad x' &= x / M

and after either, where a mean μ and a deviation σ are given, x'' = (x' - μ) / σ for each channel.

Here q is the 99.9th percentile (linear between neighbours) of the voxels that are not 0, over the whole volume as it
stands in the file, before resampling; M is the largest number of the file's format (255 or 65535). An image without
contrast gives zeros.

Source: `format` is Gupta et al. 2020; `robust` follows the rescaling that FastSurfer documents for its conformed
volumes (Henschel et al. 2020), with a percentile in place of its histogram.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perdure.errors import DataError, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.data.content import Image
    from perdure.types import Intensity


def scaled(image: Image, intensity: Intensity, path: Path) -> NDArray[np.float32]:
    """The image between 0 and 1, before mean and deviation.

    Args:
        image: as it was read.
        intensity: which scaling.
        path: named in the error.

    Raises:
        DataError: `format` scaling of a file whose format has no largest number.
    """
    if intensity.scaling == "robust":
        return robust(image.pixels.astype(np.float32))
    if image.maximum is None:
        found = f"voxels of type {image.pixels.dtype}"
        raise DataError(
            [
                Problem(
                    str(path),
                    "voxels",
                    found,
                    "`format` scaling needs 8 or 16 bits unsigned; use `robust` in the contract",
                )
            ]
        )
    return image.pixels.astype(np.float32) / np.float32(image.maximum)


def robust(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The minimum becomes 0, the 99.9th percentile of what is not 0 becomes 1; the rest is clipped."""
    lowest = pixels.min()
    present = pixels[pixels != 0]
    highest = np.float32(np.percentile(present, 99.9)) if present.size else lowest
    # in float64, because the difference of two large numbers of float32 may overflow
    width = float(highest) - float(lowest)
    if width <= 0:
        return np.zeros_like(pixels)
    result: NDArray[np.float32] = ((pixels.astype(np.float64) - lowest) / width).clip(0, 1).astype(np.float32)
    return result


def standardised(pixels: NDArray[np.float32], intensity: Intensity) -> NDArray[np.float32]:
    """Takes off the mean and divides by the deviation, if the contract has them; `(slices, channels, *spatial)`."""
    spatial = (1,) * (pixels.ndim - 2)
    for values, operation in ((intensity.mean, np.subtract), (intensity.std, np.divide)):
        if values is not None:
            pixels = operation(pixels, np.asarray(values, np.float32).reshape(1, -1, *spatial))
    return pixels


def padding(intensity: Intensity, channels: int) -> NDArray[np.float32]:
    """What black (a scaled intensity of 0) is as network input; one number a channel."""
    black: NDArray[np.float32] = standardised(np.zeros((1, channels), np.float32), intensity)[0]
    return black
