"""Releases of networks whose answers are known, so that what comes out can be compared number by number."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor, nn

from perdure.models import NetworkSpec
from perdure.release import Identity, Memory, Release, Seen
from perdure.release.release import with_id
from perdure.types import Contract, Counts, Intensity, Structure


class Shapes(list[tuple[int, ...]]):
    """What inputs a network has seen; a copy of the network writes into the same list."""

    def __deepcopy__(self, memo: object) -> Shapes:
        return self


class Threshold(nn.Module):
    """Calls a pixel class k where so many of the thresholds are below its first channel.

    Args:
        thresholds: rising, one fewer than classes.
        multiple: the network refuses an input whose extents this does not divide, as one with pooling would.
    """

    def __init__(self, thresholds: Sequence[float], multiple: int = 1) -> None:
        super().__init__()
        self.thresholds = nn.Parameter(torch.tensor(thresholds))
        self.multiple = multiple
        self.seen = Shapes()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        if any(extent % self.multiple for extent in x.shape[2:]):
            raise RuntimeError(f"{tuple(x.shape)} is no multiple of {self.multiple}")
        classes = torch.bucketize(x[:, 0].contiguous(), self.thresholds)
        return 20.0 * nn.functional.one_hot(classes, len(self.thresholds) + 1).movedim(-1, 1).float()


class Brightness(nn.Module):
    """Gives class 1 the logit `scale * (mean of the image - middle)`, and class 0 none."""

    def __init__(self, scale: float = 10.0, middle: float = 0.25) -> None:
        super().__init__()
        self.scale, self.middle = nn.Parameter(torch.tensor(scale)), middle
        self.seen = Shapes()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        logit = self.scale * (x.flatten(1).mean(1) - self.middle)
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


def volume_contract(**changes: Any) -> Contract:
    """Coronal slices of volumes with the label set of `synthetic.write_volumes`, 2 mm."""
    fields: dict[str, Any] = {
        "task": "segmentation",
        "modality": "synthetic",
        "structures": structures(background=0, core=16, left_cortex=3, right_cortex=42),
        "channels": 1,
        "size": (32, 32),
        "orientation": "LIA",
        "spacing": (2.0, 2.0, 2.0),
        "view": "coronal",
        "intensity": Intensity(scaling="robust"),
    }
    return Contract(**{**fields, **changes})


def picture_contract(**changes: Any) -> Contract:
    """Pictures with the label set of `synthetic.write_images`."""
    fields: dict[str, Any] = {
        "task": "segmentation",
        "modality": "synthetic",
        "structures": structures(background=0, disc=1),
        "channels": 3,
        "size": (40, 48),
        "intensity": Intensity(scaling="format"),
    }
    return Contract(**{**fields, **changes})


def structures(**values: int) -> tuple[Structure, ...]:
    return tuple(Structure(name=name, values=(value,)) for name, value in values.items())


def release(model: nn.Module, contract: Contract, *, name: str = "base", learnt: Sequence[str] = ("a",)) -> Release:
    """A release that has learnt some domains and was never on a disk."""
    counts = Counts(subjects={"train": 1}, cases={"train": 1}, samples={"train": 1})
    identity = Identity(
        created=datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
        origin="trained",
        network=NetworkSpec(factory="fakes:Threshold"),
        contract=contract,
        domains=tuple(Seen(domain=domain, counts=counts, data="0" * 64) for domain in learnt),
        method={"name": name},
        recipe={},
        measures={},
        training={},
        versions={},
    )
    return Release(model.eval(), Memory({}, {}), with_id(identity), name)
