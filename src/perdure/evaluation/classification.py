"""What is one domain's classification worth? Kappa, accuracy and AUC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from perdure.errors import EvaluationError
from perdure.evaluation.confusion import confusion

if TYPE_CHECKING:
    from numpy.typing import NDArray


def linear_kappa(truth: NDArray[Any], prediction: NDArray[Any], classes: int) -> float:
    """Cohen's kappa with linear weights, for grades in order; see `kappa`."""
    return float(kappa(confusion(truth, prediction, classes)))


def kappa(counts: NDArray[Any], weights: Literal["linear", "none"] = "linear") -> NDArray[np.float64]:
    r"""Agreement beyond chance, from counts of pairs of classes.

    .. math:: \kappa = 1 - \frac{\sum_{ij} w_{ij} O_{ij}}{\sum_{ij} w_{ij} E_{ij}}, \qquad
              w_{ij} = \frac{|i - j|}{k - 1}

    O_ij says how often i was called j, E_ij how often that would happen by chance with the same margins; k is the
    number of classes of the label set, whether or not all of them were seen. With weights "none", w_ij is 0 on the
    diagonal and 1 elsewhere (classes without an order). For two classes both are the same.

    Source: Cohen 1968; Gupta et al. 2020, "Evaluation".

    Args:
        counts: `(..., classes, classes)`, for example of `confusion`; further axes in front are kept.
        weights: `linear` or `none`.

    Returns:
        Values in [-1, 1] of shape `(...)`; NaN where chance agreement is complete (one class only, or no case).
    """
    observed = np.asarray(counts, dtype=np.float64)
    classes = np.arange(observed.shape[-1])
    distance = np.abs(classes[:, None] - classes[None, :]).astype(np.float64)
    # without the divisor k - 1, which cancels
    w = distance if weights == "linear" else (distance > 0).astype(np.float64)
    truths, calls = np.einsum("...ij->...i", observed), np.einsum("...ij->...j", observed)
    total = np.einsum("...i->...", truths)
    # n times E_ij, so that no division is needed before the last one
    disagreement = np.einsum("...ij,ij->...", observed, w) * total
    by_chance = np.einsum("...i,...i->...", truths @ w, calls)
    ratio = np.divide(disagreement, by_chance, out=np.full(np.shape(by_chance), np.nan), where=by_chance > 0)
    return np.asarray(1 - ratio)


def accuracy(truth: NDArray[Any], prediction: NDArray[Any], classes: int) -> float:
    """The share of cases whose class was found, in [0, 1]; NaN without a case."""
    counts = confusion(truth, prediction, classes)
    return float(np.trace(counts) / counts.sum()) if counts.sum() else float("nan")


def auc(truth: NDArray[Any], probabilities: NDArray[Any]) -> float:
    r"""The area under the receiver operating characteristic curve.

    .. math:: \mathrm{AUC} = P(p^+ > p^-) + \tfrac{1}{2} P(p^+ = p^-)

    p+ and p- are the probabilities of a case that has the class and of one that has not. Two classes: of class 1. More
    classes: each against the rest, and their plain mean.

    Args:
        truth: class indices `(cases,)`.
        probabilities: `(cases, classes)`, in [0, 1].

    Returns:
        A value in [0, 1]; NaN where a class has no case or all cases, because the area of that class is not defined.

    Raises:
        EvaluationError: if shapes do not fit, a truth is not a class, or a probability is not in [0, 1].
    """
    if probabilities.ndim != 2 or truth.shape != probabilities.shape[:1]:
        raise EvaluationError(
            f"`probabilities` must have shape (cases, classes) with one row for each of the {truth.shape} truths; "
            f"got {probabilities.shape}."
        )
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise EvaluationError("`probabilities` must lie in [0, 1] and be finite; apply softmax to the logits first.")
    classes = probabilities.shape[1]
    if truth.size and not 0 <= int(truth.min()) <= int(truth.max()) < classes:
        raise EvaluationError(f"`truth` must hold classes from 0 to {classes - 1}; got {truth.min()} to {truth.max()}.")
    scored = (1,) if classes == 2 else range(classes)
    return float(np.mean([_area(truth == k, probabilities[:, k]) for k in scored]))


def classification_scores(truth: NDArray[Any], probabilities: NDArray[Any], *, ordinal: bool) -> dict[str, float]:
    """Kappa, accuracy and AUC of one domain, by the names that `Scores` uses.

    Args:
        truth: class indices `(cases,)`.
        probabilities: `(cases, classes)`; the class with the highest one is the prediction.
        ordinal: whether the classes are grades in order; only then does kappa weigh by their distance.
    """
    classes = probabilities.shape[1]
    prediction = probabilities.argmax(axis=1)
    agreement = kappa(confusion(truth, prediction, classes), weights="linear" if ordinal else "none")
    return {
        "kappa": float(agreement),
        "accuracy": accuracy(truth, prediction, classes),
        "auc": auc(truth, probabilities),
    }


def _area(positive: NDArray[np.bool_], score: NDArray[Any]) -> float:
    # Mann and Whitney: the sum of the ranks of the positive cases, ties sharing their mean rank
    positives = int(positive.sum())
    negatives = positive.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, place, tied = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(tied) - (tied - 1) / 2
    wins = ranks[place][positive].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))
