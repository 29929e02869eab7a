"""The segmentation loss as one would first write it: a loop over pixels, in float64, with gradients."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

IGNORED = 255


def segmentation_loss(logits: Tensor, target: Tensor, class_weights: list[float]) -> Tensor:
    """Of logits `(batch, classes, *spatial)`; a scalar that gradients pass through."""
    classes = logits.shape[1]
    entropy, counted = torch.zeros((), dtype=torch.float64), 0
    both, predicted, true = ([torch.zeros((), dtype=torch.float64) for _ in range(classes)] for _ in range(3))
    for index in product(*(range(n) for n in target.shape)):
        y = int(target[index])
        if y == IGNORED:
            continue
        z = logits[(index[0], slice(None), *index[1:])]
        p = z.exp() / z.exp().sum()
        counted += 1
        entropy = entropy - (class_weights[y] + 2 * is_boundary(target, index)) * p[y].log()
        for c in range(classes):
            predicted[c] = predicted[c] + p[c]
            both[c] = both[c] + p[c] * (y == c)
            true[c] = true[c] + (y == c)
    dice = [(2 * both[c] + 1e-5) / (predicted[c] + true[c] + 1e-5) for c in range(classes)]
    return entropy / max(counted, 1) + 1 - sum(dice) / classes


def is_boundary(target: Tensor, index: tuple[int, ...]) -> bool:
    """Whether a pixel `(sample, *place)` has a neighbour of another class that is not ignored."""
    here = int(target[index])
    for axis, step in product(range(1, target.ndim), (-1, 1)):
        there = list(index)
        there[axis] += step
        if 0 <= there[axis] < target.shape[axis]:
            other = int(target[tuple(there)])
            if other != here and IGNORED not in (here, other):
                return True
    return False


def median_frequency(target: Tensor, classes: int) -> list[float]:
    """Class weights: the median frequency over the frequency of the class, 0 for one that is absent."""
    counts = [int((target == c).sum()) for c in range(classes)]
    present = sorted(count for count in counts if count)
    half = len(present) // 2
    median = (present[half] + present[-1 - half]) / 2 if present else 0
    return [median / count if count else 0.0 for count in counts]
