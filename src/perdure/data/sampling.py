"""From prepared cases to the samples of an epoch, and from samples to batches.

A sample of a 2-D network is a picture or a slice, of a 3-D network a patch (a whole volume for classification). What a
batch holds depends on the seed, the epoch and the batch size, never on how many processes share it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from perdure.data import geometry
from perdure.data.intensity import padding
from perdure.types import IGNORED, Batch, Contract

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.data.augmentation import Augmentation
    from perdure.data.cases import PreparedCase

    Sample = tuple[NDArray[np.float32], NDArray[np.uint8]]

BACKGROUND = 1000
"""A slice in which fewer than one pixel of so many shows a structure, 99.9 % background, is not trained on.

Source: ai-med/MAS-LR, the code of Özgün et al. 2020.
"""

FOREGROUND_PATCHES = 2 / 3
"""The fraction of random patches that are centred on a voxel of a structure; our choice."""


@dataclass(frozen=True)
class Draw:
    """What decides all random numbers of an epoch.

    Args:
        seed: of the run.
        epoch: counted from 0.
    """

    seed: int
    epoch: int

    def generator(self, purpose: str, index: int = 0) -> np.random.Generator:
        """Random numbers for one purpose and one sample, independent of those for any other."""
        return np.random.default_rng([self.seed, self.epoch, index, *purpose.encode()])


class Samples(Protocol):
    """The samples of one split, by index."""

    def __len__(self) -> int:
        """How many."""
        ...

    def sample(self, index: int, draw: Draw | None) -> Sample:
        """Input `(channels, *size)` and target `size` (a class: no axis)."""
        ...

    def subject(self, index: int) -> str:
        """Whose sample it is."""
        ...


@dataclass(frozen=True)
class Slices:
    """Pictures, slices, or whole volumes with one class: what stands at one index of a prepared case.

    Args:
        cases: of one split.
        places: of each sample the number of its case, and the index in it.
        contract: with the size that a sample is padded or cropped to, about its middle.
    """

    cases: Sequence[PreparedCase]
    places: Sequence[tuple[int, int]]
    contract: Contract

    def __len__(self) -> int:
        """How many."""
        return len(self.places)

    def sample(self, index: int, draw: Draw | None) -> Sample:
        """The sample, the same whatever is drawn."""
        number, place = self.places[index]
        corner = geometry.centred(self.cases[number].image.shape[2:], self.contract.size)
        return _cut(self.cases[number], place, corner, self.contract)

    def subject(self, index: int) -> str:
        """Whose sample it is."""
        return self.cases[self.places[index][0]].subject


@dataclass(frozen=True)
class Patches:
    """Patches of volumes for a 3-D network: as many of each as cover it.

    With a draw each is at a random place, two of three about a voxel of a structure; without one they tile the volume.

    Args:
        cases: of one split.
        places: of each sample the number of its case, and the corner of its tile.
        contract: with the size of a patch.
    """

    cases: Sequence[PreparedCase]
    places: Sequence[tuple[int, tuple[int, ...]]]
    contract: Contract

    def __len__(self) -> int:
        """How many."""
        return len(self.places)

    def sample(self, index: int, draw: Draw | None) -> Sample:
        """The patch that is drawn, or the tile."""
        number, corner = self.places[index]
        if draw is not None:
            corner = _random_corner(self.cases[number], self.contract.size, draw.generator("patch", index))
        return _cut(self.cases[number], 0, corner, self.contract)

    def subject(self, index: int) -> str:
        """Whose sample it is."""
        return self.cases[self.places[index][0]].subject


@dataclass(frozen=True)
class Concatenated:
    """The samples of several domains, one after the other."""

    parts: Sequence[Samples]

    def __len__(self) -> int:
        """How many."""
        return sum(len(part) for part in self.parts)

    def sample(self, index: int, draw: Draw | None) -> Sample:
        """The sample of the part in which the index falls."""
        part, place = self._found(index)
        return part.sample(place, draw)

    def subject(self, index: int) -> str:
        """Whose sample it is."""
        part, place = self._found(index)
        return part.subject(place)

    def _found(self, index: int) -> tuple[Samples, int]:
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(f"`index` is beyond the {len(self)} samples.")


def samples_of(cases: Sequence[PreparedCase], contract: Contract, *, without_background: bool) -> Samples:
    """The samples of some cases, in their order.

    Args:
        cases: prepared under `contract`.
        contract: decides between slices and patches.
        without_background: whether slices of volumes with more than 99.9 % background are left out; they stay if
            no other would be left.
    """
    if contract.spatial_dims == 3 and contract.task == "segmentation":
        corners = [tiles(case.image.shape[2:], contract.size) for case in cases]
        return Patches(cases, [(i, corner) for i, some in enumerate(corners) for corner in some], contract)
    places = [(i, place) for i, case in enumerate(cases) for place in range(case.grid_slices)]
    if without_background and contract.is_volumetric and contract.task == "segmentation":
        kept = [~is_background(case.foreground()) for case in cases]
        places = [(i, place) for i, place in places if kept[i][place]] or places
    return Slices(cases, places, contract)


def is_background(foreground: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which slices are nearly all background.

    Args:
        foreground: `(slices, 2)`, pixels of structures, and pixels that count.
    """
    structures, counted = foreground[:, 0], foreground[:, 1]
    return BACKGROUND * structures < np.maximum(counted, 1)


