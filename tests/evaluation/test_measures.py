"""Golden numbers by hand, identities, and the plain double loop of the equations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from perdure.errors import EvaluationError
from perdure.evaluation import measures

Matrix = NDArray[np.float64]

# Domain 1 loses .2 at stage 2 and for good; domain 2 gains .2 at stage 3.
LOST_FOR_GOOD = np.array([[0.8, 0.5, 0.4], [0.6, 0.6, 0.5], [0.6, 0.8, 0.7]])

matrices = st.integers(1, 5).flatmap(lambda D: arrays(np.float64, (D, D), elements=st.floats(0, 1)))
ALL = [
    measures.remembering,
    measures.positive_backward_transfer,
    measures.transfer_learning,
    measures.forward_transfer,
    measures.continual_learning_score,
    measures.backward_transfer,
    measures.remembering_diaz,
    measures.positive_backward_transfer_diaz,
    measures.backward_transfer_gem,
    measures.forgetting_chaudhry,
]


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (measures.remembering, 1 - (0.2 + 0.2 + 0) / 3),
        (measures.positive_backward_transfer, (0 + 0 + 0.2) / 3),
        (measures.transfer_learning, (0.8 + 0.6 + 0.7) / 3),
        (measures.forward_transfer, (0.5 + 0.4 + 0.5) / 3),
        (measures.continual_learning_score, (0.8 + 0.6 + 0.6 + 0.6 + 0.8 + 0.7) / 6),
        (measures.backward_transfer, (-0.2 - 0.2 + 0.2) / 3),
        (measures.remembering_diaz, 1 - 0.2 / 3),
        (measures.positive_backward_transfer_diaz, 0.0),
        (measures.backward_transfer_gem, (-0.2 + 0.2) / 2),
        (measures.forgetting_chaudhry, ((0.8 - 0.6) + (0.6 - 0.8)) / 2),
    ],
)
def test_by_hand(measure: Callable[[Matrix], Matrix | None], expected: float) -> None:
    """A site that lost .20 for good: REM .867; with gains set against losses .933, and GEM's BWT sees nothing."""
    assert measure(LOST_FOR_GOOD) == pytest.approx(expected, abs=1e-15)


@given(matrices)
def test_equal_the_double_loops_of_the_equations(R: Matrix) -> None:
    D = len(R)
    if D == 1:
        return
    pairs = D * (D - 1) / 2
    kept = gained = 0.0
    for i in range(1, D):
        for j in range(i):
            kept += 1 - abs(min(R[i, j] - R[j, j], 0))
            gained += max(R[i, j] - R[j, j], 0)
    assert measures.remembering(R) == pytest.approx(kept / pairs)
    assert measures.positive_backward_transfer(R) == pytest.approx(gained / pairs)
    above = [R[i, j] for i in range(D) for j in range(D) if i < j]
    others = [R[i, j] for i in range(D) for j in range(D) if i >= j]
    assert measures.forward_transfer(R) == pytest.approx(sum(above) / len(above))
    assert measures.continual_learning_score(R) == pytest.approx(sum(others) / len(others))


@given(matrices)
def test_backward_transfer_is_gains_less_losses(R: Matrix) -> None:
    change, gains, kept = (
        measures.backward_transfer(R),
        measures.positive_backward_transfer(R),
        measures.remembering(R),
    )
    if len(R) == 1:
        assert change is gains is kept is None
    else:
        assert change == pytest.approx(gains - (1 - kept), abs=1e-12)


@given(matrices)
def test_setting_gains_against_losses_never_looks_worse(R: Matrix) -> None:
    if len(R) > 1:
        assert measures.remembering_diaz(R) >= measures.remembering(R) - 1e-12
        assert measures.positive_backward_transfer_diaz(R) <= measures.positive_backward_transfer(R) + 1e-12


@given(st.integers(2, 5), st.floats(0, 1))
def test_a_model_that_never_changes_remembers_all_and_gains_nothing(D: int, score: float) -> None:
    R = np.full((D, D), score)
    assert measures.remembering(R) == 1
    assert measures.positive_backward_transfer(R) == 0
    assert measures.forgetting_chaudhry(R) == 0


def test_one_domain_has_nothing_to_compare() -> None:
    R = np.array([[0.7]])
    defined = {measure.__name__: measure(R) for measure in ALL if measure(R) is not None}
    assert defined == {"transfer_learning": pytest.approx(0.7), "continual_learning_score": pytest.approx(0.7)}


@pytest.mark.parametrize("measure", ALL)
def test_further_axes_are_kept(measure: Callable[[Matrix], Matrix]) -> None:
    R = np.random.default_rng(0).random((4, 4, 3, 2))
    together = measure(R)
    assert together.shape == (3, 2)
    assert together[2, 1] == pytest.approx(float(measure(R[..., 2, 1])))


@pytest.mark.parametrize("measure", ALL)
def test_a_structure_without_any_score_is_nan_and_harms_no_other(measure: Callable[[Matrix], Matrix]) -> None:
    R = np.random.default_rng(1).random((3, 3, 2))
    R[..., 0] = np.nan
    values = measure(R)
    assert np.isnan(values[0])
    assert values[1] == pytest.approx(float(measure(R[..., 1])))


def test_a_missing_cell_is_skipped() -> None:
    """Without R[3, 1], domain 1 counts once: 1 - (.2 + 0) / 2."""
    R = LOST_FOR_GOOD.copy()
    R[2, 0] = np.nan
    assert measures.remembering(R) == pytest.approx(0.9)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 0)])
def test_refuses_what_is_no_train_test_matrix(shape: tuple[int, ...]) -> None:
    with pytest.raises(EvaluationError, match=r"has shape \(domains, domains, ...\); got"):
        measures.remembering(np.zeros(shape))
