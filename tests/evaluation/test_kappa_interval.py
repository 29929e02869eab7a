"""The slow reference: every way to draw the subjects, each with scikit-learn's kappa of all their cases."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from perdure.errors import EvaluationError
from perdure.evaluation import Interval, accuracy_interval, kappa, kappa_interval, linear_kappa

CLASSES = 4


def graded(n: int, cases: int = 5, skill: tuple[float, float] = (0.5, 0.8), seed: int = 0) -> tuple[np.ndarray, ...]:
    """Truth, two predictions that find the grade in `skill` of the cases, and whose each case is."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, n * cases)
    guesses = [np.where(rng.random(truth.size) < share, truth, rng.integers(0, CLASSES, truth.size)) for share in skill]
    return truth, *guesses, np.repeat([f"s{s}" for s in range(n)], cases)


def every_draw(truth: np.ndarray, before: np.ndarray, after: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """The two kappas `(draws, 2)` of each of the n^n ways to draw n subjects."""
    of = {name: np.flatnonzero(subjects == name) for name in np.unique(subjects)}
    kappas = []
    for names in itertools.product(of, repeat=len(of)):
        cases = np.concatenate([of[name] for name in names])
        kappas.append(
            [
                cohen_kappa_score(truth[cases], guess[cases], weights="linear", labels=range(CLASSES))
                for guess in (before, after)
            ]
        )
    return np.array(kappas)


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def test_equals_every_way_to_draw_the_subjects() -> None:
    truth, before, after, subjects = graded(4)
    kappas = every_draw(truth, before, after, subjects)
    alone = kappa_interval(truth, before, subjects=subjects, classes=CLASSES, level=0.9, resamples=40_000)
    assert alone.estimate == pytest.approx(linear_kappa(truth, before, CLASSES))
    assert ends(alone) == pytest.approx(np.quantile(kappas[:, 0], [0.05, 0.95]), abs=0.01)
    assert alone.p is None
    change = kappa_interval(truth, before, after, subjects=subjects, classes=CLASSES, level=0.9, resamples=40_000)
    expected = linear_kappa(truth, after, CLASSES) - linear_kappa(truth, before, CLASSES)
    assert change.estimate == pytest.approx(expected)
    assert ends(change) == pytest.approx(np.quantile(kappas[:, 1] - kappas[:, 0], [0.05, 0.95]), abs=0.01)


def test_p_equals_the_share_of_draws_beyond_zero() -> None:
    truth, before, after, subjects = graded(4, skill=(0.6, 0.65), seed=7)
    kappas = every_draw(truth, before, after, subjects)
    beyond = min(np.mean(kappas[:, 1] <= kappas[:, 0]), np.mean(kappas[:, 1] >= kappas[:, 0]))
    found = kappa_interval(truth, before, after, subjects=subjects, classes=CLASSES, resamples=40_000)
    assert 0.2 < 2 * beyond < 0.8
    assert found.p == pytest.approx(2 * beyond, abs=0.02)


def test_p_is_small_exactly_where_the_interval_leaves_zero_out() -> None:
    found = []
    for seed in range(10):
        truth, before, after, subjects = graded(12, skill=(0.5, 0.7), seed=seed)
        change = kappa_interval(truth, before, after, subjects=subjects, classes=CLASSES)
        assert (change.p < 0.05) == (change.low > 0 or change.high < 0)
        found.append(change.p < 0.05)
    assert set(found) == {True, False}


def test_three_subjects_that_agree_prove_nothing() -> None:
    """Every draw gains, so that the share beyond zero is none; yet 2 / 2^3 is all that three subjects can show."""
    truth = np.tile(np.arange(4), 3)
    worse = np.tile([1, 0, 3, 2], 3)
    found = kappa_interval(truth, worse, truth, subjects=np.repeat(["a", "b", "c"], 4), classes=CLASSES)
    assert found.low > 0
    assert found.p == 0.25


def test_the_same_predictions_differ_by_nothing() -> None:
    truth, before, _, subjects = graded(8)
    found = kappa_interval(truth, before, before, subjects=subjects, classes=CLASSES)
    assert (found.estimate, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_swapping_the_releases_turns_the_difference() -> None:
    truth, before, after, subjects = graded(10)
    found = kappa_interval(truth, before, after, subjects=subjects, classes=CLASSES)
    swapped = kappa_interval(truth, after, before, subjects=subjects, classes=CLASSES)
    assert swapped.estimate == pytest.approx(-found.estimate)
    low, high = ends(found)
    assert (-swapped.high, -swapped.low) == pytest.approx((low, high), abs=0.02)


def test_neither_order_nor_names_nor_seed_make_it_another() -> None:
    truth, before, after, subjects = graded(9)
    found = kappa_interval(truth, before, after, subjects=subjects, classes=CLASSES, seed=3)
    order = np.random.default_rng(1).permutation(truth.size)
    renamed = np.array([f"patient-{(int(name[1:]) * 4) % 9}" for name in subjects])
    again = kappa_interval(truth[order], before[order], after[order], subjects=renamed[order], classes=CLASSES, seed=3)
    assert again == found
    other = kappa_interval(truth, before, after, subjects=subjects, classes=CLASSES, seed=4)
    assert other.low != found.low
    assert ends(other) == pytest.approx(ends(found), abs=0.02)


def test_the_same_cases_again_change_nothing() -> None:
    """Kappa is that of all cases, so each subject's cases are doubled; taken for other subjects, they would count."""
    truth, before, after, subjects = graded(9)
    found = kappa_interval(truth, before, after, subjects=subjects, classes=CLASSES)
    twice = [np.tile(values, 2) for values in (truth, before, after)]
    again = kappa_interval(*twice, subjects=np.tile(subjects, 2), classes=CLASSES)
    assert again.estimate == pytest.approx(found.estimate)
    assert ends(again) == pytest.approx(ends(found))
    pretended = kappa_interval(*twice, subjects=np.arange(2 * truth.size).astype(str), classes=CLASSES)
    assert pretended.high - pretended.low < 0.9 * (again.high - again.low)


def test_drawing_in_pieces_and_drawing_anew_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, before, after, subjects = graded(6)
    whole = kappa_interval(truth, before, after, subjects=subjects, classes=CLASSES, resamples=200)
    monkeypatch.setitem(kappa_interval.__globals__, "PIECE", 6 * 7)
    monkeypatch.setitem(kappa_interval.__globals__, "_KEPT", 0)
    assert kappa_interval(truth, before, after, subjects=subjects, classes=CLASSES, resamples=200) == whole


@pytest.mark.parametrize("n", [2, 7, 300])
def test_equals_sums_of_the_tables_of_drawn_subjects(n: int) -> None:
    """Subjects with the same table are drawn as one; 300 need more than a byte."""
    truth, before, after, subjects = graded(n, cases=1)
    found = kappa_interval(truth, before, after, subjects=subjects, classes=CLASSES, resamples=50, seed=3)
    accuracy = accuracy_interval(truth, before, after, subjects=subjects, classes=CLASSES, resamples=50, seed=3)
    # the order in which subjects are drawn: that of their tables
    tables = np.stack([confusion_of(truth, guess, n) for guess in (before, after)], axis=1)
    tables = tables[np.lexsort(tables.reshape(n, -1).T)]
    draws = np.random.default_rng(3).multinomial(n, np.full(n, 1 / n), size=50)
    sums = np.array([sum(times * table for times, table in zip(draw, tables, strict=True)) for draw in draws])
    kappas = kappa(sums)
    changes = kappas[:, 1] - kappas[:, 0]
    assert ends(found) == tuple(np.nanquantile(changes, [0.025, 0.975]))
    shares = np.trace(sums, axis1=2, axis2=3) / n
    assert ends(accuracy) == pytest.approx(np.quantile(shares[:, 1] - shares[:, 0], [0.025, 0.975]))


def confusion_of(truth: np.ndarray, guess: np.ndarray, n: int) -> np.ndarray:
    """Of each subject with one case, a table with one 1 `(subjects, classes, classes)`."""
    tables = np.zeros((n, CLASSES, CLASSES), np.int64)
    tables[np.arange(n), truth, guess] = 1
    return tables


def test_a_change_of_accuracy_counts_cases_and_draws_subjects() -> None:
    """Subject a has one case, which is mended; b has three, of which one breaks: 3 of 4 right before, 3 of 4 after."""
    truth = np.array([0, 1, 1, 1])
    before, after = np.array([1, 1, 1, 1]), np.array([0, 0, 1, 1])
    found = accuracy_interval(truth, before, after, subjects=["a", "b", "b", "b"], classes=2)
    assert found.estimate == 0
    # a twice: 1 - 0; b twice: 4 / 6 - 1
    assert ends(found) == pytest.approx((-1 / 3, 1))
    assert (found.n, found.kind, found.p) == (2, "percentile", 1)


def test_weights_and_the_label_set_are_those_of_kappa() -> None:
    truth, before, _, subjects = graded(8)
    nominal = kappa_interval(truth, before, subjects=subjects, classes=CLASSES, weights="none")
    assert nominal.estimate == pytest.approx(cohen_kappa_score(truth, before))
    # with a grade that nobody saw
    few = np.where(truth == 2, 1, truth), np.where(before == 2, 1, before)
    found = kappa_interval(*few, subjects=subjects, classes=CLASSES)
    assert found.estimate == pytest.approx(cohen_kappa_score(*few, weights="linear", labels=range(CLASSES)))
    assert found.estimate != pytest.approx(cohen_kappa_score(*few, weights="linear"))


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.uint64, np.int32])
def test_takes_every_integer_type(kind: type[np.generic]) -> None:
    truth, before, after, subjects = graded(6)
    signed = [values % 2 for values in (truth, before, after)]
    found = kappa_interval(*(values.astype(kind) for values in signed), subjects=subjects, classes=2)
    assert found == kappa_interval(*signed, subjects=subjects, classes=2)


