"""What subjects show of a mean whatever its distribution: by hand, and where no interval by spread sees anything."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.evaluation.bounded import SHARES, bounded_low, bounded_needed, bounded_p
from perdure.evaluation.noninferiority import compare_means

LEVEL = 0.05


def test_one_subject_that_did_not_change_by_hand() -> None:
    """d = 0, l = -0.4, τ = -0.2: the gain is 0 + 0.2 over 0.2, so 1 + c; the mean of c is (K + 1) / 2K."""
    assert 1 / bounded_p(np.zeros(1), -0.4, -0.2) == pytest.approx(1 + (SHARES + 1) / (2 * SHARES))


def test_it_is_the_mean_over_shares_of_products_over_subjects() -> None:
    values, lowest, threshold = np.array([0.3, -0.1, 0.02, -0.25]), -0.4, -0.05
    wealth = [
        math.prod(1 + k / SHARES * (d - threshold) / (threshold - lowest) for d in values) for k in range(1, SHARES + 1)
    ]
    # a mean below the threshold on paper may still win a little; p is never above 1
    assert bounded_p(values, lowest, threshold) == pytest.approx(min(1, SHARES / sum(wealth)))


def test_of_subjects_that_do_not_change_about_as_many_are_needed_as_any_test_needs() -> None:
    for margin, largest in ((0.02, 1.0), (0.02, 0.4), (0.05, 0.3)):
        fewest = math.log(2 / LEVEL) / -math.log(1 - margin / largest)
        needed = bounded_needed(np.zeros(10), -largest, -margin, LEVEL, 100_000)
        assert needed is not None
        assert fewest <= needed <= 1.9 * fewest
        assert bounded_p(np.zeros(needed), -largest, -margin) <= LEVEL / 2
        assert bounded_p(np.zeros(needed - 1), -largest, -margin) > LEVEL / 2


def test_who_loses_as_much_as_can_be_is_seen_by_every_share() -> None:
    assert bounded_p(np.array([0.0, -0.4]), -0.4, -0.2) == 1.0
    assert bounded_low(np.full(30, -0.4), -0.4, LEVEL) == pytest.approx(-0.4)
    assert bounded_needed(np.full(30, -0.4), -0.4, -0.2, LEVEL, 1000) is None


@given(
    changes=st.lists(st.floats(-0.4, 1.0), min_size=2, max_size=40),
    threshold=st.floats(-0.39, 0.5),
    level=st.floats(0.001, 0.2),
)
def test_p_is_small_exactly_where_the_bound_lies_above(changes: list[float], threshold: float, level: float) -> None:
    values = np.array(changes)
    low = bounded_low(values, -0.4, level)
    if abs(low - threshold) > 1e-9:
        assert (bounded_p(values, -0.4, threshold) <= level / 2) == (low > threshold)


@pytest.mark.parametrize(("share", "loss", "others"), [(0.05, 0.4, 0.0), (0.1, 0.2, 0.0), (0.05, 0.4, 0.005)])
def test_a_few_who_lose_much_and_were_not_seen_are_allowed_for(share: float, loss: float, others: float) -> None:
    """1000 samples of a mean loss of exactly the margin; Student's t and the bootstrap accept up to 7 of 10."""
    for n in (6, 20, 60, 200):
        rng = np.random.default_rng(n)
        samples = np.maximum(rng.normal(0, others, (1000, n)) - loss * (rng.random((1000, n)) < share), -0.45)
        accepted = sum(bounded_p(one, -0.45, -share * loss) <= LEVEL / 2 for one in samples)
        assert accepted <= 1000 * LEVEL / 2


def test_a_comparison_for_every_distribution_needs_both() -> None:
    still = dict.fromkeys(map(str, range(20)), 0.0)
    plain = compare_means(still, threshold=-0.02)
    assert (plain.low, plain.p_above) == (0.0, 2.0**-20)
    held = compare_means(still, threshold=-0.02, largest_loss=0.4)
    assert held.low == pytest.approx(bounded_low(np.zeros(20), -0.4, 0.05))
    assert held.low < -0.02
    assert held.p_above == bounded_p(np.zeros(20), -0.4, -0.02) > 0.025
    assert held.needed == bounded_needed(np.zeros(20), -0.4, -0.02, 0.05, 100_000)
    assert (held.high, held.p_below, held.is_same) == (plain.high, plain.p_below, True)
    # where spread says less than the bound, spread decides
    rng = np.random.default_rng(0)
    noisy = {str(k): float(d) for k, d in enumerate(rng.normal(0, 0.2, 8))}
    one, other = (compare_means(noisy, threshold=-0.3, largest_loss=bound) for bound in (None, 0.95))
    assert other.low is not None
    assert one.low is not None
    assert other.low <= one.low


def test_where_somebody_lost_more_than_can_be_any_loss_can_be() -> None:
    seen = {**dict.fromkeys(map(str, range(60)), 0.0), "worst": -0.5}
    values = np.array(list(seen.values()))
    held = compare_means(seen, threshold=-0.02, largest_loss=0.3)
    assert held.p_above == max(bounded_p(values, -1.0, -0.02), compare_means(seen, threshold=-0.02).p_above)


@pytest.mark.parametrize(("lowest", "threshold"), [(-0.2, -0.2), (-0.1, 0.0)])
def test_a_bound_that_is_none_is_refused(lowest: float, threshold: float) -> None:
    with pytest.raises(ValueError, match="`lowest` must be below"):
        bounded_p(np.array([0.0, -0.15]), lowest, threshold)
