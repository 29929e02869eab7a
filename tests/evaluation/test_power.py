"""Against statsmodels and a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from perdure.evaluation.power import MOST, power, subjects_needed


@pytest.mark.parametrize("n", [2, 6, 20, 100])
@pytest.mark.parametrize("size", [0.2, 0.5, 1.0])
def test_equals_the_power_of_statsmodels(n: int, size: float) -> None:
    expected = TTestPower().power(size, n, 0.025, alternative="larger")
    assert power(n, change=0.01, sd=0.03 / size, threshold=-0.02, level=0.05) == pytest.approx(expected, abs=1e-10)


def test_is_the_share_of_samples_that_show_it() -> None:
    x = np.random.default_rng(0).normal(0, 0.03, (20_000, 15))
    shown = stats.ttest_1samp(x, -0.02, axis=1, alternative="greater").pvalue <= 0.025
    assert power(15, change=0, sd=0.03, threshold=-0.02, level=0.05) == pytest.approx(shown.mean(), abs=0.012)


def test_the_needed_subjects_are_the_fewest_with_the_power() -> None:
    about = {"change": 0.0, "sd": 0.03, "threshold": -0.02, "level": 0.05}
    n = subjects_needed(**about, wanted=0.8)
    assert power(n, **about) >= 0.8 > power(n - 1, **about)
    theirs = TTestPower().solve_power(0.02 / 0.03, alpha=0.025, power=0.8, alternative="larger")
    assert n == int(np.ceil(theirs))
    assert subjects_needed(**about, wanted=0.95) > n


def test_what_is_clear_needs_the_fewest_that_may_decide() -> None:
    assert subjects_needed(change=0, sd=1e-6, threshold=-0.5, level=0.05) == 6
    assert subjects_needed(change=0, sd=0, threshold=-0.5, level=0.025) == 7
    assert power(50, change=0, sd=1e-9, threshold=-0.5, level=0.05) == 1


def test_no_number_of_subjects_shows_what_is_not_so() -> None:
    assert subjects_needed(change=-0.03, sd=0.01, threshold=-0.02, level=0.05) is None
    assert subjects_needed(change=-0.02, sd=0.01, threshold=-0.02, level=0.05) is None
    assert subjects_needed(change=-0.0199, sd=0.5, threshold=-0.02, level=0.05) is None
    assert power(MOST, change=-0.0199, sd=0.5, threshold=-0.02, level=0.05) < 0.8