def test_one_subject_has_no_interval() -> None:
    truth, before, after, _ = graded(1, cases=20)
    found = kappa_interval(truth, before, after, subjects=["a"] * 20, classes=CLASSES)
    assert found.estimate == pytest.approx(linear_kappa(truth, after, CLASSES) - linear_kappa(truth, before, CLASSES))
    assert (found.low, found.high, found.p, found.reason) == (None, None, None, "one subject")


def test_one_class_only_has_no_kappa() -> None:
    found = kappa_interval(np.zeros(3, int), np.zeros(3, int), subjects=["a", "b", "c"], classes=CLASSES)
    assert (found.estimate, found.low, found.n) == (None, None, 3)
    assert found.said() == "not computed (truth and prediction hold one class only)"


def test_draws_without_a_kappa_are_left_out_and_said() -> None:
    """Of three subjects only c has another class: the (2/3)^3 = 30 % of draws without it have no kappa."""
    truth, before = np.array([0, 0, 1, 0, 1]), np.array([0, 0, 1, 0, 0])
    found = kappa_interval(truth, before, subjects=["a", "b", "c", "c", "c"], classes=CLASSES, resamples=1000)
    assert found.low is not None
    left = re.fullmatch(r"kappa is not defined in (\d+) of 1000 draws, which are left out", found.reason)
    assert int(left[1]) == pytest.approx(1000 * (2 / 3) ** 3, abs=60)


