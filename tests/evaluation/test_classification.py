from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score

from perdure.errors import EvaluationError
from perdure.evaluation.classification import accuracy, auc, classification_scores, kappa, linear_kappa
from perdure.evaluation.confusion import confusion

grades = arrays(np.int64, 12, elements=st.integers(0, 3))


@given(grades, grades)
def test_linear_kappa_equals_scikit_learn(truth: np.ndarray, prediction: np.ndarray) -> None:
    if len(set(truth) | set(prediction)) == 1:
        assert np.isnan(linear_kappa(truth, prediction, 4))
        return
    expected = cohen_kappa_score(truth, prediction, weights="linear", labels=range(4))
    assert linear_kappa(truth, prediction, 4) == pytest.approx(expected, abs=1e-12)


def test_kappa_by_hand() -> None:
    """Three grades, four cases, distances counted without the divisor k - 1, which cancels."""
    truth, prediction = np.array([0, 0, 1, 2]), np.array([1, 2, 2, 0])
    # |0-1| + |0-2| + |1-2| + |2-0| = 6 of 4 cases; margins of truth (2, 1, 1), of prediction (1, 1, 2)
    # chance: 2*1*1 + 2*2*2 + 1*1*1 + 1*2*1 + 1*1*2 + 1*1*1 = 16, of 16 pairs
    assert linear_kappa(truth, prediction, 3) == pytest.approx(1 - (6 / 4) / (16 / 16))


def test_a_grade_that_nobody_saw_keeps_its_place() -> None:
    """Grade 2 of four is not seen: grades 1 and 3 still lie two apart, unlike where only labels seen are counted."""
    truth, prediction = np.array([0, 1, 3, 3, 1]), np.array([0, 3, 3, 1, 1])
    fixed = cohen_kappa_score(truth, prediction, weights="linear", labels=range(4))
    seen_only = cohen_kappa_score(truth, prediction, weights="linear")
    assert linear_kappa(truth, prediction, 4) == pytest.approx(fixed)
    assert linear_kappa(truth, prediction, 4) != pytest.approx(seen_only)


def test_kappa_without_order_ignores_distance() -> None:
    rng = np.random.default_rng(5)
    truth, prediction = rng.integers(0, 4, (2, 60))
    value = kappa(confusion(truth, prediction, 4), weights="none")
    assert float(value) == pytest.approx(cohen_kappa_score(truth, prediction))
    assert float(value) != pytest.approx(linear_kappa(truth, prediction, 4))


def test_kappa_takes_many_tables_at_once() -> None:
    rng = np.random.default_rng(6)
    tables = rng.integers(0, 9, (5, 2, 3, 3))
    values = kappa(tables)
    assert values.shape == (5, 2)
    assert values[3, 1] == pytest.approx(float(kappa(tables[3, 1])))


def test_no_case_has_no_score() -> None:
    nothing = np.zeros(0, int)
    assert np.isnan(linear_kappa(nothing, nothing, 4))
    assert np.isnan(accuracy(nothing, nothing, 4))
    assert np.isnan(auc(nothing, np.zeros((0, 2))))


def test_accuracy_equals_scikit_learn() -> None:
    rng = np.random.default_rng(7)
    truth, prediction = rng.integers(0, 3, (2, 50))
    assert accuracy(truth, prediction, 3) == pytest.approx(accuracy_score(truth, prediction))


@pytest.mark.parametrize("decimals", [1, 9], ids=["ties", "no ties"])
def test_auc_of_two_classes_equals_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(8)
    truth = rng.integers(0, 2, 80)
    positive = rng.random(80).round(decimals)
    probabilities = np.stack([1 - positive, positive], axis=1)
    assert auc(truth, probabilities) == pytest.approx(roc_auc_score(truth, positive))


def test_auc_of_more_classes_is_one_against_the_rest() -> None:
    rng = np.random.default_rng(9)
    truth = rng.integers(0, 3, 90)
    probabilities = rng.dirichlet([1, 1, 1], 90)
    expected = roc_auc_score(truth, probabilities, multi_class="ovr", average="macro")
    assert auc(truth, probabilities) == pytest.approx(expected)


def test_auc_of_a_missing_class_is_not_computed() -> None:
    assert np.isnan(auc(np.array([1, 1]), np.array([[0.1, 0.9], [0.2, 0.8]])))
    assert np.isnan(auc(np.array([0, 1]), np.full((2, 3), 1 / 3)))


def test_auc_refuses_logits() -> None:
    with pytest.raises(EvaluationError, match=r"must lie in \[0, 1\].*softmax"):
        auc(np.array([0, 1]), np.array([[2.0, -1.0], [0.0, 1.0]]))


def test_auc_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(EvaluationError, match=r"\(cases, classes\).*got \(2, 2\)"):
        auc(np.array([0, 1, 1]), np.full((2, 2), 0.5))


def test_auc_refuses_a_truth_that_is_no_class() -> None:
    with pytest.raises(EvaluationError, match="`truth` must hold classes from 0 to 1; got 0 to 2"):
        auc(np.array([0, 2]), np.full((2, 2), 0.5))


def test_order_of_classes_decides_the_weights_of_kappa() -> None:
    rng = np.random.default_rng(10)
    truth, probabilities = rng.integers(0, 4, 40), rng.dirichlet(np.ones(4), 40)
    graded = classification_scores(truth, probabilities, ordinal=True)
    nominal = classification_scores(truth, probabilities, ordinal=False)
    prediction = probabilities.argmax(1)
    assert graded["kappa"] == pytest.approx(cohen_kappa_score(truth, prediction, weights="linear", labels=range(4)))
    assert nominal["kappa"] == pytest.approx(cohen_kappa_score(truth, prediction))
    assert graded["auc"] == nominal["auc"]
    assert graded["accuracy"] == nominal["accuracy"] == pytest.approx(accuracy_score(truth, prediction))
