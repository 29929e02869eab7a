"""A domain and a network that are small enough for a test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from perdure.types import Contract, Counts, Intensity, Split, Structure

if TYPE_CHECKING:
    from perdure.types import Batch, Task

SIZE = 6
CLASSES = ("dark", "grey", "bright")


@dataclass(frozen=True)
class TinyDomain:
    """Grey images of 6 x 6 pixels in memory, to be told apart by brightness; a `perdure.types.Domain`.

    Args:
        name: of the domain; decides the images too.
        task: one class an image, or one a pixel.
        train: samples to train on.
        val: samples to validate on.
        contrast: what the images are multiplied with: the shift between two domains.
        before_epoch: called with the epoch before its samples are handed out; may raise, to interrupt a run.
        earlier: domains whose samples come first, for methods that train on old data too.
    """

    name: str = "site-a"
    task: Task = "classification"
    train: int = 8
    val: int = 3
    contrast: float = 1.0
    before_epoch: Callable[[int], None] | None = None
    earlier: tuple[TinyDomain, ...] = ()

    @cached_property
    def contract(self) -> Contract:
        """The same for every tiny domain of a task."""
        return Contract(
            task=self.task,
            structures=tuple(Structure(name=name, values=(value,)) for value, name in enumerate(CLASSES)),
            channels=1,
            size=(SIZE, SIZE),
            intensity=Intensity(scaling="format"),
        )

    @property
    def counts(self) -> Counts:
        """Every sample is a case and a subject."""
        number = {"train": self.train, "val": self.val, "test": 0}
        return Counts(subjects=number, cases=number, samples=number)

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """One a sample."""
        own = {}
        for split in ("train", "val"):
            for number, (image, target) in enumerate(zip(*self.samples(split), strict=True)):
                content = image.numpy().tobytes() + target.numpy().tobytes()
                own[f"{self.name}-{split}-{number}"] = hashlib.sha256(content).hexdigest()
        return {key: value for domain in self.earlier for key, value in domain.hashes.items()} | own

    def samples(self, split: str) -> Batch:
        """All of a split, in order, without those of earlier domains."""
        number = self.counts.samples[split]
        seed = int.from_bytes(hashlib.sha256(f"{self.name} {split}".encode()).digest()[:4], "big")
        images = torch.rand(number, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        if self.task == "classification":
            images = (images + torch.arange(number).view(-1, 1, 1, 1) % len(CLASSES)) / len(CLASSES)
            target = (images.mean((1, 2, 3)) * len(CLASSES)).long()
        else:
            target = (images[:, 0] * len(CLASSES)).long()
        return images * self.contrast, target

    def joined(self, *earlier: TinyDomain) -> TinyDomain:
        """The samples of earlier domains and of this one, under the name of this one."""
        return replace(self, earlier=earlier)

    def batches(  # noqa: D102
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        augmentation: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> Iterator[Batch]:
        if self.before_epoch is not None and seed is not None:
            self.before_epoch(epoch)
        inputs, target = self._together(split)
        order = torch.arange(len(inputs))
        if seed is not None:
            order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        for first, last in self._bounds(split, batch_size):
            chosen = order[first:last][rank::ranks]
            yield inputs[chosen], target[chosen]

    def steps(self, split: Split, batch_size: int) -> int:  # noqa: D102
        return len(self._bounds(split, batch_size))

    def _together(self, split: str) -> Batch:
        parts = [domain.samples(split) for domain in (*self.earlier, self)]
        return torch.cat([images for images, _ in parts]), torch.cat([target for _, target in parts])

    def _bounds(self, split: str, batch_size: int) -> list[tuple[int, int]]:
        number = sum(domain.counts.samples[split] for domain in (*self.earlier, self))
        starts = list(range(0, number, batch_size))
        if len(starts) > 1 and 2 * (number - starts[-1]) < batch_size:
            starts.pop()
        return list(zip(starts, [*starts[1:], number], strict=True))


def tiny_domain(name: str = "site-a", task: Task = "classification", **settings: float) -> TinyDomain:
    """A domain in memory; see `TinyDomain` for what else can be set.

    Example:
        first, second = tiny_domain("site-a"), tiny_domain("site-b", contrast=0.5)
    """
    return TinyDomain(name, task, **settings)  # type: ignore[arg-type]


def tiny_network(task: Task = "classification", seed: int = 0) -> nn.Module:
    """A network for a tiny domain with convolutions, batch norm, one PReLU used twice, and dropout.

    The state of torch's random numbers is as before afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Tiny(task)


class _Tiny(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.prelu = nn.PReLU()
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.dropout = nn.Dropout(0.2)
        self.last = nn.Conv2d(4, len(CLASSES), 1)
        self.pooled = task == "classification"

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.norm(self.first(x)))
        x = self.dropout(self.prelu(self.second(x)))
        logits: Tensor = self.last(x)
        return logits.mean((2, 3)) if self.pooled else logits
