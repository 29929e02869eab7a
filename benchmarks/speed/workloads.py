"""What is measured: networks of known sizes, their samples, and one plain training step of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from perdure.models import QuickNAT, resnet50

TINY = {"quicknat-128": (4, 32, 4), "quicknat-256": (4, 48, 4), "resnet50": (0, 64, 4)}
"""Filters, pixels and samples in the form `tiny`."""


@dataclass(frozen=True)
class Workload:
    """A network in training mode, and one batch.

    Args:
        model: the network, with random weights.
        inputs: `(samples, channels, *spatial)`.
        target: class indices.
    """

    model: nn.Module
    inputs: Tensor
    target: Tensor

    def step(self) -> None:
        """One plain training step without an optimizer: forward, cross-entropy, backward."""
        self.model.zero_grad(set_to_none=True)
        functional.cross_entropy(self.model(self.inputs), self.target).backward()

    @property
    def batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and target."""
        return self.inputs, self.target


def workload(name: str, device: str = "cpu", *, tiny: bool = False, samples: int | None = None) -> Workload:
    """A network and a batch by name: the same numbers in every process.

    Args:
        name: `quicknat-128` and `quicknat-256` are the published network (64 filters of 5x5, 33 classes) on 4 slices of
            so many pixels; `resnet50` takes 8 pictures of 224 pixels in 3 channels, 4 classes; `small-conv`,
            `small-quicknat` and `small-mlp` leave the machine waiting at every call.
        device: where to.
        tiny: instead of these sizes those of `TINY`.
        samples: another number of samples.
    """
    torch.manual_seed(0)
    filters, pixels, number = TINY.get(name, (0, 0, 0))
    if name.startswith("quicknat"):
        if not tiny:
            filters, pixels, number = 64, int(name.partition("-")[2]), 4
        found = _segmented(QuickNAT(classes=33, filters=filters), samples or number, pixels, 33)
    elif name == "resnet50":
        pixels, number = (pixels, number) if tiny else (224, 8)
        found = _classified(resnet50(classes=4, in_channels=3), samples or number, (3, pixels, pixels), 4)
    else:
        found = SMALL[name](samples)
    model, inputs, target = found
    return Workload(model.to(device).train(), inputs.to(device), target.to(device))


Made = tuple[nn.Module, Tensor, Tensor]


def _segmented(model: nn.Module, samples: int, pixels: int, classes: int) -> Made:
    return model, torch.randn(samples, 1, pixels, pixels), torch.randint(classes, (samples, pixels, pixels))


def _classified(model: nn.Module, samples: int, shape: tuple[int, ...], classes: int) -> Made:
    return model, torch.randn(samples, *shape), torch.randint(classes, (samples,))


def _small_conv(samples: int | None) -> Made:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    return _classified(model, samples or 64, (1, 16, 16), 4)


def _small_quicknat(samples: int | None) -> Made:
    return _segmented(QuickNAT(classes=4, filters=4, kernel_size=3), samples or 32, 16, 4)


def _small_mlp(samples: int | None) -> Made:
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    return _classified(model, samples or 64, (32,), 4)


SMALL: dict[str, Callable[[int | None], Made]] = {
    "small-conv": _small_conv,
    "small-quicknat": _small_quicknat,
    "small-mlp": _small_mlp,
}


def smooth(name: str) -> Made:
    """A small network without a kink, in evaluation mode: in float32 and in float64 it is one and the same function.

    Args:
        name: `conv`, `unpooled` or `mlp`.
    """
    torch.manual_seed(0)
    if name == "mlp":
        model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 32), nn.Softplus(), nn.Linear(32, 4))
        made = _classified(model, 12, (16,), 4)
    elif name == "conv":
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Softplus(), nn.AvgPool2d(2), nn.Conv2d(8, 8, 5),
            nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
        )  # fmt: skip
        made = _classified(model, 12, (1, 16, 16), 4)
    else:
        model = nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2), nn.BatchNorm2d(8), nn.Softplus(), nn.AvgPool2d(2), nn.Conv2d(8, 8, 1),
            nn.Softplus(), nn.ConvTranspose2d(8, 8, 2, stride=2), nn.BatchNorm2d(8), nn.Softplus(), nn.Conv2d(8, 4, 1),
        )  # fmt: skip
        made = _segmented(model, 8, 16, 4)
    made[0].eval()
    return made
