"""One process of `test_processes.py`. Called with: rank, folder (`output_RANK.pt` out)."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed

from perdure.update.processes import sum_over_processes


def main(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    value = torch.tensor(2.0 + rank, requires_grad=True)
    total = sum_over_processes(value)
    total.square().backward()
    turned = torch.arange(6).view(2, 3).T
    found = {
        "sum": total.detach(),
        "gradient": value.grad,
        "value": value.detach(),
        "count": sum_over_processes(torch.tensor([1 + rank, 2 - rank])),
        "turned sum": sum_over_processes(turned),
        "turned": turned.contiguous(),
    }
    torch.save(found, folder / f"output_{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
