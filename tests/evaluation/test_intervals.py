"""Golden numbers by hand, and the slow references: every way to draw the subjects, and BCa as its equations have it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from perdure.errors import EvaluationError
from perdure.evaluation import Interval, difference_over_subjects, interval_over_subjects, intervals

SKEWED = [0.0, 0.1, 0.1, 0.2, 0.3, 0.5, 0.9, 3.0]
FEW = 399
numbers = st.floats(-10, 10, allow_subnormal=False)
samples = st.lists(numbers, min_size=2, max_size=8)


def by_subject(values: list[float]) -> dict[str, float]:
    return {f"s{place}": value for place, value in enumerate(values)}


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def bca_by_its_equations(values: list[float], level: float) -> tuple[float, float]:
    """Efron and Tibshirani 1993, Eqs. 14.9 to 14.15, by 200 000 draws of their own."""
    x = np.array(values)
    drawn = x[np.random.default_rng(1).integers(0, len(x), (200_000, len(x)))].mean(axis=1)
    below = np.mean(drawn < x.mean()) + np.mean(drawn == x.mean()) / 2
    z0 = norm.ppf(below)
    without = np.array([np.delete(x, place).mean() for place in range(len(x))])
    apart = without.mean() - without
    a = (apart**3).sum() / (6 * (apart**2).sum() ** 1.5)
    z = z0 + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(drawn, norm.cdf(z0 + z / (1 - a * z)))
    return float(low), float(high)


def test_two_subjects_by_hand() -> None:
    """The mean of 0 and 1 drawn twice is 0, .5 and 1 in a quarter, a half and a quarter of the draws."""
    wide = interval_over_subjects(by_subject([0, 1]), kind="percentile")
    assert (wide.low, wide.estimate, wide.high) == (0, 0.5, 1)
    narrow = interval_over_subjects(by_subject([0, 1]), level=0.4, kind="percentile")
    assert (narrow.low, narrow.estimate, narrow.high) == (0.5, 0.5, 0.5)


def test_percentiles_equal_those_of_every_way_to_draw_the_subjects() -> None:
    values = [0.11, 0.23, 0.58, 0.64, 0.97]
    means = [np.mean(drawn) for drawn in itertools.product(values, repeat=5)]
    found = interval_over_subjects(by_subject(values), level=0.9, resamples=40_000, kind="percentile")
    assert ends(found) == pytest.approx(np.quantile(means, [0.05, 0.95]), abs=0.008)


def test_bca_follows_its_equations_and_not_the_percentiles() -> None:
    expected = bca_by_its_equations(SKEWED, 0.9)
    found = interval_over_subjects(by_subject(SKEWED), level=0.9, resamples=40_000)
    assert found.kind == "BCa"
    assert ends(found) == pytest.approx(expected, abs=0.02)
    plain = interval_over_subjects(by_subject(SKEWED), level=0.9, resamples=40_000, kind="percentile")
    # to the right of the percentiles, where the tail is
    assert found.low > plain.low + 0.05
    assert found.high > plain.high + 0.2


@pytest.mark.parametrize("values", [[0.7] * 3, [0.0] * 3, [0.3, 0.1 + 0.2, 0.3], [0.0, 1e-200, 0.0]])
def test_where_bca_is_not_defined_the_percentiles_are_given_and_said(values: list[float]) -> None:
    """All alike, but for rounding, or so small that a cube of it is 0."""
    found = interval_over_subjects(by_subject(values))
    assert ends(found) == pytest.approx((min(values), max(values)), abs=1e-12)
    assert (found.kind, found.reason) == ("percentile", "BCa is not defined for these values")


def test_what_is_of_the_kind_asked_for_needs_no_reason() -> None:
    found = [interval_over_subjects(by_subject(SKEWED), kind=kind) for kind in ("BCa", "percentile")]
    assert [(one.kind, one.reason) for one in found] == [("BCa", None), ("percentile", None)]


@given(samples)
def test_percentiles_contain_the_mean_and_stay_between_the_extremes(values: list[float]) -> None:
    found = interval_over_subjects(by_subject(values), resamples=FEW, kind="percentile")
    low, high = ends(found)
    assert found.estimate == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= low <= found.estimate + 1e-9
    assert found.estimate - 1e-9 <= high <= max(values) + 1e-9


@given(samples, st.randoms(use_true_random=False))
def test_neither_order_nor_names_of_subjects_matter(values: list[float], chance: random.Random) -> None:
    found = interval_over_subjects(by_subject(values), resamples=FEW)
    shuffled = chance.sample(values, len(values))
    names = chance.sample(range(1000), len(values))
    assert interval_over_subjects(dict(zip(map(str, names), shuffled, strict=True)), resamples=FEW) == found


@given(samples, st.integers(0, 2**31))
def test_the_same_seed_gives_the_same_interval(values: list[float], seed: int) -> None:
    first = interval_over_subjects(by_subject(values), resamples=FEW, seed=seed)
    assert interval_over_subjects(by_subject(values), resamples=FEW, seed=seed) == first


def test_another_seed_draws_other_subjects() -> None:
    values = by_subject(list(np.random.default_rng(0).random(20)))
    first, second = (interval_over_subjects(values, seed=seed) for seed in (0, 1))
    assert first.low != second.low
    assert ends(first) == pytest.approx(ends(second), abs=0.01)


def test_drawing_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = interval_over_subjects(by_subject(SKEWED), resamples=FEW)
    monkeypatch.setattr(intervals, "PIECE", 8 * 7)
    assert interval_over_subjects(by_subject(SKEWED), resamples=FEW) == whole


@given(st.lists(st.lists(numbers, min_size=1, max_size=4), min_size=2, max_size=5), st.integers(2, 3))
def test_cases_are_averaged_first_so_that_twice_the_same_cases_change_nothing(cases: list[list[float]], k: int) -> None:
    found = interval_over_subjects({str(s): values for s, values in enumerate(cases)}, resamples=FEW, kind="percentile")
    again = {str(s): values * (k if s == 0 else 1) for s, values in enumerate(cases)}
    repeated = interval_over_subjects(again, resamples=FEW, kind="percentile")
    assert repeated.estimate == pytest.approx(found.estimate, abs=1e-12)
    assert ends(repeated) == pytest.approx(ends(found), abs=1e-9)


def test_a_subject_with_many_cases_counts_once() -> None:
    """The mean of 0 and 1 is a half, although nine of ten cases are 1."""
    found = interval_over_subjects({"a": [0.0], "b": [1.0] * 9})
    assert found.estimate == 0.5


def test_cases_taken_for_subjects_would_make_the_interval_too_short() -> None:
    rng = np.random.default_rng(5)
    cases = {f"s{s}": rng.normal(rng.normal(), 0.1, 10) for s in range(8)}
    clustered = interval_over_subjects(cases)
    pretended = interval_over_subjects({f"{s}-{c}": x for s, values in cases.items() for c, x in enumerate(values)})
    assert clustered.estimate == pytest.approx(pretended.estimate)
    low, high = ends(clustered)
    pretended_low, pretended_high = ends(pretended)
    # as the square root of the ten cases
    assert 2 < (high - low) / (pretended_high - pretended_low) < 4


def test_cases_and_subjects_without_a_value_are_left_out_and_counted() -> None:
    found = interval_over_subjects({"a": [1.0, None], "b": [3.0, float("nan"), 5.0], "c": [None], "d": None, "e": []})
    assert (found.n, found.left_out, found.estimate) == (2, 3, 2.5)


def test_one_subject_has_no_interval() -> None:
    found = interval_over_subjects({"a": [0.25, 0.75], "b": None})
    assert (found.estimate, found.low, found.high, found.n) == (0.5, None, None, 1)
    assert found.said() == ".500 (no interval: one subject)"


def test_subjects_without_a_value_have_no_estimate() -> None:
    found = interval_over_subjects({"a": None, "b": [float("nan")]})
    assert (found.estimate, found.low, found.high, found.n, found.left_out) == (None, None, None, 0, 2)
    assert found.said() == "not computed (none of the 2 subjects has a value)"


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8))
def test_a_difference_is_the_interval_of_the_differences(pairs: list[tuple[float, float]]) -> None:
    before, after = (by_subject(list(side)) for side in zip(*pairs, strict=True))
    found = difference_over_subjects(before, after, resamples=FEW)
    expected = interval_over_subjects(by_subject([new - old for old, new in pairs]), resamples=FEW)
    assert found == expected


def test_swapping_the_releases_turns_the_difference() -> None:
    before, after = (by_subject(list(side)) for side in np.random.default_rng(3).normal(size=(2, 12)))
    found = difference_over_subjects(before, after)
    swapped = difference_over_subjects(after, before)
    assert swapped.estimate == pytest.approx(-found.estimate)
    low, high = ends(found)
    # by other draws of the same distribution
    assert (-swapped.high, -swapped.low) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_what_makes_subjects_differ_cancels_in_a_difference() -> None:
    """Subjects lie one apart, each gains .01 or .03: the difference is known to a hundredth all the same."""
    before = by_subject(list(range(8)))
    after = {name: value + (0.01 if value % 2 else 0.03) for name, value in before.items()}
    found = difference_over_subjects(before, after)
    assert found.estimate == pytest.approx(0.02)
    low, high = ends(found)
    assert 0.01 < low < high < 0.03


def test_a_case_without_a_value_on_one_side_is_left_out_on_both() -> None:
    """Subject a: 3 - 1 of the first case alone; b: (1 + 3) / 2; c has no case with both."""
    before = {"a": [1.0, None], "b": [1.0, 1.0], "c": [None, 1.0]}
    after = {"a": [3.0, 9.0], "b": [2.0, 4.0], "c": [1.0, None]}
    found = difference_over_subjects(before, after)
    assert (found.n, found.left_out, found.estimate) == (2, 1, 2.0)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"a": 1}, {"b": 1}, r"Subject 'a' has a value before but none after \(2 in all"),
        ({"a": [1, 2]}, {"a": [1]}, "Subject 'a' has 2 cases before and 1 after"),
        ([1, 2], [1, 2], "`before` must map each subject to its value; got list"),
    ],
)
def test_a_difference_refuses_what_is_no_pair(before: object, after: object, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        difference_over_subjects(before, after)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "No subject has a value"),
        ({"a": [1.0, float("inf")]}, "Subject 'a' has an infinite value; allowed are finite numbers"),
        ({"a": [[1.0, 2.0]]}, r"Subject 'a' has shape \(1, 2\)"),
    ],
)
def test_refuses_values_that_are_not_one_number_a_case(values: dict[str, list[float]], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        interval_over_subjects(values)


@pytest.mark.parametrize(
    "of", [interval_over_subjects, lambda values, **more: difference_over_subjects(values, values, **more)]
)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 95}, r"`level` must be in \(0, 1\), as 0.95 for 95 %; got 95"),
        ({"level": 0.95, "resamples": 39}, "`resamples` must be at least 40 for a level of 0.95; got 39"),
        ({"level": 0.9, "resamples": 19}, "`resamples` must be at least 20 for a level of 0.9; got 19"),
        ({"kind": "bca"}, "`kind` must be 'BCa' or 'percentile'; got 'bca'"),
    ],
)
def test_refuses_settings(of: Callable[..., Interval], settings: dict[str, object], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        of({"a": 1.0, "b": 2.0}, **settings)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99, 0.999])
def test_as_many_draws_as_the_message_asks_for_will_do(level: float) -> None:
    found = interval_over_subjects({"a": 1.0, "b": 2.0}, level=level, resamples=round(2 / (1 - level)))
    assert found.level == level


def interval(estimate: float, low: float, high: float, n: int = 8) -> Interval:
    return Interval(estimate=estimate, low=low, high=high, level=0.95, n=n, over="subjects", kind="BCa")


@pytest.mark.parametrize(
    ("found", "digits", "text"),
    [
        (interval(0.012, -0.004, 0.03), 3, ".012 [-.004, .030] (95 %, 8 subjects)"),
        (interval(-0.5, -1, 0), 2, "-.50 [-1.00, .00] (95 %, 8 subjects)"),
        (interval(-0.0001, -10.25, 120.5, n=2), 1, ".0 [-10.2, 120.5] (95 %, 2 subjects)"),
        (
            interval(0.012, -0.004, 0.03).model_copy(update={"level": 0.999}),
            3,
            ".012 [-.004, .030] (99.9 %, 8 subjects)",
        ),
    ],
)
def test_is_printed_with_its_level_and_what_it_counts(found: Interval, digits: int, text: str) -> None:
    assert found.said(digits) == text


def test_comes_back_from_json_as_it_was() -> None:
    found = interval_over_subjects({"a": 1.0, "b": None})
    assert Interval.model_validate_json(found.model_dump_json()) == found
