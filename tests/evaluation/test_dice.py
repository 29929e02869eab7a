from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from perdure.evaluation.dice import dice
from perdure.types import IGNORED

CLASSES = 4


def one_class_at_a_time(prediction: np.ndarray, reference: np.ndarray, classes: int) -> np.ndarray:
    scores = []
    for k in range(classes):
        p, t = (prediction == k) & (reference != IGNORED), reference == k
        size = p.sum() + t.sum()
        scores.append(2 * (p & t).sum() / size if size else np.nan)
    return np.array(scores)


label_maps = arrays(np.uint8, (3, 4), elements=st.integers(0, CLASSES - 1))
references = arrays(np.uint8, (3, 4), elements=st.sampled_from([*range(CLASSES), IGNORED]))


@given(label_maps, references)
def test_equals_a_loop_over_classes(prediction: np.ndarray, reference: np.ndarray) -> None:
    np.testing.assert_allclose(
        dice(prediction, reference, CLASSES), one_class_at_a_time(prediction, reference, CLASSES), rtol=1e-15
    )


def test_equals_the_f1_score_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    prediction, reference = rng.integers(0, CLASSES, (2, 500))
    expected = f1_score(reference, prediction, labels=range(CLASSES), average=None)
    np.testing.assert_allclose(dice(prediction, reference, CLASSES), expected, rtol=1e-15)


def test_by_hand() -> None:
    """Structure 1: two pixels in each, one shared: 2 * 1 / 4. Structure 2: absent in both. Structure 3: in one only."""
    reference = np.array([0, 1, 1, 0, 0])
    prediction = np.array([0, 0, 1, 1, 3])
    np.testing.assert_allclose(dice(prediction, reference, 4), [2 / 5, 0.5, np.nan, 0.0])


def test_a_volume_of_nothing_but_ignored_pixels_has_no_score() -> None:
    assert np.isnan(dice(np.zeros((2, 2), int), np.full((2, 2), IGNORED), 3)).all()


def test_scores_are_float64_one_a_class() -> None:
    scores = dice(np.zeros(5, np.uint8), np.zeros(5, np.uint8), 3)
    assert scores.dtype == np.float64
    assert scores.shape == (3,)
    assert scores[0] == pytest.approx(1.0)
