"""The Dice score of each structure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from perdure.evaluation.confusion import confusion
from perdure.types import IGNORED

if TYPE_CHECKING:
    from numpy.typing import NDArray


def dice(
    prediction: NDArray[Any], reference: NDArray[Any], classes: int, ignore: int | None = IGNORED
) -> NDArray[np.float64]:
    r"""The overlap of prediction and reference, structure by structure.

    .. math:: \mathrm{DSC}_k = \frac{2\,|P_k \cap T_k|}{|P_k| + |T_k|}

    P_k and T_k are the pixels that prediction and reference call structure k.

    Open in the papers, decided here: a structure that is absent in both is not counted (NaN, not 1 and not 0); absent
    in one of them, it scores 0.

    Args:
        prediction: class indices of one case, any shape, integers.
        reference: class indices of the same shape; `ignore` where a pixel does not count.
        classes: how many classes there are, background included.
        ignore: the value in `reference` whose pixels are left out on both sides.

    Returns:
        One score in [0, 1] or NaN for each class `(classes,)`; index 0 is the background.

    Raises:
        EvaluationError: if shapes differ, or a value is not a class.
    """
    counts = confusion(reference, prediction, classes, ignore=ignore)
    overlap = np.diagonal(counts).astype(np.float64)
    sizes = counts.sum(axis=0) + counts.sum(axis=1)
    scores = np.full(classes, np.nan)
    np.divide(2 * overlap, sizes, out=scores, where=sizes > 0)
    return scores
