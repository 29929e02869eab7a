"""Seeded augmentation: the same sample of the same epoch is always changed in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.types import Contract

# neither paper states its augmentation; these are ours, small enough that no structure leaves the picture
ROTATION = np.pi / 18  # 10 degrees either way
ZOOM = 0.1  # a tenth larger or smaller
SHIFT = 0.05  # of the size, either way
SCALE = 0.1  # of the intensity
OFFSET = 0.05  # in units of the network's input
GAMMA = (0.8, 1.25)
NOISE = 0.02  # standard deviation, in units of the network's input
PROBABILITY = 0.8  # that a sample is rotated, zoomed and shifted
SOMETIMES = 0.3  # that its intensity is changed; each change by itself


class Augmentation:
    """Small rotation, zoom and shift; then scale, offset, gamma and noise; a picture with a class may also be mirrored.

    What comes in over a border is the border's own value. Labels take the nearest one, so that none is invented. A
    segmentation is never mirrored: left and right are structures of their own.

    Args:
        contract: of the samples.
    """

    def __init__(self, contract: Contract) -> None:
        from monai import transforms

        dims = contract.spatial_dims
        self._keys = ["image", "target"] if contract.task == "segmentation" else ["image"]
        steps = [
            transforms.RandAffined(
                self._keys,
                prob=PROBABILITY,
                rotate_range=[ROTATION] * (1 if dims == 2 else 3),
                scale_range=[ZOOM] * dims,
                translate_range=[SHIFT * extent for extent in contract.size],
                mode=["bilinear", "nearest"][: len(self._keys)],
                padding_mode="border",
            ),
            transforms.RandScaleIntensityd("image", factors=SCALE, prob=SOMETIMES),
            transforms.RandShiftIntensityd("image", offsets=OFFSET, prob=SOMETIMES),
            transforms.RandAdjustContrastd("image", gamma=GAMMA, prob=SOMETIMES),
            transforms.RandGaussianNoised("image", std=NOISE, prob=SOMETIMES),
        ]
        if contract.task == "classification" and not contract.is_volumetric:
            steps.append(transforms.RandFlipd("image", prob=0.5, spatial_axis=1))
        self._steps = transforms.Compose(steps)

    def __call__(
        self, image: NDArray[np.float32], target: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """One sample, changed.

        Args:
            image: `(channels, *size)`.
            target: `size`, or a class without axes, which is not changed.
            rng: decides how.
        """
        sample = {"image": image, "target": target[None]}
        self._steps.set_random_state(seed=int(rng.integers(2**32)))
        changed = self._steps({key: sample[key] for key in self._keys})
        new = np.asarray(changed["image"], np.float32)
        return new, np.asarray(changed["target"])[0].astype(np.uint8) if "target" in changed else target
