from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from perdure.errors import MethodError
from perdure.importance import accumulate

EVERY = ["mean", "samples", "ema", "max", "sum"]


def one(*values: float) -> dict[str, Tensor]:
    return {"w": torch.tensor(values, dtype=torch.float64)}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("mean", [(2 * 0.6 + 0.0) / 3, (2 * 0.1 + 1.0) / 3]),
        ("samples", [0.6 * 30 / 40, (0.1 * 30 + 1.0 * 10) / 40]),
        ("ema", [0.3, 0.55]),
        ("max", [0.6, 1.0]),
        ("sum", [0.6, 1.1]),
    ],
)
def test_a_third_domain_of_10_samples_joins_two_of_30(how: str, expected: list[float]) -> None:
    """Past (0.6, 0.1), newest (0, 1)."""
    found = accumulate(one(0.6, 0.1), one(0.0, 1.0), how, domains=3, past_samples=30, new_samples=10)
    assert_close(found, one(*expected), rtol=1e-10, atol=1e-12)


domains = st.lists(
    st.tuples(st.integers(1, 50), st.lists(st.floats(0, 1), min_size=3, max_size=3)), min_size=2, max_size=6
)


@given(content=domains)
def test_over_any_number_of_domains_each_is_what_its_name_says(content) -> None:
    """Mean, weighted mean, largest, sum; the exponential average weighs the last 1/2, the one before 1/4, and so on."""
    values = torch.tensor([list(value) for _, value in content], dtype=torch.float64)
    counts = torch.tensor([[number] for number, _ in content], dtype=torch.float64)
    fading = torch.tensor([[0.5 ** (len(content) - max(place, 1))] for place in range(len(content))])
    expected = {
        "mean": values.mean(0),
        "samples": (counts * values).sum(0) / counts.sum(),
        "ema": (fading.double() * values).sum(0),
        "max": values.amax(0),
        "sum": values.sum(0),
    }
    for how in EVERY:
        total = one(*values[0].tolist())
        for place in range(1, len(content)):
            total = accumulate(
                total,
                one(*values[place].tolist()),
                how,
                domains=place + 1,
                past_samples=sum(number for number, _ in content[:place]),
                new_samples=content[place][0],
            )
        assert_close(total["w"], expected[how], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("how", ["mean", "samples", "ema", "max"])
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_what_is_0_or_1_in_every_domain_stays_so_exactly(how: str, end: float) -> None:
    total = {"w": torch.full((3,), end)}
    for number in range(2, 30):
        new = {"w": torch.full((3,), end)}
        total = accumulate(total, new, how, domains=number, past_samples=7 * number, new_samples=3)
        assert total["w"].tolist() == [end] * 3


@pytest.mark.parametrize("how", EVERY)
def test_neither_argument_is_changed_or_shared(how: str) -> None:
    past, new = one(0.2, 0.4), one(0.8, 0.4)
    found = accumulate(past, new, how, domains=2, past_samples=1, new_samples=1)
    found["w"].zero_()
    assert past["w"].tolist() == [0.2, 0.4]
    assert new["w"].tolist() == [0.8, 0.4]


def test_a_misspelt_word_is_refused() -> None:
    with pytest.raises(MethodError, match="`accumulation` must be one of 'mean', 'samples', 'ema', 'max', 'sum'"):
        accumulate({}, {}, "median", domains=2, past_samples=1, new_samples=1)
