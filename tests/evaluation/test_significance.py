"""Golden numbers by hand, and the slow reference: every one of the 2^n ways to set the signs."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from perdure.errors import EvaluationError
from perdure.evaluation import PairedTest, grade_error_test, holm, paired_test, significance

# whole numbers of few sizes, so that most examples have ties and zeros
changes = st.lists(st.integers(-4, 4), min_size=1, max_size=10)
shares = st.floats(0, 1)
ORGANS = ("liver", "spleen", "lung", "heart", "kidney", "stomach")


def wilcoxon_of(d: list[float] | np.ndarray, **more: float) -> PairedTest:
    """The test of these differences, each of a subject of its own that stood at 0 before."""
    after = {f"s{place}": float(value) for place, value in enumerate(d)}
    return paired_test(dict.fromkeys(after, 0.0), after, **more)


def p_by_enumeration(d: list[float] | np.ndarray) -> float:
    """Sets every sign of every rank, also of the zeros, which have none, and counts how often |W| is as large."""
    d = np.asarray(d, float)
    ranks = np.array([np.mean([place for place, size in enumerate(np.sort(abs(d)), 1) if size == abs(x)]) for x in d])
    ranks[d == 0] = 0
    W = abs((np.sign(d) * ranks).sum())
    all_signs = np.array(list(itertools.product((-1, 1), repeat=len(d))))
    return float(np.mean(np.abs(all_signs @ ranks) >= W - 1e-9))


def test_by_hand() -> None:
    """Changes 0, 1, 2, -3, 4 have the ranks 1, 2, 3, 4, 5, of which that of no change then counts no more.

    W = 2 + 3 - 4 + 5 = 6. |W*| = |14 - 2 S| for S the sum of the ranks with a minus: at least 6 for S = 0, 2, 3, 4 and
    their complements, 8 of 16 ways. Without the zero the ranks would be 1 to 4, and 10 of 16 ways as far from 0.
    """
    found = wilcoxon_of([0, 1, 2, -3, 4])
    assert found == PairedTest(
        n=5,
        ties=1,
        left_out=0,
        mean_difference=0.8,
        median_difference=1.0,
        effect=6 / 15,
        p=0.5,
        kind="exact",
        level=0.05,
        smallest_p=1 / 16,
        can_decide=False,
    )


def test_ties_share_their_rank() -> None:
    """1, 1, -2 have the ranks 1.5, 1.5, 3: W = 0, and no way of signs lies nearer. 1, 1, 2: W = 6, as do 2 of 8."""
    assert wilcoxon_of([1, 1, -2]).p == 1
    assert wilcoxon_of([1, 1, 2]).p == 0.25


@given(changes)
def test_p_equals_the_enumeration_of_all_signs(d: list[int]) -> None:
    assert wilcoxon_of(d).p == pytest.approx(p_by_enumeration(d), abs=1e-12)


@pytest.mark.parametrize("n", [14, 16])
def test_p_stays_exact_where_ties_meet_more_pairs_than_scipy_permutes(n: int) -> None:
    d = np.concatenate([np.random.default_rng(n).integers(-3, 5, n - 2), [0, 0]])
    assert wilcoxon_of(d).p == pytest.approx(p_by_enumeration(d), abs=1e-12)


@pytest.mark.parametrize("n", [6, 30, 50])
def test_without_ties_p_equals_that_of_scipy(n: int) -> None:
    d = np.random.default_rng(n).normal(0.3, 1, n)
    assert wilcoxon_of(d).p == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, rel=1e-9)


def test_small_samples_with_ties_equal_the_permutation_test_of_scipy() -> None:
    d = np.array([0, 0, 1, 1, -1, 2, 3, 3, -2, 0, 4, 4])
    expected = stats.wilcoxon(d, zero_method="pratt", method=stats.PermutationMethod(n_resamples=2**12))
    assert wilcoxon_of(d).p == pytest.approx(expected.pvalue)


def test_many_subjects_are_tested_by_the_normal_approximation_and_it_says_so() -> None:
    d = np.random.default_rng(0).integers(-20, 22, 1000)
    found = wilcoxon_of(d)
    assert found.kind == "normal"
    assert "(normal approximation)" in found.said()
    assert found.p == pytest.approx(stats.wilcoxon(d, zero_method="pratt", method="asymptotic").pvalue)


def test_the_normal_approximation_takes_over_where_it_is_close(monkeypatch: pytest.MonkeyPatch) -> None:
    d = np.random.default_rng(2).integers(-5, 7, 300)
    exact = wilcoxon_of(d)
    monkeypatch.setattr(significance, "_LARGEST", 0)
    normal = wilcoxon_of(d)
    assert (exact.kind, normal.kind) == ("exact", "normal")
    assert 0.001 < exact.p < 0.999
    assert normal.p == pytest.approx(exact.p, abs=1e-3)


@given(changes)
def test_p_is_a_probability_that_n_subjects_can_give(d: list[int]) -> None:
    found = wilcoxon_of(d)
    assert found.smallest_p - 1e-12 <= found.p <= 1
    assert found.smallest_p == min(1, 2 / 2 ** len(d))


@given(changes)
def test_swapping_the_releases_turns_the_effect_and_keeps_p(d: list[int]) -> None:
    risen, fallen = wilcoxon_of(d), wilcoxon_of([-x for x in d])
    assert fallen.p == risen.p
    assert fallen.effect == -risen.effect
    assert fallen.median_difference == -risen.median_difference


@given(changes, st.randoms(use_true_random=False))
def test_neither_order_nor_names_of_subjects_matter(d: list[int], chance: random.Random) -> None:
    names = [f"t{place}" for place in range(len(d))]
    before = {name: chance.random() for name in names}
    after = {name: before[name] + x / 7 for name, x in zip(names, d, strict=True)}
    chance.shuffle(names)
    again = paired_test({f"u{name}": before[name] for name in names}, {f"u{name}": after[name] for name in names})
    assert again == paired_test(before, after)


@given(changes)
def test_the_effect_is_one_only_where_every_subject_rose(d: list[int]) -> None:
    effect = wilcoxon_of(d).effect
    assert -1 <= effect <= 1
    assert (effect == 1) == all(x > 0 for x in d)
    assert (effect == -1) == all(x < 0 for x in d)


def test_nothing_changed_is_a_p_of_1() -> None:
    found = wilcoxon_of([0.0] * 8)
    assert (found.p, found.effect, found.ties, found.can_decide) == (1, 0, 8, True)
    assert found.said() == "p 1.000, 8 subjects, 8 of them unchanged"


def test_what_differs_by_rounding_alone_is_a_tie() -> None:
    """0.3 - 0.2 is not 0.2 - 0.1, and 0.1 + 0.2 is not 0.3; taken as they are, the test would find p = .5."""
    before = {"a": 0.2, "b": 0.1, "c": 0.9, "d": 0.3}
    after = {"a": 0.3, "b": 0.2, "c": 0.8, "d": 0.1 + 0.2}
    assert p_by_enumeration([after[name] - before[name] for name in before]) == 0.5
    found = paired_test(before, after)
    assert found.ties == 1
    assert found.p == p_by_enumeration([1, 1, -1, 0]) == 1
    assert found.effect == pytest.approx(3 / 10)


def test_small_changes_are_not_taken_for_rounding() -> None:
    assert paired_test({"a": 0.9, "b": 0.9}, {"a": 0.9 + 1e-9, "b": 0.9 + 2e-9}).ties == 0


@pytest.mark.parametrize(("n", "can_decide"), [(5, False), (6, True)])
def test_six_subjects_are_the_fewest_that_can_decide_at_five_percent(n: int, can_decide: bool) -> None:
    """2 / 2^5 = .0625, 2 / 2^6 = .03125: reached where all go one way."""
    found = wilcoxon_of(range(1, n + 1))
    assert found.p == found.smallest_p == 2 / 2**n
    assert found.can_decide is can_decide


def test_can_decide_depends_on_the_level() -> None:
    assert wilcoxon_of([1, 2, 3, 4], level=0.125).can_decide
    assert not wilcoxon_of([1, 2, 3, 4], level=0.12).can_decide


def test_a_subject_without_a_value_is_left_out_with_its_pair_and_counted() -> None:
    before = {"a": 1.0, "b": None, "c": 3.0, "d": 4.0}
    found = paired_test(before, {"a": 2.0, "b": 1.0, "c": float("nan"), "d": 6.0})
    assert (found.n, found.left_out, found.mean_difference) == (2, 2, 1.5)


def test_without_a_pair_there_is_no_p() -> None:
    found = paired_test({"a": None, "b": 1.0}, {"a": 1.0, "b": None})
    assert (found.n, found.p, found.effect, found.mean_difference, found.median_difference) == (0, *[None] * 4)
    assert not found.can_decide
    assert found.said() == "not computed: none of the 2 subjects has a value both before and after"
    assert holm({"organ": found.p}) == {"organ": None}


def test_it_says_in_words_what_it_found() -> None:
    assert wilcoxon_of([1, 2, 3, 4]).said() == "too few subjects: with 4 pairs p cannot go below 0.125"
    assert wilcoxon_of([1]).said() == "too few subjects: with 1 pair p cannot go below 1"
    assert wilcoxon_of(range(1, 7)).said() == "p 0.031, 6 subjects"
    assert wilcoxon_of(range(1, 21)).said() == "p below 0.001, 20 subjects"


def test_comes_back_from_json_as_it_was() -> None:
    found = wilcoxon_of([1, 2, -3])
    assert PairedTest.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"a": 1, "b": 1}, {"a": 1}, r"Subject 'b' has a value before but none after \(1 in all"),
        ({"a": 1}, {"a": 1, "b": 1, "c": 1}, r"Subject 'b' has a value after but none before \(2 in all"),
        ({}, {}, "No subject to test"),
        ({"a": 1}, {"a": float("inf")}, "Subject 'a' has the value inf; allowed are finite numbers"),
    ],
)
def test_refuses_what_is_no_pair(before: dict[str, float], after: dict[str, float], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        paired_test(before, after)


@pytest.mark.parametrize("draws", [np.linspace(0.1, 0.2, 9999), [0.1, 0.2]], ids=["array", "list"])
def test_refuses_draws_of_a_bootstrap(draws: np.ndarray | list[float]) -> None:
    with pytest.raises(EvaluationError, match="`before` must map each subject to its value.*draws of a bootstrap"):
        paired_test(draws, draws)


@pytest.mark.parametrize("level", [0, 1, 5])
def test_refuses_a_level_that_is_no_share(level: float) -> None:
    with pytest.raises(EvaluationError, match=rf"`level` must be in \(0, 1\).*got {level}"):
        wilcoxon_of([1], level=level)


def test_grade_errors_are_averaged_within_each_subject() -> None:
    """Subject b errs by 1 and 3 before (mean 2), 0 and 1 after (.5); a by 0 and then 1; c by 2 both times."""
    truth = np.array([0, 3, 1, 2], np.uint8)
    before, after = np.array([1, 0, 1, 0], np.uint8), np.array([0, 2, 0, 0], np.uint8)
    found = grade_error_test(truth, before, after, ["b", "b", "a", "c"])
    assert found == paired_test({"a": 0, "b": 2, "c": 2}, {"a": 1, "b": 0.5, "c": 2})
    assert found.mean_difference == pytest.approx((1 - 1.5 + 0) / 3)


def test_grade_errors_do_not_depend_on_the_order_or_the_number_of_alike_cases() -> None:
    rng = np.random.default_rng(4)
    truth, before, after = rng.integers(0, 4, (3, 40))
    subjects = np.repeat([f"s{n}" for n in range(10)], 4)
    found = grade_error_test(truth, before, after, subjects)
    order = np.concatenate([rng.permutation(40), np.arange(40)])
    again = grade_error_test(truth[order], before[order], after[order], subjects[order])
    assert again == found
    assert found.n == 10


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (np.array([0, 1, 1]), r"`after` must hold one class index for each of the 2 cases.*int64 of shape \(3,\)"),
        (np.array([0.0, 1.0]), "`after` must hold one class index.*got float64"),
        (np.array([0, -1]), "`after` holds the value -1; class indices run from 0"),
    ],
)
def test_refuses_what_is_no_grade(after: np.ndarray, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        grade_error_test(np.array([0, 1]), np.array([0, 1]), after, ["a", "b"])


def test_refuses_grades_of_nobody() -> None:
    nothing = np.zeros(0, int)
    with pytest.raises(EvaluationError, match="`subjects` holds no case"):
        grade_error_test(nothing, nothing, nothing, [])


def test_holm_by_hand() -> None:
    """.01 x 3 = .03; .03 x 2 = .06; .04 x 1 = .04, which must not come before .06."""
    found = holm({"liver": 0.04, "spleen": None, "lung": 0.01, "heart": 0.03})
    assert list(found) == ["liver", "spleen", "lung", "heart"]
    assert found == {
        "liver": pytest.approx(0.06),
        "spleen": None,
        "lung": pytest.approx(0.03),
        "heart": pytest.approx(0.06),
    }


def test_holm_agrees_with_statsmodels() -> None:
    values = dict(zip(ORGANS, (0.04, 0.001, 0.3, 0.03, 0.03, 0.9), strict=False))
    expected = multipletests(list(values.values()), method="holm")[1].tolist()
    assert list(holm(values).values()) == pytest.approx(expected, abs=1e-15)


@given(st.dictionaries(st.sampled_from(ORGANS), st.none() | shares))
def test_holm_equals_its_equation_over_what_was_computed(p_values: dict[str, float | None]) -> None:
    corrected = holm(p_values)
    assert list(corrected) == list(p_values)
    family = sorted(p for p in p_values.values() if p is not None)
    before = 0.0
    for place, p in enumerate(family):
        before = max(before, min(1, (len(family) - place) * p))
        assert [corrected[name] for name in p_values if p_values[name] == p] == pytest.approx(
            [before] * family.count(p)
        )
        assert p <= before <= 1
    assert [name for name in corrected if corrected[name] is None] == [n for n in p_values if p_values[n] is None]


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_holm_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(EvaluationError, match=rf"p of 'liver' must be in \[0, 1\], or None.*got {p}"):
        holm({"liver": p})
