r"""Batch norm over the batch of all processes, exact, on any device.

.. math::
    \mu = \frac{1}{n} \sum_p \sum_{i \in p} x_i, \qquad
    \sigma^2 = \frac{1}{n} \sum_p \sum_{i \in p} (x_i - \mu)^2, \qquad n = \sum_p n_p

The centred squares are summed in a second pass: :math:`E[x^2] - \mu^2` cancels where the mean is large. torch's
`SyncBatchNorm` refuses tensors on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from perdure.errors import BatchNormError
from perdure.models.batch_norm import batch_norms

Sum: TypeAlias = "Callable[[Tensor], Tensor]"
"""Sums a tensor over all processes, differentiably: its backward sums the gradients over all processes."""


@contextmanager
def synchronized_batch_norm(model: nn.Module, sum_over_processes: Sum) -> Iterator[None]:
    """Makes every batch norm that uses batch statistics use those of all processes together.

    Every process must run the same layers in the same order. Shards may differ in size, or be empty. Classes and
    state-dict keys stay as they are; the override is gone at the end. Gradients of the affine parameters are those of
    the process's own shard: the caller adds them up, as for any other parameter.

    Args:
        model: any network; without batch norm nothing happens.
        sum_over_processes: a differentiable all-reduce, called twice a batch norm.

    Raises:
        BatchNormError: if a batch norm has a `forward` of its own, or all processes together hold a single value a
            channel.
    """
    norms = batch_norms(model)
    for name, norm in norms.items():
        if "forward" in vars(norm) or type(norm).forward not in (_BatchNorm.forward, nn.SyncBatchNorm.forward):
            raise BatchNormError(
                f"Batch norm '{name}' ({type(norm).__name__}) has a `forward` of its own, which cannot be run over "
                "several processes. Use torch's batch norm, or one process."
            )
    processes = _Processes(sum_over_processes)
    try:
        for norm in norms.values():
            vars(norm)["forward"] = partial(_forward, norm, processes)
        yield
    finally:
        processes.active = False
        for norm in norms.values():
            vars(norm).pop("forward", None)


class _Processes:
    """The sum over all processes, and whether the context it was made for still runs.

    A deep copy of the network made inside carries the override away; it shares this object, and is inert afterwards.
    """

    def __init__(self, sum_over_processes: Sum) -> None:
        self.sum = sum_over_processes
        self.active = True

    def __deepcopy__(self, memo: object) -> _Processes:
        return self


def _forward(norm: _BatchNorm, processes: _Processes, x: Tensor) -> Tensor:
    uses_batch = norm.training or (norm.running_mean is None and norm.running_var is None)
    if not (processes.active and uses_batch):
        output: Tensor = type(norm).forward(norm, x)
        return output
    norm._check_input_dim(x)
    # float32 for half precision, as torch's own batch norm
    values = x if x.dtype == torch.float64 else x.float()
    per_channel = [1, -1] + [1] * (x.ndim - 2)
    mean, squares, count = _moments(values, processes.sum)
    if count <= 1:
        raise BatchNormError(
            f"Batch norm over all processes needs more than one value a channel in training; got {count} "
            f"(input {tuple(x.shape)} here). Use larger batches or images."
        )
    variance = squares / count
    if norm.training:
        _track(norm, mean.detach(), squares.detach() / (count - 1))
    scale = torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    y = (values - mean.view(per_channel)) * scale.view(per_channel)
    if norm.bias is not None:
        y = y + norm.bias.view(per_channel)
    return y.to(x.dtype)


def _moments(values: Tensor, sum_over_processes: Sum) -> tuple[Tensor, Tensor, int]:
    """Mean, summed centred squares and number of values, a channel, over all processes."""
    dimensions = [d for d in range(values.ndim) if d != 1]
    channels = values.shape[1]
    local_count = values.new_full((1,), values.numel() // channels)
    total = sum_over_processes(torch.cat((values.sum(dimensions), local_count)))
    count = round(total[-1].item())
    mean = total[:-1] / max(count, 1)
    centred = values - mean.view([1, -1] + [1] * (values.ndim - 2))
    return mean, sum_over_processes(centred.square().sum(dimensions)), count


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Moves the running statistics; `momentum=None` is the average over all batches so far."""
    if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
        return
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    momentum = norm.momentum
    if momentum is None:
        momentum = 1 / int(norm.num_batches_tracked) if norm.num_batches_tracked is not None else 0.0
    norm.running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
    norm.running_var.mul_(1 - momentum).add_(variance, alpha=momentum)
