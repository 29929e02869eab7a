"""One or several processes that train one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from torch import Tensor
    from torch.autograd.function import FunctionCtx


class _Sum(torch.autograd.Function):
    """All-reduce that gradients pass through: the derivative of a sum over processes is a sum over processes."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes; gradients pass through. With one process the tensor itself.

    A loss that is made of such sums has the same value on every process. Its gradient with respect to one process's
    share is then the whole gradient times the number of processes, and data-parallel averaging takes that factor out
    again.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total
