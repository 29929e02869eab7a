"""The gradient that one sample gives the parameters of one layer, from the layer's input and its output's gradient.

A layer is known here where the gradient of each sample can be had from a batch: it treats the samples of a batch one by
one, and its parameters act in its own `forward` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from perdure.models.kernels import OneSlopePReLU

Gradient: TypeAlias = Callable[[int, int], Tensor]
"""The gradients of samples `first` to `last` (excluded), `(samples, *parameter)`."""

Rule: TypeAlias = Callable[[Any, Tensor, Tensor], dict[str, Gradient]]
"""From a layer, its input and the gradient of its output, both `(batch, ...)`, to the gradient of each parameter."""


SMALL = 2**16
"""A sample of so few numbers, times the pixels of a kernel, leaves the machine waiting: several go in one call, which
would take longer for larger ones."""


def _convolution(layer: Any, x: Tensor, g: Tensor) -> dict[str, Gradient]:
    dims = len(layer.kernel_size)
    padding = layer.padding if isinstance(layer.padding, tuple) else _same_padding(layer)
    # of single pixels the plain matrix product is faster here, see `perdure.models.kernels`
    dilation = (1,) * dims if set(layer.kernel_size) == {1} else layer.dilation
    transposed, more = isinstance(layer, TRANSPOSED), getattr(layer, "output_padding", (0,) * dims)
    shape = layer.weight.shape

    def of(x: Tensor, g: Tensor, weight: Tensor, groups: int) -> Tensor:
        found = torch.ops.aten.convolution_backward(
            g, x, weight.to(g), None, layer.stride, padding, dilation, transposed, more, groups, (False, True, False)
        )
        return cast("Tensor", found[1])

    def weight(first: int, last: int) -> Tensor:
        if last - first > 1 and x[0].numel() * math.prod(layer.kernel_size) <= SMALL:
            # samples side by side as groups of one convolution
            inputs, gradients = (t[first:last].reshape(1, -1, *t.shape[2:]) for t in (x, g))
            weights = layer.weight.repeat(last - first, *[1] * (dims + 1))
            return of(inputs, gradients, weights, (last - first) * layer.groups).reshape(last - first, *shape)
        # one at a time: as groups, or as a matrix product of unfolded inputs, all but small shapes took up to 20 times
        each = [of(x[i : i + 1], g[i : i + 1], layer.weight, layer.groups) for i in range(first, last)]
        return torch.stack(each) if len(each) > 1 else each[0][None]

    return {"weight": weight, "bias": lambda first, last: g[first:last].flatten(2).sum(dim=2)}


def _same_padding(layer: Any) -> tuple[int, ...]:
    if layer.padding == "valid":
        return (0,) * len(layer.kernel_size)
    return tuple(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))


def _linear(_: Any, x: Tensor, g: Tensor) -> dict[str, Gradient]:
    x, g = x.reshape(len(x), -1, x.shape[-1]), g.reshape(len(g), -1, g.shape[-1])
    return {
        "weight": lambda first, last: g[first:last].transpose(1, 2) @ x[first:last],
        "bias": lambda first, last: g[first:last].sum(dim=1),
    }


def _batch_norm(layer: Any, x: Tensor, g: Tensor) -> dict[str, Gradient]:
    mean, variance = layer.running_mean, layer.running_var
    if x[0].numel() <= SMALL:
        return _scaled(lambda _, part: functional.batch_norm(part, mean, variance, eps=layer.eps))(layer, x, g)

    # both at once, from one reading of the input and the gradient
    def of_one(i: int) -> tuple[Tensor, Tensor]:
        found = torch.ops.aten.native_batch_norm_backward(
            g[i : i + 1], x[i : i + 1], layer.weight, mean, variance, None, None, False, layer.eps, (False, True, True)
        )
        return found[1], found[2]

    weights, biases = (torch.stack(each) for each in zip(*(of_one(i) for i in range(len(g))), strict=True))
    return {"weight": lambda first, last: weights[first:last], "bias": lambda first, last: biases[first:last]}


def _scaled(normalised: Callable[[Any, Tensor], Tensor]) -> Rule:
    """A layer that scales and shifts each channel of what it has normalised."""

    def rule(layer: Any, x: Tensor, g: Tensor) -> dict[str, Gradient]:
        def weight(first: int, last: int) -> Tensor:
            product = normalised(layer, x[first:last]).mul_(g[first:last])
            return product.reshape(*product.shape[:2], -1).sum(dim=2)

        def bias(first: int, last: int) -> Tensor:
            return g[first:last].reshape(*g[first:last].shape[:2], -1).sum(dim=2)

        return {"weight": weight, "bias": bias}

    return rule


def _layer_norm(layer: Any, x: Tensor, g: Tensor) -> dict[str, Gradient]:
    shape = layer.normalized_shape

    def weight(first: int, last: int) -> Tensor:
        product = functional.layer_norm(x[first:last], shape, eps=layer.eps) * g[first:last]
        return product.reshape(last - first, -1, *shape).sum(dim=1)

    return {"weight": weight, "bias": lambda first, last: g[first:last].reshape(last - first, -1, *shape).sum(dim=1)}


def _prelu(layer: Any, x: Tensor, g: Tensor) -> dict[str, Gradient]:
    def weight(first: int, last: int) -> Tensor:
        product = x[first:last].clamp(max=0).mul_(g[first:last])
        if layer.num_parameters > 1:
            return product.reshape(last - first, x.shape[1], -1).sum(dim=2)
        return product.sum(dim=tuple(range(1, x.ndim)))[:, None]

    return {"weight": weight}


TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

RULES: Mapping[type[nn.Module], Rule] = MappingProxyType(
    {
        **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED), _convolution),
        nn.Linear: _linear,
        **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm), _batch_norm),
        **dict.fromkeys(
            (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
            _scaled(lambda layer, x: functional.instance_norm(x, eps=layer.eps)),
        ),
        nn.GroupNorm: _scaled(lambda layer, x: functional.group_norm(x, layer.num_groups, eps=layer.eps)),
        nn.LayerNorm: _layer_norm,
        nn.PReLU: _prelu,
        OneSlopePReLU: _prelu,
    }
)
"""By the very class of a layer: one that inherits from it may do something else."""


def is_known(layer: nn.Module) -> bool:
    """Whether there is a rule for a layer with its settings."""
    if type(layer) not in RULES:
        return False
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        return False
    if getattr(layer, "padding", None) == "same":
        spans = [d * (k - 1) for d, k in zip(cast("Any", layer).dilation, cast("Any", layer).kernel_size, strict=True)]
        return all(span % 2 == 0 for span in spans)
    # with running statistics instance norm is another function, and batch norm without them mixes the samples
    tracked = getattr(layer, "track_running_stats", None)
    return tracked is None or tracked is not isinstance(
        layer, nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d
    )
