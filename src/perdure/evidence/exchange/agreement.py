"""Does an export say the same as the release that it was made from?

Both are led over the same images by the same `Predictor`, so that padding, windows and the way back to an image's own
grid are the same; what differs is the network alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perdure.data import prepare_image
from perdure.data.intensity import standardised
from perdure.errors import EvaluationError
from perdure.evaluation import Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.types import Contract

LIMIT = 1e-4
"""The largest share of labels that may differ: one pixel in ten thousand. Rounding alone turns fewer."""
_MADE_UP, _COARSE = 4, 8


@dataclass(frozen=True)
class Agreement:
    """How far two of one release agree.

    Args:
        inputs: on which images: how many files, or that they were made up.
        compared: labels, one a pixel of a segmentation and one an image of a classification.
        different: of these.
    """

    inputs: str
    compared: int
    different: int

    @property
    def share(self) -> float:
        """Of labels that differ."""
        return self.different / self.compared

    def check(self, limit: float, what: str) -> None:
        """Passes if no more labels differ than may.

        Raises:
            EvaluationError: if more do.
        """
        if self.share > limit:
            raise EvaluationError(
                f"{what} gives {self.different} of {self.compared} labels otherwise than the release on {self.inputs}, "
                f"a share of {self.share:.2g}; at most {limit:g} may differ (--max-disagreement). Nothing was written."
            )

    def __str__(self) -> str:
        return f"{self.compared - self.different} of {self.compared} labels are the same on {self.inputs}"


def agreement(
    release: Predictor,
    other: Predictor,
    images: Sequence[Path] = (),
    *,
    is_larger_too: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Agreement:
    """Counts the labels in which two predictors differ.

    Args:
        release: the release itself.
        other: what it became.
        images: files that both look at. Without any, images are made up: smooth noise of the size of a training sample.
        is_larger_too: whether one that is made up shall be larger than a training sample.
        progress: told how many of how many images are done.

    Raises:
        DataError: if an image cannot be read or prepared.
    """
    contract = release.contract
    inputs: Sequence[Path | NDArray[np.float32]] = images or made_up(contract, is_larger_too=is_larger_too)
    compared = different = 0
    for done, one in enumerate(inputs, 1):
        # as the network takes them, because those that are made up have no grid of their own
        pixels = prepare_image(one, contract).pixels if isinstance(one, Path) else one
        first, second = (_labels(predictor, pixels) for predictor in (release, other))
        compared += first.size
        different += int(np.count_nonzero(first != second))
        progress(done, len(inputs))
    said = f"{len(inputs)} image{'' if len(inputs) == 1 else 's'}"
    return Agreement(said if images else f"{said} made of noise", compared, different)


def _labels(predictor: Predictor, pixels: NDArray[np.float32]) -> NDArray[np.generic]:
    if predictor.contract.task == "classification":
        return np.asarray(predictor.probabilities(pixels).argmax(axis=1))
    return predictor.classes_on_network_grid(pixels)


def made_up(contract: Contract, *, is_larger_too: bool = False) -> list[NDArray[np.float32]]:
    """A few inputs of a network `(1, channels, *size)`: smooth noise in [0, 1], scaled as the contract has it."""
    import torch

    generator = torch.Generator().manual_seed(0)
    mode = "bilinear" if contract.spatial_dims == 2 else "trilinear"
    larger = tuple(extent + _COARSE * (axis + 1) for axis, extent in enumerate(contract.size))
    sizes = [contract.size] * _MADE_UP + [larger] * is_larger_too
    inputs = []
    for size in sizes:
        coarse = torch.rand((1, contract.channels, *(-(-extent // _COARSE) for extent in size)), generator=generator)
        noise = torch.nn.functional.interpolate(coarse, size, mode=mode, align_corners=False)
        inputs.append(standardised(noise.numpy(), contract.intensity))
    return inputs