def test_mostly_draws_without_a_kappa_give_no_interval() -> None:
    """Two subjects, each with a class of its own: half of the draws, more or less, take one of them twice."""
    has_interval = []
    for seed in range(10):
        truth = np.array([0, 0, 1])
        found = kappa_interval(truth, truth, subjects=list("aab"), classes=CLASSES, resamples=1000, seed=seed)
        assert found.estimate == 1
        has_interval.append(found.low is not None)
        assert has_interval[-1] == (int(found.reason.split()[5]) <= 500)
    assert set(has_interval) == {True, False}


def test_draws_leave_only_as_an_interval_and_p() -> None:
    """So that nobody runs a Wilcoxon test over them, whose p falls with their number."""
    truth, before, after, subjects = graded(6)
    found = kappa_interval(truth, before, after, subjects=subjects, classes=CLASSES)
    assert type(found) is Interval
    assert {type(value) for value in found.model_dump().values()} <= {float, int, str, type(None)}
    more = kappa_interval(truth, before, after, subjects=subjects, classes=CLASSES, resamples=80_000)
    assert more.p == pytest.approx(found.p, abs=0.03)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"before": np.array([0, 1])}, r"`before` must hold one class index for each of the 3 cases.*shape \(2,\)"),
        ({"after": np.array([0, 1, 4])}, "`after` holds the value 4; class indices run from 0 to 3"),
        ({"truth": np.array([0, -1, 1])}, "`truth` holds the value -1; class indices run from 0 to 3"),
        ({"before": np.array([0.5, 0, 1])}, "`before` must hold one class index.*got float64"),
        ({"subjects": []}, "`subjects` holds no case"),
        ({"weights": "quadratic"}, "`weights` must be 'linear' or 'none'; got 'quadratic'"),
        ({"resamples": 20}, "`resamples` must be at least 40"),
        ({"level": 95}, r"`level` must be in \(0, 1\)"),
    ],
)
def test_refuses(changed: dict[str, object], message: str) -> None:
    right = {
        "truth": np.array([0, 1, 2]),
        "before": np.array([0, 1, 1]),
        "after": np.array([0, 1, 2]),
        "subjects": ["a", "b", "c"],
        "classes": CLASSES,
    }
    with pytest.raises(EvaluationError, match=message):
        kappa_interval(**{**right, **changed})
