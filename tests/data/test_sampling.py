"""Batches hold each sample once, the same ones however many processes share them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perdure.data.sampling import (
    Concatenated,
    Draw,
    Patches,
    batches,
    boundaries,
    is_background,
    samples_of,
    tiles,
)
from perdure.types import IGNORED, Contract, Intensity, Structure

STRUCTURES = tuple(Structure(name=str(i), values=(i,)) for i in range(4))


def contract(size: tuple[int, ...], task: str = "segmentation", **changes: object) -> Contract:
    dims = len(size)
    fields = {
        "task": task, "structures": STRUCTURES, "channels": 1, "spatial_dims": dims, "size": size, "orientation": "LIA",
        "spacing": (1.0, 1.0, 1.0), "view": "coronal" if dims == 2 else None, "intensity": Intensity(scaling="robust"),
    }  # fmt: skip
    return Contract(**{**fields, **changes})


@dataclass
class FakeCase:
    """What sampling sees of a prepared case."""

    image: np.ndarray
    target: np.ndarray
    grade: int = 0
    grid_slices: int = field(init=False)

    def __post_init__(self) -> None:
        self.grid_slices = self.image.shape[0]

    def foreground(self) -> np.ndarray:
        slices = self.target.reshape(-1, *self.target.shape[-2:])
        counted = slices != IGNORED
        return np.stack([(counted & (slices != 0)).sum((1, 2)), counted.sum((1, 2))], axis=1)

    def reference(self) -> np.ndarray:
        return np.asarray(self.grade, np.uint8)


def slices(number: int, first: int = 0, target: np.ndarray | None = None) -> FakeCase:
    """A case whose slice i is filled with the number `first + i`."""
    image = np.broadcast_to(np.arange(first, first + number, dtype=np.float32)[:, None, None, None], (number, 1, 4, 4))
    return FakeCase(image, np.ones((number, 4, 4), np.uint8) if target is None else target)


def numbers(batch: tuple[torch.Tensor, torch.Tensor]) -> list[int]:
    return [int(image.max()) for image in batch[0]]


@given(st.integers(1, 200), st.integers(1, 60))
def test_a_last_batch_of_fewer_than_half_joins_the_one_before_it(samples: int, batch_size: int) -> None:
    limits = boundaries(samples, batch_size)
    assert [first for first, _ in limits] == [0, *[last for _, last in limits[:-1]]]
    assert limits[-1][1] == samples
    lengths = [last - first for first, last in limits]
    assert all(length == batch_size for length in lengths[:-1])
    if samples >= batch_size:
        assert 0.5 * batch_size <= lengths[-1] < 1.5 * batch_size
    else:
        assert lengths == [samples]


@given(
    st.integers(1, 30), st.integers(1, 9), st.integers(1, 4), st.one_of(st.none(), st.integers(0, 9)), st.integers(0, 3)
)
def test_processes_share_the_batches_of_one(
    samples: int, batch_size: int, ranks: int, seed: int | None, epoch: int
) -> None:
    ours = contract((4, 4))
    cases = samples_of([slices(samples)], ours, without_background=True)
    draw = None if seed is None else Draw(seed, epoch)
    alone = [numbers(batch) for batch in batches(cases, ours, batch_size, draw, False, 0, 1)]
    assert sorted(chain.from_iterable(alone)) == list(range(samples))
    assert len(alone) == len(boundaries(samples, batch_size))
    if seed is None:
        assert list(chain.from_iterable(alone)) == list(range(samples))
    shared = [
        [numbers(batch) for batch in batches(cases, ours, batch_size, draw, False, rank, ranks)]
        for rank in range(ranks)
    ]
    for number, whole in enumerate(alone):
        assert [shared[rank][number] for rank in range(ranks)] == [whole[rank::ranks] for rank in range(ranks)]


def test_a_process_without_a_sample_gets_an_empty_batch_of_the_right_shape() -> None:
    for task, target in (("segmentation", (0, 4, 4)), ("classification", (0,))):
        ours = contract((4, 4), task)
        (batch,) = batches(samples_of([slices(1)], ours, without_background=True), ours, 2, None, False, 1, 2)
        assert (batch[0].shape, batch[1].shape, batch[1].dtype) == ((0, 1, 4, 4), target, torch.int64)


def test_the_order_depends_on_seed_and_epoch() -> None:
    ours = contract((4, 4))
    cases = samples_of([slices(30)], ours, without_background=True)

    def order(seed: int, epoch: int) -> list[int]:
        return [
            number for batch in batches(cases, ours, 7, Draw(seed, epoch), False, 0, 1) for number in numbers(batch)
        ]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(2) for epoch in range(2)}) == 4


@pytest.mark.parametrize("bad", [{"batch_size": 0}, {"rank": 2}, {"ranks": 0}, {"rank": -1}])
def test_numbers_outside_their_range_are_refused_before_the_first_batch(bad: dict[str, int]) -> None:
    ours = contract((4, 4))
    arguments = {"batch_size": 2, "rank": 0, "ranks": 2, **bad}
    with pytest.raises(ValueError, match="`batch_size` must be 1 or more"):
        batches(
            samples_of([slices(3)], ours, without_background=True), ours, draw=None, augmentation=False, **arguments
        )
    with pytest.raises(ValueError, match="`augmentation` needs a `seed`"):
        batches(samples_of([slices(3)], ours, without_background=True), ours, 2, None, True, 0, 1)


def test_slices_are_cropped_and_padded_about_their_middle() -> None:
    image = np.arange(2 * 5 * 6, dtype=np.float32).reshape(2, 1, 5, 6)
    target = np.full((2, 5, 6), 3, np.uint8)
    ours = contract((3, 8), intensity=Intensity(scaling="robust", mean=(0.5,), std=(0.1,)))
    got, labels = samples_of([FakeCase(image, target)], ours, without_background=False).sample(1, None)
    np.testing.assert_array_equal(got[0, :, 1:7], image[1, 0, 1:4])
    # black is (0 - 0.5) / 0.1 for this network
    np.testing.assert_allclose(got[0, :, [0, 7]], -5)
    assert labels.tolist() == [[0, 3, 3, 3, 3, 3, 3, 0]] * 3


def test_a_slice_counts_as_background_above_99_9_percent() -> None:
    foreground = np.array([[0, 1000], [1, 1000], [1, 1001], [2, 1000], [0, 0], [1, 5]])
    assert is_background(foreground).tolist() == [True, False, True, False, True, False]


def test_slices_of_background_are_left_out_unless_all_are() -> None:
    target = np.zeros((5, 4, 4), np.uint8)
    target[2], target[3, 0, 0], target[4] = 1, 2, IGNORED
    ours = contract((4, 4))
    case = slices(5, target=target)

    def kept(cases: list[FakeCase], without_background: bool) -> list[int]:
        some = samples_of(cases, ours, without_background=without_background)
        return [int(some.sample(i, None)[0].max()) for i in range(len(some))]

    assert kept([case], True) == [2, 3]
    assert kept([case], False) == [0, 1, 2, 3, 4]
    empty = slices(3, first=10, target=np.zeros((3, 4, 4), np.uint8))
    assert kept([case, empty], True) == [2, 3]
    assert kept([empty], True) == [10, 11, 12]
    # pictures are never left out
    pictures = contract((4, 4), orientation=None, spacing=None, view=None)
    assert len(samples_of([empty], pictures, without_background=True)) == 3


def test_a_class_has_no_axis() -> None:
    ours = contract((4, 4), "classification")
    case = slices(1)
    case.grade = 2
    ((images, targets),) = batches(samples_of([case], ours, without_background=True), ours, 4, None, False, 0, 1)
    assert (images.dtype, targets.dtype, targets.tolist()) == (torch.float32, torch.int64, [2])


@given(st.tuples(*[st.integers(1, 12)] * 3), st.tuples(*[st.integers(1, 6)] * 3))
def test_tiles_cover_a_volume_with_as_few_as_it_takes(spatial: tuple[int, ...], size: tuple[int, ...]) -> None:
    covered = np.zeros(spatial, int)
    corners = tiles(spatial, size)
    for corner in corners:
        covered[tuple(slice(max(c, 0), c + n) for c, n in zip(corner, size, strict=True))] += 1
        assert all((c >= 0 and c + n <= have) or n > have for c, n, have in zip(corner, size, spatial, strict=True))
    assert (covered > 0).all()
    assert len(corners) == np.prod([-(-have // want) for have, want in zip(spatial, size, strict=True)])


def volume(seed: int = 0) -> FakeCase:
    """Each voxel holds its own number; a small structure in one corner, and a rim that does not count."""
    shape = (9, 10, 11)
    target = np.zeros((1, *shape), np.uint8)
    target[0, 6:8, 7:9, 1:3] = 1
    target[0, :2] = IGNORED
    return FakeCase(np.arange(np.prod(shape), dtype=np.float32).reshape(1, 1, *shape), target)


def test_patches_tile_the_volume_without_a_draw_and_are_drawn_with_one() -> None:
    ours = contract((4, 4, 16))
    patches = samples_of([volume(), volume()], ours, without_background=True)
    assert isinstance(patches, Patches)
    assert len(patches) == 2 * 3 * 3 * 1
    seen = np.concatenate([patches.sample(i, None)[0].ravel() for i in range(9)])
    assert set(seen.tolist()) == set(range(9 * 10 * 11))
    first = [patches.sample(i, Draw(0, 0)) for i in range(len(patches))]
    again = [patches.sample(i, Draw(0, 0)) for i in range(len(patches))]
    other = [patches.sample(i, Draw(0, 1)) for i in range(len(patches))]
    assert all((a[0] == b[0]).all() for a, b in zip(first, again, strict=True))
    assert any((a[0] != b[0]).any() for a, b in zip(first, other, strict=True))
    for image, target in first:
        assert (image.shape, target.shape) == ((1, 4, 4, 16), (4, 4, 16))
        # the last axis is shorter than the patch: in the middle, with 2 and 3 of padding
        assert (target[..., :2] == 0).all()
        assert (target[..., 13:] == 0).all()


def test_most_drawn_patches_hold_a_structure_and_all_lie_inside() -> None:
    patches = samples_of([volume()], contract((3, 3, 3)), without_background=True)
    drawn = [patches.sample(0, Draw(seed, 0)) for seed in range(120)]
    with_structure = np.mean([(target == 1).any() for _, target in drawn])
    # two of three are centred on it; of the others few meet it, as it takes up 0.8 % of the volume
    assert 0.55 < with_structure < 0.85
    # a patch that left the volume would hold padding, and the numbers would not be those of 27 neighbours
    for image, _ in drawn:
        np.testing.assert_array_equal(image[0] - image[0, 0, 0, 0], volume().image[0, 0, :3, :3, :3])


def test_a_volume_without_a_structure_is_drawn_from_evenly() -> None:
    case = volume()
    case.target[:] = 0
    patches = samples_of([case], contract((3, 3, 3)), without_background=True)
    assert len({float(patches.sample(0, Draw(seed, 0))[0].min()) for seed in range(30)}) > 20


def test_several_domains_are_one_after_the_other() -> None:
    ours = contract((4, 4))
    parts = [samples_of([slices(3, first)], ours, without_background=True) for first in (0, 10, 20)]
    whole = Concatenated(parts)
    assert [int(whole.sample(i, None)[0].max()) for i in range(len(whole))] == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    with pytest.raises(IndexError):
        whole.sample(9, None)
