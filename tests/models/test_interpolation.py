from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from perdure.errors import NetworkError
from perdure.models import QuickNAT, interpolated

SHARES = st.floats(0, 1)


def network(seed: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.PReLU())
    model(torch.rand(4, 1, 5, 5) * seed)
    for _ in range(seed):
        model[1].num_batches_tracked += 1
    return model.to(dtype)


def bits(state: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for name, tensor in state.items()}


@given(share=SHARES)
def test_parameters_and_statistics_lie_on_the_line(share: float) -> None:
    start, end = network(1, torch.float64).state_dict(), network(2, torch.float64)
    between = interpolated(end, start, share)
    assert set(between) == set(end.state_dict())
    for name, value in end.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(between[name], (1 - share) * start[name] + share * value, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("share", "counter"), [(0.0, 2), (0.1, 2), (0.49, 2), (0.5, 3), (1.0, 3)])
def test_counters_are_those_of_the_nearer_end(share: float, counter: int) -> None:
    between = interpolated(network(2), network(1).state_dict(), share)
    assert between["1.num_batches_tracked"].item() == counter
    assert between["1.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_both_ends_are_exact_bit_for_bit(dtype: torch.dtype) -> None:
    start, end = network(1, dtype), network(2, dtype)
    with torch.no_grad():
        for model, sign in ((start, -1.0), (end, 1.0)):
            model[0].weight[0, 0, 0] = torch.tensor([sign * 0.0, float("nan"), sign * float("inf")])
    assert bits(interpolated(end, start.state_dict(), 0)) == bits(start.state_dict())
    assert bits(interpolated(end, start.state_dict(), 1)) == bits(end.state_dict())


@given(share=SHARES)
def test_what_is_equal_at_both_ends_stays_so_bit_for_bit(share: float) -> None:
    """So a frozen weight is frozen in everything between, whatever the rounding."""
    start = network(1)
    end = copy.deepcopy(start)
    with torch.no_grad():
        for model in (start, end):
            model[0].weight[0, 0, 0] = torch.tensor([-0.0, 1e-42, float("inf")])
        end[2].weight += 1
    between = bits(interpolated(end, start.state_dict(), share))
    expected = bits(start.state_dict())
    assert {name for name in expected if between[name] != expected[name]} <= {"2.weight"}


def test_the_network_is_unchanged_and_shares_nothing_with_the_result() -> None:
    start, end = network(1).state_dict(), network(2)
    before = bits(end.state_dict()), bits(start)
    for share in (0, 0.3, 1):
        for tensor in interpolated(end, start, share).values():
            assert not tensor.requires_grad
            tensor.fill_(9)
    assert (bits(end.state_dict()), bits(start)) == before


def test_share_0_is_the_parent_and_1_the_candidate_in_what_they_predict() -> None:
    torch.manual_seed(0)
    parent, candidate = (QuickNAT(filters=2, kernel_size=3, classes=3).eval() for _ in range(2))
    x = torch.rand(1, 1, 32, 32)
    model = copy.deepcopy(candidate)
    for share, expected in ((0, parent), (1, candidate)):
        model.load_state_dict(interpolated(candidate, parent.state_dict(), share))
        assert torch.equal(model(x), expected(x))
    model.load_state_dict(interpolated(candidate, parent.state_dict(), 0.5))
    assert not torch.equal(model(x), parent(x))
    assert not torch.equal(model(x), candidate(x))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(NetworkError, match=rf"`share` must be in \[0, 1\]; got {share}"):
        interpolated(network(1), network(2).state_dict(), share)


def test_two_different_networks_have_no_line_between_them() -> None:
    model = network(1)
    start = network(2).state_dict()
    with pytest.raises(NetworkError, match=r"only one of them has \['3\.weight'\]"):
        interpolated(model, start | {"3.weight": torch.zeros(1)}, 0.5)
    with pytest.raises(NetworkError, match=r"only one of them has \['2\.weight'\]"):
        interpolated(model, {name: value for name, value in start.items() if name != "2.weight"}, 0.5)
    with pytest.raises(
        NetworkError, match=r"2\.weight is torch\.float32 \(2,\) at the start and torch\.float32 \(1,\)"
    ):
        interpolated(model, start | {"2.weight": torch.zeros(2)}, 0.5)
    with pytest.raises(NetworkError, match=r"2\.weight is torch\.float64 \(1,\) at the start"):
        interpolated(model, start | {"2.weight": start["2.weight"].double()}, 0.5)
