from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from perdure.errors import EvaluationError
from perdure.evaluation import LITERATURE, MEASURES, Scores, Summary, summary, train_test_matrix

MakeScores = Callable[..., Scores]

# structure 1 of domain 1 loses .4, structure 2 gains .2
R = np.array([[[0.8, 0.5], [0.5, 0.5]], [[0.4, 0.7], [0.6, 0.6]]])


def test_measures_are_taken_of_each_structure_first(dice_scores: MakeScores) -> None:
    """Remembering is .6 and 1: mean .8, spread .2. Of the means, .65 falls to .55: .9. Gains are 0 and .2, or none."""
    measured = summary(train_test_matrix(dice_scores(R[:, :, None]), "dice"))
    assert measured.remembering is not None
    assert measured.remembering.value == pytest.approx(0.8)
    assert measured.remembering.sd_over_structures == pytest.approx(0.2)
    assert measured.remembering.of_mean == pytest.approx(0.9)
    assert measured.positive_backward_transfer is not None
    assert measured.positive_backward_transfer.value == pytest.approx(0.1)
    assert measured.positive_backward_transfer.of_mean == pytest.approx(0.0)


def test_linear_measures_do_not_depend_on_the_order(dice_scores: MakeScores) -> None:
    values = np.random.default_rng(0).random((3, 3, 2, 4))
    measured = summary(train_test_matrix(dice_scores(values), "dice"))
    for key in ("transfer_learning", "forward_transfer", "continual_learning_score", "backward_transfer"):
        one = measured.measure(key)
        assert one is not None
        assert one.value == pytest.approx(one.of_mean)


def test_worst_domain_and_structure_always_stand_beside(dice_scores: MakeScores) -> None:
    measured = summary(train_test_matrix(dice_scores(R[:, :, None]), "dice"))
    assert measured.worst_domain is not None
    assert measured.worst_domain.loss == pytest.approx(0.1)
    assert measured.worst_structure is not None
    assert (measured.worst_structure.structure, measured.worst_structure.loss) == ("s1", pytest.approx(0.4))


def test_survives_json(dice_scores: MakeScores) -> None:
    measured = summary(train_test_matrix(dice_scores(R[:, :, None]), "dice"))
    assert Summary.model_validate_json(measured.model_dump_json()) == measured


def test_one_domain_leaves_undefined_measures_out(dice_scores: MakeScores) -> None:
    measured = summary(train_test_matrix(dice_scores(np.full((1, 2, 1, 1), 0.5)), "dice"))
    undefined = {one.key for one in (*MEASURES, *LITERATURE) if measured.measure(one.key) is None}
    assert undefined == {one.key for one in (*MEASURES, *LITERATURE)} - {
        "transfer_learning",
        "continual_learning_score",
    }
    assert measured.worst_domain is None


def test_without_structures_there_is_no_spread(kappa_scores: MakeScores) -> None:
    measured = summary(train_test_matrix(kappa_scores(np.array([[0.7, 0.5], [0.5, 0.6]])), "kappa"))
    assert measured.remembering is not None
    assert measured.remembering.value == pytest.approx(0.8)
    assert measured.remembering.sd_over_structures is None
    assert measured.worst_structure is None


def test_a_structure_that_no_case_holds_is_left_out(dice_scores: MakeScores) -> None:
    values = np.stack([R[..., 0], np.full((2, 2), np.nan)], axis=-1)
    measured = summary(train_test_matrix(dice_scores(values[:, :, None]), "dice"))
    assert measured.remembering is not None
    assert measured.remembering.value == pytest.approx(0.6)
    assert measured.remembering.sd_over_structures == 0


def test_refuses_a_name_that_is_no_measure(dice_scores: MakeScores) -> None:
    measured = summary(train_test_matrix(dice_scores(np.full((1, 1, 1, 1), 0.5)), "dice"))
    with pytest.raises(EvaluationError, match="No measure is called 'metric'"):
        measured.measure("metric")


def test_every_measure_has_a_meaning_and_a_source() -> None:
    for definition in (*MEASURES, *LITERATURE):
        assert definition.meaning.endswith(".")
        assert definition.source
        assert definition.of.__name__ == definition.key
