"""Distances and tests of a shift: closed forms, scipy, and how often chance alone is called a shift."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from perdure.errors import EvaluationError
from perdure.evaluation.shift import dempster_p, distance, divergence, ks_distance, ks_p
from perdure.evaluation.shift_activations import standardised_activations

MANY = 10**9


def test_the_distance_of_subjects_that_agree_is_that_of_each() -> None:
    # one channel, a = 3, b = 4
    assert distance(np.array([[3.0, 4.0], [3.0, 4.0]])) == pytest.approx(5)
    # two channels: the mean square over channels, (9 + 16 + 0 + 0) / 2
    assert distance(np.array([[3.0, 0.0, 4.0, 0.0]])) == pytest.approx(np.sqrt(12.5))


def test_the_distance_leaves_out_what_so_few_subjects_are_off_by_chance() -> None:
    # mean (1, 0), variances (2, 0), so 1 - 2 / 2 = 0
    assert distance(np.array([[0.0, 0.0], [2.0, 0.0]])) == 0
    # variances (0.5, 0): 1 - 0.25
    assert distance(np.array([[0.5, 0.0], [1.5, 0.0]])) == pytest.approx(np.sqrt(0.75))


def test_the_divergence_is_that_of_two_normal_distributions() -> None:
    # new mean 1 and variance 4 in old deviations: m = 5; (4 + 1 - 1 - log 4) / 2
    old, new = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(1.0, 2.0)
    expected = float(torch.distributions.kl_divergence(new, old))
    assert divergence(np.array([[1.0, 2.0]])) == pytest.approx(expected)
    assert divergence(np.zeros((3, 4))) == 0


@given(st.integers(3, 12), st.integers(0, 10_000))
def test_of_one_number_a_subject_the_test_is_the_t_test(n: int, seed: int) -> None:
    z = np.random.default_rng(seed).normal(0.5, 1, (n, 1))
    assert dempster_p(z, MANY) == pytest.approx(stats.ttest_1samp(z[:, 0], 0).pvalue, rel=1e-6)


def test_few_subjects_before_count_like_few_now() -> None:
    # with as many before as now, F halves
    z = np.random.default_rng(0).normal(1, 1, (6, 1))
    t = stats.ttest_1samp(z[:, 0], 0).statistic
    assert dempster_p(z, 6) == pytest.approx(stats.f.sf(t**2 / 2, 1, 5), rel=1e-9)


@pytest.mark.parametrize("correlated", [0.0, 0.9])
def test_chance_alone_is_rarely_called_a_shift_though_channels_depend_on_each_other(correlated: float) -> None:
    rng = np.random.default_rng(1)
    n, width, times = 8, 40, 1000
    own, shared = rng.normal(size=(times, n, width)), rng.normal(size=(times, n, 1))
    z = np.sqrt(1 - correlated) * own + np.sqrt(correlated) * shared
    false_alarms = np.mean([dempster_p(one, MANY) <= 0.05 for one in z])
    # three standard errors of 1000 draws about 5 %
    assert 0.03 < false_alarms < 0.071


def test_a_shift_in_many_channels_is_found_where_no_single_one_would_be() -> None:
    z = np.random.default_rng(2).normal(0.5, 1, (8, 100))
    assert (dempster_p(z, MANY) or 1) < 1e-6
    assert stats.ttest_1samp(z, 0).pvalue.min() * 100 > 1e-3


def test_two_subjects_are_not_tested() -> None:
    assert dempster_p(np.ones((2, 4)), 9) is None


def test_subjects_that_agree_to_the_last_bit_are_certain() -> None:
    assert dempster_p(np.zeros((4, 3)), 9) == 1
    assert dempster_p(np.ones((4, 3)), 9) == 0


def test_what_cannot_be_tested_is_refused() -> None:
    with pytest.raises(EvaluationError, match="not finite"):
        dempster_p(np.array([[1.0], [np.nan], [1.0]]), 9)
    with pytest.raises(EvaluationError, match="at least 1"):
        dempster_p(np.ones((4, 3)), 0)


def test_kolmogorov_and_smirnov_as_scipy_has_it() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random(40), rng.random(40) ** 2
    both = np.sort(np.concatenate([a, b]))
    before, after = (np.searchsorted(np.sort(one), both, side="right") / 40 for one in (a, b))
    expected = stats.ks_2samp(a, b, method="asymp")
    assert ks_distance(before[None], after[None]) == pytest.approx(expected.statistic)
    assert ks_p(float(expected.statistic), 40, 40) == pytest.approx(expected.pvalue, rel=1e-9)


def test_activations_are_those_of_the_obvious_way() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.BatchNorm2d(3), nn.Dropout(0.5))
    with torch.no_grad():
        for norm in (model[0], model[3]):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    scans = {"s": [torch.randn(2, 2, 6, 6), torch.randn(3, 2, 6, 6)], "t": [torch.randn(1, 2, 6, 6)]}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = standardised_activations(model, scans)
    model.eval()
    for row, batches in enumerate(scans.values()):
        x = torch.cat(batches)
        for name, norm, reached in (("0", model[0], x), ("3", model[3], model[:3](x))):
            z = (reached - norm.running_mean[:, None, None]) / (norm.running_var + norm.eps).sqrt()[:, None, None]
            values = z.movedim(1, 0).flatten(1)
            expected = torch.cat([values.mean(1), (values.square().mean(1) - 1) / 2]).detach()
            assert torch.from_numpy(found[name][row]).float() == pytest.approx(expected, abs=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_activations_do_not_depend_on_how_scans_are_cut_into_batches() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    x = torch.randn(6, 1, 5, 5)
    whole = standardised_activations(model, {"s": [x]})["1"]
    assert standardised_activations(model, {"s": [x[:1], x[1:]]})["1"] == pytest.approx(whole, abs=1e-6)


def test_a_network_without_batch_norm_has_no_layers() -> None:
    assert standardised_activations(nn.Conv2d(1, 2, 3), {"s": [torch.randn(1, 1, 5, 5)]}) == {}
