"""What a segmentation of one image is, whether one release made it or several together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.data.content import Header
    from perdure.types import Contract


@dataclass(frozen=True)
class Segmented:
    """One image, segmented.

    Args:
        classes: the class index of every pixel, on the image's own grid.
        header: of the image.
        probability: of one class by its index, on the image's own grid; the classes add up to 1. None unless asked for.
    """

    classes: NDArray[np.uint8]
    header: Header
    probability: Callable[[int], NDArray[np.float32]] | None = None


class Segmenter(Protocol):
    """Whatever segments images: `Predictor`, or `ViewAggregation`."""

    contract: Contract

    def segmented(self, file: Path, *, probabilities: bool = False) -> Segmented:
        """One image file, segmented.

        Args:
            file: the image.
            probabilities: whether they are kept; they take four bytes a class and voxel of the network's grid.

        Raises:
            DataError: if the file cannot be read or prepared.
            EvaluationError: if the network's output does not fit the contract.
        """
        ...


def label_values(contract: Contract) -> NDArray[np.unsignedinteger]:
    """The value that a label file has for each class; of a merged structure its first."""
    values = [structure.values[0] for structure in contract.structures]
    return np.array(values, np.min_scalar_type(max(values)))
