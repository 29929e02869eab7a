"""The parts of scaling that the code published with Özgün et al. 2020 has beside the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from perdure.errors import MethodError
from perdure.importance import AUTHORS, Scaling, clip_outliers, logarithm

AXES = {"w": (0, 1)}


def one(values: object) -> dict[str, Tensor]:
    return {"w": torch.tensor(values, dtype=torch.float64)}


def test_their_fences_stand_one_and_a_half_distances_outside_the_5th_and_95th_percentile() -> None:
    """Of 0, 1, …, 20 and 1000 the 5 % quantile is 1.05 and the 95 % one 19.95: fences at 0 and 19.95 + 1.5 * 18.9."""
    clipped = clip_outliers(one([*range(21), 1000.0]), (0.05, 0.95))["w"]
    assert clipped[:21].tolist() == list(range(21))
    assert clipped[21].item() == pytest.approx(19.95 + 1.5 * 18.9, rel=1e-12)


def test_the_logarithm_is_the_natural_one_and_0_counts_as_the_smallest_above_0() -> None:
    found = logarithm({**one([0.0, 1.0, math.e]), "b": torch.tensor([math.e**-2, 0.0], dtype=torch.float64)})
    assert found["w"].tolist() == pytest.approx([-2, 0, 1], abs=1e-12)
    assert found["b"].tolist() == pytest.approx([-2, -2], abs=1e-12)


def test_nothing_but_zeros_has_a_logarithm_too() -> None:
    assert logarithm(one([0.0, 0.0]))["w"].tolist() == [0, 0]
    assert AUTHORS(one([0.0, 0.0]))["w"].tolist() == [0, 0]


def test_their_whole_scaling_by_hand() -> None:
    """1, 10, 100 and 0, without an outlier: the logarithms over log 100 are 0, 1/2, 1, and 0 goes with 1 to 0."""
    assert AUTHORS(one([1.0, 10.0, 100.0, 0.0]))["w"].tolist() == pytest.approx([0, 0.5, 1, 0], abs=1e-12)


@given(values=st.lists(st.floats(0, 1e6), min_size=5, max_size=40))
def test_their_whole_scaling_is_clip_logarithm_and_range_in_this_order(values: list[float]) -> None:
    low, high = np.quantile(values, [0.05, 0.95])
    expected = np.clip(values, max(low - 1.5 * (high - low), 0), high + 1.5 * (high - low))
    found = AUTHORS(one(values))["w"].numpy()
    assert found.min() >= 0
    assert found.max() <= 1
    if (expected > 0).any():
        expected = np.log(np.maximum(expected, expected[expected > 0].min()))
        spread = expected.max() - expected.min()
        np.testing.assert_allclose(found, (expected - expected.min()) / spread if spread else 0 * expected, atol=1e-10)


FILTERS = [[0.0, 100.0], [2.0, 2.0], [4.0, 0.0]]


def test_raw_importance_can_be_averaged_first() -> None:
    """Of the filters (0, 100), (2, 2), (4, 0) the means are 50, 2, 2, which scale to 1, 0, 0."""
    scaling = Scaling(outliers="keep", averaged_first="filter")
    assert scaling(one(FILTERS), AXES)["w"].tolist() == [[1.0], [0.0], [0.0]]


def test_averaged_last_the_same_filters_have_other_weights() -> None:
    """Scaled they are (0, 1), (.02, .02), (.04, 0), which the method averages to .5, .02, .02."""
    scaled = Scaling(outliers="keep")(one(FILTERS), AXES)["w"]
    assert scaled.mean(1).tolist() == pytest.approx([0.5, 0.02, 0.02])


def test_an_outlier_of_one_weight_is_clipped_only_where_it_is_not_averaged_first() -> None:
    """Filter means 10, 1, 1, 1: Q1 = 1 and Q3 = 1 + 9/4 * 1 ... the clip is that of means, not of weights."""
    weights = one([[40.0, 0, 0, 0], [1.0] * 4, [1.0] * 4, [1.0] * 4])
    means = np.array([10.0, 1, 1, 1])
    low, high = np.quantile(means, [0.25, 0.75])
    fence = high + 1.5 * (high - low)
    first = Scaling(range="raw", averaged_first="filter")(weights, AXES)["w"]
    assert first.flatten().tolist() == pytest.approx([fence, 1, 1, 1])
    assert Scaling(range="raw")(weights, AXES)["w"].max().item() == 1


def test_kernels_first() -> None:
    """(2, 2, window of 2): kernel means 1, 2, 3 and 5 scale to 0, 1/4, 1/2 and 1."""
    weights = one([[[0.0, 2.0], [2.0, 2.0]], [[6.0, 0.0], [5.0, 5.0]]])
    found = Scaling(outliers="keep", averaged_first="kernel")(weights, AXES)["w"]
    assert found.tolist() == [[[0.0], [0.25]], [[0.5], [1.0]]]


def test_without_axes_nothing_is_averaged() -> None:
    scaling = Scaling(outliers="keep", range="raw", averaged_first="filter")
    assert scaling(one(FILTERS))["w"].tolist() == FILTERS


def test_the_log_of_each_layer_where_each_layer_has_its_own_scale() -> None:
    """Layers 1, 10, 100, 1000 and ten times that have the same weights each."""
    layers = {**one([1.0, 10, 100, 1000]), "v": torch.tensor([10.0, 100, 1000, 10000], dtype=torch.float64)}
    found = Scaling(outliers="keep", scope="layer", logarithmic=True)(layers)
    for value in found.values():
        assert value.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=1e-12)


@pytest.mark.parametrize(
    "shares", [(0.75, 0.25), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), (0.1, 0.5, 0.9), (float("nan"), 1)]
)
def test_quantiles_that_do_not_rise_within_0_and_1_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(MethodError, match=r"two rising shares in \[0, 1\]"):
        Scaling(quantiles=shares)


def test_whole_numbers_are_quantiles_too() -> None:
    assert Scaling(quantiles=(0, 1)) == Scaling(quantiles=(0.0, 1.0))
    assert repr(Scaling(quantiles=(0, 1))) == repr(Scaling(quantiles=(0.0, 1.0)))
