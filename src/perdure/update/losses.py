"""What a network is trained to make small."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch.nn import functional

from perdure.types import IGNORED
from perdure.update.processes import sum_over_processes

if TYPE_CHECKING:
    from torch import Tensor

    from perdure.types import Batch, Contract

Loss: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"

SMOOTH = 1e-5
BOUNDARY_WEIGHT = 2.0


def median_frequency(batches: Iterable[Batch], classes: int) -> Tensor:
    r"""Weights that let rare structures count as much as large ones.

    .. math:: w_c = \frac{\mathrm{median}(f)}{f_c}

    f_c is the share of pixels of class c over the training samples; the median is over the classes that occur, and of
    an even number of them the mean of the two in the middle. A class that does not occur gets weight 0.

    Source: Roy et al. 2019 (QuickNAT), section 2.2.

    Returns:
        float32 `(classes,)`.
    """
    counts = torch.zeros(classes, dtype=torch.float64)
    for _, target in batches:
        counts = counts.to(target.device) + torch.bincount(target[target != IGNORED].flatten(), minlength=classes)
    counts = sum_over_processes(counts)
    present = counts > 0
    weights = torch.zeros_like(counts)
    if present.any():
        weights[present] = counts[present].quantile(0.5) / counts[present]
    return weights.float()


def boundaries(target: Tensor) -> Tensor:
    """Which pixels have a neighbour of another class along some axis: bool, shape of `target` `(batch, *spatial)`.

    An ignored pixel has no class: the rim of the field of view is no boundary.
    """
    edge = torch.zeros_like(target, dtype=torch.bool)
    for axis in range(1, target.ndim):
        size = target.shape[axis] - 1
        one, other = target.narrow(axis, 0, size), target.narrow(axis, 1, size)
        differs = (one != other) & (one != IGNORED) & (other != IGNORED)
        edge.narrow(axis, 0, size).logical_or_(differs)
        edge.narrow(axis, 1, size).logical_or_(differs)
    return edge


class SegmentationLoss:
    r"""Weighted cross-entropy plus Dice loss, as QuickNAT is trained.

    .. math:: L = \frac{1}{|X|}\sum_{x} w(x)\,\bigl(-\log p_{y(x)}(x)\bigr)
              + 1 - \frac{1}{C}\sum_c \frac{2 \sum_x p_c(x)\,[y(x) = c] + \epsilon}{\sum_x p_c(x) + [y(x) = c] +
              \epsilon}

    with w(x) = median frequency weight of the class of x, plus 2 on boundaries. Sums run over all pixels of the batch
    that are not ignored, over all processes; so two processes train on the same loss as one. Our own code for that
    reason, and because MONAI's Dice takes no mask after the softmax.

    Source: Roy et al. 2019 (QuickNAT), section 2.2. One softmax, not two.

    Deviation: the paper weighs boundaries by 2 median(f) / min(f), which diverged at paper A's learning rate; 2 is
    what the authors' code adds.

    Args:
        class_weights: `(classes,)`, from `median_frequency`.
    """

    def __init__(self, class_weights: Tensor) -> None:
        self.class_weights = class_weights

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of logits `(batch, classes, *spatial)` against classes `(batch, *spatial)`."""
        output = output.float()
        known = target != IGNORED
        truth = target.masked_fill(~known, 0)
        pixel = self.class_weights.to(output.device)[truth]
        pixel = pixel + BOUNDARY_WEIGHT * boundaries(target)
        entropy = functional.cross_entropy(output, truth, reduction="none") * pixel * known
        probability = output.softmax(dim=1) * known.unsqueeze(1)
        one_hot = functional.one_hot(truth, output.shape[1]).movedim(-1, 1) * known.unsqueeze(1)
        axes = [0, *range(2, output.ndim)]
        sums = torch.cat([
            (probability * one_hot).sum(axes), probability.sum(axes), one_hot.sum(axes).to(output.dtype),
            entropy.sum().reshape(1), known.sum().to(output.dtype).reshape(1),
        ])  # fmt: skip
        sums = sum_over_processes(sums)
        both, predicted, true = sums[:-2].chunk(3)
        overlap = (2 * both + SMOOTH) / (predicted + true + SMOOTH)
        loss: Tensor = sums[-2] / sums[-1].clamp(min=1) + 1 - overlap.mean()
        return loss


class ClassificationLoss:
    """Cross-entropy, a mean over all samples of the batch on all processes.

    Source: Gupta et al. 2020, appendix A.2.
    """

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of logits `(batch, classes)` against classes `(batch,)`."""
        entropy = functional.cross_entropy(output.float(), target, reduction="sum")
        count = torch.tensor(float(len(target)), device=output.device)
        sums = sum_over_processes(torch.stack([entropy, count]))
        return sums[0] / sums[1]


def loss_for(contract: Contract, train_batches: Iterable[Batch]) -> Loss:
    """The loss of a task; class weights are counted on the training samples of the new domain."""
    if contract.task == "segmentation":
        return SegmentationLoss(median_frequency(train_batches, contract.classes))
    return ClassificationLoss()
