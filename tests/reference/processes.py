"""Several processes in one: threads that exchange tensors where processes would."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")
Result = TypeVar("Result")


class Threads:
    """`sum` in place of `perdure.update.processes.sum_over_processes`, within `run`."""

    def __init__(self, number: int) -> None:
        self.barrier = threading.Barrier(number, timeout=20)
        self.parts: list[Tensor] = [torch.empty(0)] * number
        self.rank = threading.local()

    def run(self, work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
        """`work` of every part, each in a thread of its own, as its rank."""

        def one(rank: int, part: Part) -> Result:
            self.rank.number = rank
            return work(part)

        with ThreadPoolExecutor(len(parts)) as pool:
            return list(pool.map(one, range(len(parts)), parts))

    def sum(self, value: Tensor) -> Tensor:
        """The sum over threads; its backward sums gradients over threads."""
        exchange, rank = self._exchange, self.rank.number

        class Sum(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                return exchange(rank, x)

            @staticmethod
            def backward(ctx: Any, gradient: Tensor) -> Tensor:
                return exchange(rank, gradient)

        return Sum.apply(value)

    def _exchange(self, rank: int, value: Tensor) -> Tensor:
        self.parts[rank] = value.detach()
        self.barrier.wait()
        total = torch.stack(self.parts).sum(0)
        self.barrier.wait()
        return total
