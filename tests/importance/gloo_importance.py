"""One process of `test_exactness.py`. Called with: rank, folder (`shared_RANK.pt` and `alone.pt` out)."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed, nn

from perdure.importance import MAS, Fisher
from perdure.update.processes import sum_over_processes


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(), nn.Dropout2d(0.5), nn.Conv2d(4, 3, 1)
    )


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    model = network().train()
    inputs, target = torch.randn(5, 1, 6, 6), torch.randint(3, (5, 6, 6))
    measures = (MAS(), Fisher(), Fisher("dataset"))
    share = [(inputs[rank::2], target[rank::2])]
    shared = {m.key: m.estimate(model, share, sum_over_processes=sum_over_processes) for m in measures}
    torch.save(shared, folder / f"shared_{rank}.pt")
    if rank == 0:
        torch.save({m.key: m.estimate(model, [(inputs, target)]) for m in measures}, folder / "alone.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
