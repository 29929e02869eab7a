"""A workspace that reports are made of in tests: where it is, and the names in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from perdure.data import Dataset, FolderDomain
from perdure.evidence.report import Workspace

EVIL = "<script>alert(1)"
NEW = "scanner-b"


@dataclass(frozen=True)
class World:
    """Where things are.

    Args:
        workspace: two candidates of one base.
        data: of both domains.
        cache: of prepared images.
    """

    workspace: Path
    data: Path
    cache: Path

    def domains(self) -> list[FolderDomain]:
        """Both, as a report takes them."""
        dataset = Dataset.open(self.data)
        contract = Workspace.open(self.workspace).candidate("fine").identity.contract
        return [dataset.domain(name, contract, required=("test",), cache=self.cache) for name in (EVIL, NEW)]


def classifier(in_channels: int, num_classes: int) -> nn.Module:
    """A network that a base can learn to grade with within a second."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, num_classes),
    )  # fmt: skip
