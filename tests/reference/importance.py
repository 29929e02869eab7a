"""Importance and its scaling as one would first write them: a loop for everything, in float64."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def mas(model: nn.Module, inputs: Tensor, output: str = "softmax") -> dict[str, Tensor]:
    """Eq. 1 of Özgün et al. 2020, sample by sample and pixel by pixel."""
    model = copy.deepcopy(model).double().eval()
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for x in inputs.double():
        model.zero_grad()
        z = model(x.unsqueeze(0))[0]
        pixels = z.reshape(len(z), -1).T
        (sum(squared_norm(pixel, output) for pixel in pixels) / len(pixels)).backward()
        for name, parameter in model.named_parameters():
            if name in sums and parameter.grad is not None:
                sums[name] += parameter.grad.abs()
    return {name: total / len(inputs) for name, total in sums.items()}


def squared_norm(z: Tensor, output: str) -> Tensor:
    """Of the output of one pixel, from its logits `(classes,)`."""
    if output == "softmax":
        p = z.exp() / z.exp().sum()
        return (p**2).sum()
    if output == "sigmoid":
        p = 1 / (1 + (-z).exp())
        return (p**2 + (1 - p) ** 2).sum()
    return (z**2).sum()


def filter_means(value: NDArray[np.float64], axis: int, groups: int = 1) -> NDArray[np.float64]:
    """Each weight's filter mean, in the weight's own shape.

    Two weights belong to one filter if they lead to the same output channel: for a transposed convolution with groups,
    `(input, output / groups, *window)`, that is the place on axis 1 and the group of the input channel.
    """

    def channel(index: tuple[int, ...]) -> tuple[int, ...]:
        if axis == 0:
            return (index[0],)
        return (index[0] // (value.shape[0] // groups), index[1])

    return _means(value, channel)


def kernel_means(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each weight's kernel mean, in the weight's own shape: the window of one pair of channels."""
    return _means(value, lambda index: index[:2])


def _means(value, key):
    members: dict[tuple[int, ...], list[float]] = {}
    indices = list(product(*(range(n) for n in value.shape)))
    for index in indices:
        members.setdefault(key(index), []).append(float(value[index]))
    result = np.zeros(value.shape)
    for index in indices:
        result[index] = sum(members[key(index)]) / len(members[key(index)])
    return result
