from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from perdure.errors import EvaluationError
from perdure.evaluation import confusion as module_function
from perdure.evaluation.confusion import confusion


def test_counts_pairs_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(1)
    truth, prediction = rng.integers(0, 5, (2, 7, 8, 9))
    expected = confusion_matrix(truth.ravel(), prediction.ravel(), labels=range(6))
    np.testing.assert_array_equal(confusion(truth, prediction, 6), expected)
    assert module_function is confusion


def test_small_integer_types_do_not_overflow() -> None:
    """A class index of 200 among 201 classes gives a cell beyond what uint8 and int16 hold."""
    counts = confusion(np.full(3, 200, np.uint8), np.full(3, 200, np.uint8), 201)
    assert counts[200, 200] == 3
    assert counts.sum() == 3


def test_pieces_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    truth, prediction = rng.integers(0, 3, (2, 1000))
    whole = confusion(truth, prediction, 3)
    monkeypatch.setitem(confusion.__globals__, "_PIECE", 7)
    np.testing.assert_array_equal(confusion(truth, prediction, 3), whole)


def test_memory_order_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    truth, prediction = rng.integers(0, 3, (2, 4, 5))
    np.testing.assert_array_equal(confusion(np.asfortranarray(truth), prediction, 3), confusion(truth, prediction, 3))


def test_ignored_elements_count_on_neither_side() -> None:
    counts = confusion(np.array([0, 255, 1, 255]), np.array([0, 1, 1, 0]), 2, ignore=255)
    np.testing.assert_array_equal(counts, [[1, 0], [0, 1]])


def test_refuses_different_shapes() -> None:
    with pytest.raises(EvaluationError, match=r"`prediction` has shape \(3,\) and `reference` \(2,\)"):
        confusion(np.zeros(2, int), np.zeros(3, int), 2)


@pytest.mark.parametrize("value", [2, -1])
def test_refuses_a_value_that_is_no_class(value: int) -> None:
    with pytest.raises(EvaluationError, match=f"`reference` holds the value {value}; class indices run from 0 to 1"):
        confusion(np.array([0, value]), np.zeros(2, int), 2)
    with pytest.raises(EvaluationError, match=f"`prediction` holds the value {value}"):
        confusion(np.zeros(2, int), np.array([0, value]), 2, ignore=255)


def test_a_prediction_cannot_be_the_ignored_value() -> None:
    with pytest.raises(EvaluationError, match="`prediction` holds the value 255"):
        confusion(np.zeros(2, int), np.array([0, 255]), 2, ignore=255)


def test_refuses_probabilities() -> None:
    with pytest.raises(EvaluationError, match="`prediction` must hold class indices of an integer type; got float64"):
        confusion(np.zeros(2, int), np.zeros(2), 2)


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int16, np.int64, np.uint64])
def test_takes_every_integer_type(kind: type[np.generic]) -> None:
    truth, prediction = np.array([0, 1, 1]).astype(kind), np.array([1, 1, 0])
    np.testing.assert_array_equal(confusion(truth, prediction, 2), [[0, 1], [1, 1]])
    np.testing.assert_array_equal(confusion(prediction, truth, 2), [[0, 1], [1, 1]])
