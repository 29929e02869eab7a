"""Small random networks for input `(batch, 2, 6, 6)`, each with something that importance or a step may trip over."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

CLASSES = 3


class Tied(nn.Module):
    """One linear layer used twice, and one scalar PReLU used three times, as QuickNAT's blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(72, 4)
        self.twice = nn.Linear(4, 4)
        self.same = self.twice
        self.prelu = nn.PReLU()
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.first(x.flatten(1)))
        x = self.prelu(self.twice(x))
        return self.head(self.prelu(self.same(x)))


def _linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(72, CLASSES))


def _dropout() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, CLASSES))


def _batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(), nn.Dropout2d(0.3), nn.Conv2d(4, CLASSES, 1)
    )


def _grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2, bias=False),
        nn.GroupNorm(2, 4),
        nn.Softplus(),
        nn.ConvTranspose2d(4, 2 * CLASSES, 2, stride=2, groups=2),
        nn.Conv2d(2 * CLASSES, CLASSES, 2, stride=2),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": _linear,
    "dropout": _dropout,
    "batch norm": _batch_norm,
    "grouped": _grouped,
    "tied": Tied,
}


def network(kind: str, seed: int) -> nn.Module:
    """The network, with buffers that are not their initial values."""
    torch.manual_seed(seed)
    model = NETWORKS[kind]()
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return model


def samples(number: int, seed: int) -> Tensor:
    """Inputs of which some are far larger than others."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(number, 1, 1, 1, generator=generator) * 3
    return torch.randn(number, 2, 6, 6, generator=generator) * scale


def target_for(model: nn.Module, inputs: Tensor, seed: int) -> Tensor:
    """Random classes for the network's output on these inputs: one a sample, or one a pixel."""
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad():
        shape = model.eval()(inputs[:1]).shape
    for module, mode in modes.items():
        module.training = mode
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(CLASSES, (len(inputs), *shape[2:]), generator=generator)


def everything(model: nn.Module) -> dict[str, object]:
    """All that measuring must leave alone: values, gradients, modes and the state of the random numbers."""
    return {
        **{f"value of {name}": bits(tensor) for name, tensor in model.state_dict().items()},
        **{f"gradient of {n}": None if p.grad is None else bits(p.grad) for n, p in model.named_parameters()},
        **{f"mode of {name}": module.training for name, module in model.named_modules()},
        **{f"requires_grad of {name}": p.requires_grad for name, p in model.named_parameters()},
        "random numbers": bits(torch.get_rng_state()),
    }


def bits(tensor: Tensor) -> bytes:
    """What a tensor is made of: equal only where every bit is (0 and -0 differ, NaN is NaN)."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
