"""How often was each class called which?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from perdure.errors import EvaluationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pixels counted at once: keeps the 64-bit indices of a 256^3 volume at 32 MiB instead of 400.
_PIECE = 2**22


def confusion(
    reference: NDArray[Any], prediction: NDArray[Any], classes: int, *, ignore: int | None = None
) -> NDArray[np.int64]:
    """Counts pairs of classes.

    Args:
        reference: class indices of any shape and integer type.
        prediction: class indices of the same shape.
        classes: how many classes there are; indices run from 0 to `classes` - 1.
        ignore: the value in `reference` whose elements are left out.

    Returns:
        Counts `(classes, classes)`: entry [i, j] says how often i was called j.

    Raises:
        EvaluationError: if shapes differ, or a value is not a class.
    """
    if reference.shape != prediction.shape:
        raise EvaluationError(
            f"`prediction` has shape {prediction.shape} and `reference` {reference.shape}; they must be the same. "
            "Bring the prediction back to the grid of the reference first."
        )
    _check_integers("reference", reference)
    _check_integers("prediction", prediction)
    flat_reference, flat_prediction = reference.ravel(), prediction.ravel()
    counts = np.zeros(classes * classes, dtype=np.int64)
    for start in range(0, flat_reference.size, _PIECE):
        rows, columns = flat_reference[start : start + _PIECE], flat_prediction[start : start + _PIECE]
        if ignore is not None and not (counted := rows != ignore).all():
            rows, columns = rows[counted], columns[counted]
        _check_classes("reference", rows, classes, ignore)
        _check_classes("prediction", columns, classes, None)
        cells = rows.astype(np.intp) * classes
        cells += columns.astype(np.intp, copy=False)
        counts += np.bincount(cells, minlength=classes * classes)
    return counts.reshape(classes, classes)


def _check_integers(name: str, values: NDArray[Any]) -> None:
    if values.dtype.kind not in "iub":
        raise EvaluationError(f"`{name}` must hold class indices of an integer type; got {values.dtype}.")


def _check_classes(name: str, values: NDArray[Any], classes: int, ignore: int | None) -> None:
    if values.size == 0:
        return
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= classes:
        besides = "" if ignore is None else f", or {ignore} for what does not count"
        raise EvaluationError(
            f"`{name}` holds the value {low if low < 0 else high}; class indices run from 0 to {classes - 1}{besides}."
        )