def tiles(spatial: tuple[int, ...], size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Corners of the fewest windows of `size` that cover `spatial`, evenly spread."""
    starts = []
    for have, want, middle in zip(spatial, size, geometry.centred(spatial, size), strict=True):
        count = -(-have // want)
        starts.append([middle] if count == 1 else [round(i * (have - want) / (count - 1)) for i in range(count)])
    return list(itertools.product(*starts))


def boundaries(samples: int, batch_size: int) -> list[tuple[int, int]]:
    """First and one past the last sample of each batch; a last batch of fewer than half joins the one before it."""
    starts = list(range(0, samples, batch_size))
    if len(starts) > 1 and 2 * (samples - starts[-1]) < batch_size:
        del starts[-1]
    return list(zip(starts, [*starts[1:], samples], strict=True))


def order_of(samples: int, draw: Draw | None) -> NDArray[np.int64]:
    """In which order the samples of an epoch come, by index."""
    return np.arange(samples) if draw is None else draw.generator("order").permutation(samples)


def batches(
    samples: Samples,
    contract: Contract,
    batch_size: int,
    draw: Draw | None,
    augmentation: bool,
    rank: int,
    ranks: int,
) -> Iterator[Batch]:
    """What `perdure.types.Domain.batches` promises; a rank without a sample in a batch gets an empty one.

    Raises:
        ValueError: a number is outside its range, or there is nothing to draw augmentations by.
    """
    if batch_size < 1 or not 0 <= rank < ranks:
        raise ValueError(f"`batch_size` must be 1 or more, `rank` in [0, ranks); got {batch_size}, {rank} of {ranks}.")
    if not augmentation:
        return _batches(samples, contract, batch_size, draw, None, rank, ranks)
    if draw is None:
        raise ValueError("`augmentation` needs a `seed` to draw by; give one.")
    from perdure.data.augmentation import Augmentation

    return _batches(samples, contract, batch_size, draw, Augmentation(contract), rank, ranks)


def _batches(
    samples: Samples,
    contract: Contract,
    batch_size: int,
    draw: Draw | None,
    augmentation: Augmentation | None,
    rank: int,
    ranks: int,
) -> Iterator[Batch]:
    order = order_of(len(samples), draw)
    for first, last in boundaries(len(samples), batch_size):
        chosen = []
        for index in order[first:last][rank::ranks].tolist():
            image, target = samples.sample(index, draw)
            if augmentation is not None and draw is not None:
                image, target = augmentation(image, target, draw.generator("augmentation", index))
            chosen.append((image, target))
        yield _collated(chosen, contract)


def _collated(chosen: Sequence[Sample], contract: Contract) -> Batch:
    import torch

    if not chosen:
        target_shape = contract.size if contract.task == "segmentation" else ()
        return torch.empty(0, contract.channels, *contract.size), torch.empty(0, *target_shape, dtype=torch.int64)
    images, targets = zip(*chosen, strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(targets).astype(np.int64))


def _cut(case: PreparedCase, place: int, corner: tuple[int, ...], contract: Contract) -> Sample:
    image = case.image[place]
    black = padding(contract.intensity, contract.channels)
    channels = [geometry.window(image[i], corner, contract.size, black[i]) for i in range(contract.channels)]
    if contract.task == "classification":
        return np.stack(channels), np.asarray(case.reference())
    return np.stack(channels), geometry.window(case.target[place], corner, contract.size, np.uint8(0))


def _random_corner(case: PreparedCase, size: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
    """A corner with the window inside the volume, as far as it fits."""
    spatial = case.image.shape[2:]
    structures = case.foreground()[:, 0]
    if rng.random() < FOREGROUND_PATCHES and structures.sum() > 0:
        # a slice by its share of the structures, then a voxel in it: only that slice has to be read
        depth = int(rng.choice(len(structures), p=structures / structures.sum()))
        plane = case.target[0, depth]
        inside = np.argwhere((plane != 0) & (plane != IGNORED))
        centre = (depth, *inside[rng.integers(len(inside))].tolist())
        corner = [c - want // 2 for c, want in zip(centre, size, strict=True)]
    else:
        corner = [int(rng.integers(max(have - want, 0) + 1)) for have, want in zip(spatial, size, strict=True)]
    middle = geometry.centred(spatial, size)
    return tuple(
        middle[i] if size[i] >= spatial[i] else min(max(corner[i], 0), spatial[i] - size[i]) for i in range(len(size))
    )
