from __future__ import annotations

import pytest
import torch

from perdure.testing import tiny_domain, tiny_network
from perdure.types import Domain


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_it_is_a_domain_and_its_network_fits(task) -> None:
    domain = tiny_domain(task=task)
    assert isinstance(domain, Domain)
    inputs, target = domain.samples("train")
    assert tiny_network(task)(inputs).shape == (8, 3, *target.shape[1:])
    assert set(target.unique().tolist()) <= {0, 1, 2}
    assert domain.contract.task == task


def test_a_name_decides_the_images_and_contrast_shifts_them() -> None:
    one, again, other, dark = (tiny_domain("a"), tiny_domain("a"), tiny_domain("b"), tiny_domain("a", contrast=0.5))
    assert torch.equal(one.samples("train")[0], again.samples("train")[0])
    assert not torch.equal(one.samples("train")[0], other.samples("train")[0])
    assert torch.equal(dark.samples("train")[0], one.samples("train")[0] / 2)
    assert one.hashes == again.hashes
    assert not set(one.hashes.values()) & set(dark.hashes.values())


@pytest.mark.parametrize(("size", "lengths"), [(8, [8]), (3, [3, 3, 2]), (6, [6, 2][:1])])
def test_a_short_last_batch_joins_the_one_before(size: int, lengths: list[int]) -> None:
    domain = tiny_domain()
    found = [len(x) for x, _ in domain.batches("train", size)]
    assert len(found) == domain.steps("train", size)
    assert found == (lengths if size != 6 else [8])


def test_ranks_share_the_samples_of_every_batch() -> None:
    domain = tiny_domain()
    whole = [x for x, _ in domain.batches("train", 4, seed=1, epoch=2)]
    shares = [[x for x, _ in domain.batches("train", 4, seed=1, epoch=2, rank=rank, ranks=2)] for rank in (0, 1)]
    for batch, even, odd in zip(whole, *shares, strict=True):
        assert torch.equal(batch[0::2], even)
        assert torch.equal(batch[1::2], odd)


def test_a_seed_shuffles_and_an_epoch_shuffles_otherwise() -> None:
    domain = tiny_domain()
    orders = [next(domain.batches("train", 8, seed=1, epoch=epoch))[0] for epoch in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_joined_it_holds_the_samples_of_both_under_its_own_name() -> None:
    first, second = tiny_domain("a"), tiny_domain("b")
    both = second.joined(first)
    assert both.name == "b"
    assert sum(len(x) for x, _ in both.batches("train", 4)) == 16
    assert both.hashes == {**first.hashes, **second.hashes}


def test_building_the_network_leaves_the_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    first, second = tiny_network(), tiny_network()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.first.weight, second.first.weight)
