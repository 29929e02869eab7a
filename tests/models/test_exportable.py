"""An export computes what the trained network does, bit for bit, and leaves it as it is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from perdure.models import QuickNAT, exportable
from perdure.models.exportable import _pooled, _unpooled


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    levels=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_pooling_and_unpooling_by_offset_are_those_by_index_ties_included(
    shape: tuple[int, int, int, int], levels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch, channels, height, width = shape
    # few levels, so that nearly every window has its largest value several times
    x = torch.randint(-levels, levels + 1, (batch, channels, 2 * height, 2 * width), generator=generator).float()
    values = torch.randn(shape, generator=generator)
    pooled, indices = functional.max_pool2d(x, 2, return_indices=True)
    found, offsets = _pooled(x)
    assert torch.equal(found, pooled)
    assert torch.equal(_unpooled(values, offsets), functional.max_unpool2d(values, indices, [2, 2]))


@pytest.mark.parametrize("shape", [(2, 1, 32, 48), (1, 1, 17, 5), (3, 1, 1, 1)])
def test_quicknat_gives_the_same_bits(shape: tuple[int, ...]) -> None:
    model = QuickNAT(classes=5, filters=4, kernel_size=3).eval()
    x = torch.randn(shape)
    x[..., : shape[-1] // 2] = 0  # flat ground, where ties are
    with torch.no_grad():
        assert torch.equal(exportable(model)(x), model(x))


def test_the_network_itself_is_left_as_it_is_and_shares_its_parameters() -> None:
    model = QuickNAT(classes=2, filters=2, kernel_size=3).eval()
    names = list(model.state_dict())
    other = exportable(model)
    assert list(model.state_dict()) == names
    assert not other.training
    assert {id(parameter) for parameter in other.parameters()} == {id(parameter) for parameter in model.parameters()}


def test_any_other_network_is_itself() -> None:
    model = nn.Conv2d(1, 2, 3)
    assert exportable(model) is model
