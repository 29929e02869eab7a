"""A domain in memory, with a contract, small networks for it, and a release of one.

Here and not in a `conftest.py`, because processes that are spawned have to import it by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from perdure.errors import DataError
from perdure.models import NetworkSpec
from perdure.types import IGNORED, Batch, Contract, Counts, Intensity, Structure
from reference.networks import bits

SIZE = 6
SEGMENTER = NetworkSpec(factory="reference.domains:segmenter")
CLASSIFIER = NetworkSpec(factory="reference.domains:classifier", arguments={"dropout": 0.5})


def contract(task: str = "segmentation") -> Contract:
    """Three structures in grey 6 x 6 images."""
    structures = tuple(Structure(name=name, values=(value,)) for value, name in enumerate(("dark", "grey", "bright")))
    return Contract(
        task=task, structures=structures, channels=1, size=(SIZE, SIZE), intensity=Intensity(scaling="format")
    )


def segmenter(in_channels: int = 1, classes: int = 3, dropout: float = 0.2) -> nn.Module:
    """A class for every pixel, with batch norm and dropout."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.Conv2d(in_channels, 4, 3, padding=1),
        nn.PReLU(),
        nn.BatchNorm2d(4),
        nn.Dropout2d(dropout),
        nn.Conv2d(4, classes, 1),
    )


def classifier(in_channels: int = 1, classes: int = 3, dropout: float = 0.0) -> nn.Module:
    """A class for every image, without batch norm."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * SIZE * SIZE, 8),
        nn.Tanh(),
        nn.Dropout(dropout),
        nn.Linear(8, classes),
    )


@dataclass(frozen=True)
class TinyDomain:
    """Noise that is cut into three classes by its brightness, seen through a contrast of its own.

    Args:
        name: of the domain; decides the images too.
        task: one class a pixel, or one an image.
        train: samples to train on.
        val: samples to validate on.
        contrast: what images are multiplied with.
        watch: called with rank and epoch before each epoch's samples are handed out; may raise.
    """

    name: str = "site-a"
    task: str = "segmentation"
    train: int = 8
    val: int = 5
    contrast: float = 1.0
    watch: Callable[[int, int], None] | None = None

    @cached_property
    def contract(self) -> Contract:
        return contract(self.task)

    @property
    def counts(self) -> Counts:
        number = {"train": self.train, "val": self.val, "test": 0}
        return Counts(subjects=number, cases=number, samples=number)

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        return {
            f"{self.name}-{split}-{number}": hashlib.sha256(bits(x) + bits(y)).hexdigest()
            for split in ("train", "val")
            for number, (x, y) in enumerate(zip(*self.samples(split), strict=True))
        }

    def samples(self, split: str) -> Batch:
        """All of a split, in order."""
        number = self.counts.samples[split]
        seed = int.from_bytes(hashlib.sha256(f"{self.name} {split}".encode()).digest()[:4])
        brightness = torch.rand(number, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        if self.task == "segmentation":
            target = (brightness[:, 0] * 3).long()
            target[:, 0, 0] = IGNORED
        else:
            brightness = (brightness + torch.arange(number).view(-1, 1, 1, 1) % 3) / 3
            target = (brightness.mean((1, 2, 3)) * 3).long()
        return brightness * self.contrast + (1 - self.contrast), target

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        augmentation: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> Iterator[Batch]:
        if self.watch is not None and seed is not None:
            self.watch(rank, epoch)
        inputs, target = self.samples(split)
        order = torch.arange(len(inputs))
        if seed is not None:
            generator = torch.Generator().manual_seed(1000 * seed + epoch)
            order = torch.randperm(len(inputs), generator=generator)
            if augmentation:
                inputs = inputs + 0.1 * torch.randn(inputs.shape, generator=generator)
        for first, last in self._bounds(split, batch_size):
            chosen = order[first:last][rank::ranks]
            yield inputs[chosen], target[chosen]

    def steps(self, split: str, batch_size: int) -> int:
        return len(self._bounds(split, batch_size))

    def _bounds(self, split: str, batch_size: int) -> list[tuple[int, int]]:
        number = self.counts.samples[split]
        starts = list(range(0, number, batch_size))
        if len(starts) > 1 and 2 * (number - starts[-1]) < batch_size:
            starts.pop()
        return list(zip(starts, [*starts[1:], number], strict=True))


@dataclass(frozen=True)
class Together:
    """Two domains as one, under the name of the second."""

    first: TinyDomain
    second: TinyDomain

    def __getattr__(self, name: str) -> object:
        return getattr(self.second, name)

    @property
    def hashes(self) -> Mapping[str, str]:
        return {**self.first.hashes, **self.second.hashes}

    def batches(self, split: str, batch_size: int, **order: object) -> Iterator[Batch]:
        yield from self.first.batches(split, batch_size, **order)
        yield from self.second.batches(split, batch_size, **order)

    def steps(self, split: str, batch_size: int) -> int:
        return self.first.steps(split, batch_size) + self.second.steps(split, batch_size)


def state(model: nn.Module) -> dict[str, bytes]:
    """Parameters and buffers, bit for bit."""
    return {name: bits(tensor) for name, tensor in model.state_dict().items()}


def spoil(rank: int, epoch: int) -> None:
    """The disk of the second process fails in the second epoch."""
    if rank == 1 and epoch == 1:
        raise DataError("brain.nii: cannot be read; copy it again.")


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
