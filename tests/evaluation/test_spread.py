from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from perdure.errors import EvaluationError
from perdure.evaluation import Spread, spread_over_seeds

values_of_seeds = st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=2, max_size=6)


def test_by_hand() -> None:
    """.1, .2, .6: mean .3, sd = sqrt((.04 + .01 + .09) / 2) = .26458; t(2, .975) = 4.30265, times sd / sqrt(3)."""
    found = spread_over_seeds([0.2, 0.6, 0.1])
    assert (found.n, found.min, found.max) == (3, 0.1, 0.6)
    assert found.mean == pytest.approx(0.3)
    assert found.sd == pytest.approx(0.264575)
    assert found.interval.low == pytest.approx(0.3 - 0.657240, abs=1e-5)
    assert found.interval.high == pytest.approx(0.3 + 0.657240, abs=1e-5)
    assert (found.interval.over, found.interval.kind, found.interval.n) == ("seeds", "t", 3)


@given(values_of_seeds, st.floats(0.5, 0.99))
def test_the_interval_is_that_of_the_t_test(values: list[float], level: float) -> None:
    found = spread_over_seeds(values, level=level)
    if np.ptp(values) > 1e-6:
        expected = stats.ttest_1samp(values, 0).confidence_interval(level)
        assert (found.interval.low, found.interval.high) == pytest.approx(tuple(expected))
    assert found.interval.low <= found.mean <= found.interval.high
    assert found.interval.estimate == found.mean


def test_one_seed_has_no_spread() -> None:
    found = spread_over_seeds([0.7])
    assert (found.n, found.mean, found.sd, found.interval.low, found.interval.high) == (1, 0.7, None, None, None)
    assert found.said() == ".700 (one seed: the spread is not known)"
    assert found.interval.said() == ".700 (no interval: one seed)"


def test_is_printed_with_its_seeds_and_never_as_a_bare_plus_minus() -> None:
    found = spread_over_seeds([0.2, 0.6, 0.1])
    assert found.said() == ".300 (3 seeds from .100 to .600, s.d. .265)"
    assert found.said(digits=1) == ".3 (3 seeds from .1 to .6, s.d. .3)"
    assert found.interval.said() == ".300 [-.357, .957] (95 %, 3 seeds)"


def test_comes_back_from_json_as_it_was() -> None:
    found = spread_over_seeds([0.2, 0.6])
    assert Spread.model_validate_json(found.model_dump_json()) == found


def test_a_seed_without_a_value_is_not_left_out_in_silence() -> None:
    with pytest.raises(EvaluationError, match=r"`values\[1\]` is nan; every seed must have a finite value"):
        spread_over_seeds([0.2, float("nan"), 0.3])


def test_refuses_no_seed() -> None:
    with pytest.raises(EvaluationError, match="`values` holds no seed"):
        spread_over_seeds([])


def test_refuses_a_level_that_is_no_share() -> None:
    with pytest.raises(EvaluationError, match=r"`level` must be in \(0, 1\), as 0.95 for 95 %; got 95"):
        spread_over_seeds([0.2, 0.3], level=95)
