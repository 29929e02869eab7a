r"""How raw intensities become network input.

.. math::
    \text{robust:}\quad x' &= \operatorname{clip}\!\left(\frac{x - \min x}{q_{99.9}(x \mid x \ne 0) - \min x}, 0,
    1\right)\\ \text{format:}\quad x' &= x / M\\ \text{zscore:}\quad x' &= \frac{x - \operatorname{mean}_{i \in B}
    x_i}{\operatorname{std}_{i \in B} x_i}\\ \text{window:}\quad x' &= \operatorname{clip}(x, a, b)

and after each, where a mean μ and a deviation σ are given, x'' = (x' - μ) / σ for each channel.

Here q is the 99.9th percentile (linear between neighbours) of the voxels that are not 0, over the whole volume as it
stands in the file, before resampling; M is the largest number of the file's format (255 or 65535); B is the smallest
box that holds every voxel that is not 0, or for `zscore-nonzero` those voxels with their holes filled, outside of which
x' is 0. An image without contrast gives zeros.

Source: `format` is Gupta et al. 2020; `robust` follows the rescaling that FastSurfer documents for its conformed
volumes (Henschel et al. 2020), with a percentile in place of its histogram; `zscore`, `zscore-nonzero` and `window` are
ZScoreNormalization (without and with `use_mask_for_norm`) and CTNormalization of nnU-Net v2 (Isensee et al. 2021).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.types import Intensity

_SMALLEST_DEVIATION = 1e-8


def scaled(
    pixels: NDArray[np.generic], intensity: Intensity, maximum: int | None, *, is_volume: bool
) -> NDArray[np.float32]:
    """An image before mean and deviation.

    Args:
        pixels: as they were read: a volume `(x, y, z)`, or a picture `(channels, height, width)`.
        intensity: which scaling; by `zscore` each channel of a picture is scaled by itself.
        maximum: the largest number that the file's format can hold; `format` needs it.
        is_volume: whether it is a volume.
    """
    raw = pixels.astype(np.float32)
    if intensity.scaling == "robust":
        return robust(raw)
    if intensity.scaling == "format":
        assert maximum is not None
        return raw / np.float32(maximum)
    if intensity.window is not None:
        return raw.clip(*intensity.window)
    inside = intensity.scaling == "zscore-nonzero"
    if is_volume:
        return zscore(raw, inside=inside)
    return np.stack([zscore(channel, inside=inside) for channel in raw])


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


def zscore(pixels: NDArray[np.float32], *, inside: bool) -> NDArray[np.float32]:
    """Mean 0 and deviation 1 in the smallest box around what is not 0, or `inside` it alone, with 0 outside."""
    from scipy import ndimage

    there = pixels != 0
    if not there.any():
        return np.zeros_like(pixels)
    if inside:
        counted = ndimage.binary_fill_holes(there)
    else:
        counted = np.zeros_like(there)
        counted[ndimage.find_objects(there.astype(np.uint8))[0]] = True
    values = pixels[counted].astype(np.float64)
    result = (pixels - values.mean()) / max(values.std(), _SMALLEST_DEVIATION)
    if inside:
        result[~counted] = 0
    return np.asarray(result, np.float32)


def standardised(pixels: NDArray[np.float32], intensity: Intensity) -> NDArray[np.float32]:
    """Takes off the mean and divides by the deviation, if the contract has them; `(slices, channels, *spatial)`."""
    spatial = (1,) * (pixels.ndim - 2)
    for values, operation in ((intensity.mean, np.subtract), (intensity.std, np.divide)):
        if values is not None:
            pixels = operation(pixels, np.asarray(values, np.float32).reshape(1, -1, *spatial))
    return pixels


def padding(intensity: Intensity, channels: int) -> NDArray[np.float32]:
    """What stands around an image, as network input; one number a channel.

    Black, a scaled intensity of 0; under the scalings of nnU-Net 0 after mean and deviation, as nnU-Net pads.
    """
    if intensity.scaling not in ("robust", "format"):
        return np.zeros(channels, np.float32)
    black: NDArray[np.float32] = standardised(np.zeros((1, channels), np.float32), intensity)[0]
    return black
