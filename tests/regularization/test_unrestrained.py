from __future__ import annotations

from perdure.regularization import LearningRate, Unrestrained


def test_it_needs_no_importance_and_restraint_does() -> None:
    assert not Unrestrained().needs_importance
    assert LearningRate().needs_importance


def test_two_of_them_are_equal() -> None:
    assert Unrestrained() == Unrestrained()
