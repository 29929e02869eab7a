"""One process of `test_synchronized.py`: trains one batch of its shard over gloo and writes what came out.

Called with: rank, number of processes, folder (`input_RANK.pt` in; `output_RANK.pt` out).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from perdure.models import synchronized_batch_norm


class AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.PReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)
    ).double()


def main(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=ranks)
    model = network()
    x = torch.load(folder / f"input_{rank}.pt", weights_only=True).requires_grad_()
    model.train()
    with synchronized_batch_norm(model, AllReduce.apply):
        y = model(x)
        y.pow(3).sum().backward()
    gradients = {f"gradient.{name}": p.grad for name, p in model.named_parameters()}
    for gradient in gradients.values():
        distributed.all_reduce(gradient)
    buffers = dict(model.named_buffers())
    torch.save({"y": y.detach(), "x": x.grad, **gradients, **buffers}, folder / f"output_{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
