from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perdure.importance import running_mean


def test_every_domain_weighs_the_same() -> None:
    """Three domains with 0.9, 0.3 and 0: means 0.9, 0.6 and 0.4."""
    second = running_mean({"w": torch.tensor([0.9])}, {"w": torch.tensor([0.3])}, domains=2)
    third = running_mean(second, {"w": torch.tensor([0.0])}, domains=3)
    assert second["w"].item() == pytest.approx(0.6)
    assert third["w"].item() == pytest.approx(0.4)


@given(domains=st.lists(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), min_size=2, max_size=9))
def test_it_is_the_mean_over_all_domains_and_stays_in_the_unit_range(domains: list[list[float]]) -> None:
    mean = {"w": torch.tensor(domains[0])}
    for number, values in enumerate(domains[1:], 2):
        mean = running_mean(mean, {"w": torch.tensor(values)}, number)
        assert mean["w"].min() >= 0
        assert mean["w"].max() <= 1
    expected = torch.tensor(domains, dtype=torch.float64).mean(0).float()
    torch.testing.assert_close(mean["w"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_what_is_0_or_1_in_every_domain_stays_so_exactly(end: float) -> None:
    """Only exactly 1 keeps a parameter bit for bit; a sum divided by 49 on a GPU would not be 1."""
    mean = {"w": torch.full((3,), end)}
    for number in range(2, 60):
        mean = running_mean(mean, {"w": torch.full((3,), end)}, number)
        assert mean["w"].tolist() == [end] * 3


def test_neither_argument_is_changed() -> None:
    past, new = {"w": torch.tensor([0.2])}, {"w": torch.tensor([0.8])}
    running_mean(past, new, domains=2)
    assert past["w"].item() == pytest.approx(0.2)
    assert new["w"].item() == pytest.approx(0.8)
