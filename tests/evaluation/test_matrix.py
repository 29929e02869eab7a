from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from perdure.errors import EvaluationError
from perdure.evaluation import Scores, segmentation_rows, train_test_matrix, union

MakeScores = Callable[..., Scores]


def test_cells_are_means_over_subjects_of_each_structure(dice_scores: MakeScores) -> None:
    values = np.random.default_rng(0).random((3, 3, 4, 2))
    matrix = train_test_matrix(dice_scores(values), "dice")
    np.testing.assert_allclose(matrix.values, values.mean(axis=2))
    np.testing.assert_allclose(matrix.mean, values.mean(axis=(2, 3)))
    assert matrix.domains == ("d1", "d2", "d3")
    assert [release.name for release in matrix.releases] == ["after-d1", "after-d2", "after-d3"]
    assert matrix.structures == ("s1", "s2")
    assert matrix.unseen == ()


def test_background_is_in_no_mean(dice_scores: MakeScores) -> None:
    """The fixture gives the background a Dice of 1."""
    matrix = train_test_matrix(dice_scores(np.full((1, 1, 2, 2), 0.5)), "dice")
    assert matrix.mean == pytest.approx(0.5)


def test_a_subject_with_many_cases_weighs_as_much_as_one_with_one(dice_scores: MakeScores) -> None:
    """Subject 0 has cases of .2 and .4 (mean .3), subject 1 one of .9: (.3 + .9) / 2, not (.2 + .4 + .9) / 3."""
    scores = dice_scores(np.array([0.2, 0.9]).reshape(1, 1, 2, 1))
    more = segmentation_rows("r0", "d1", "subject0", "case9", scores.header.structures, np.array([1.0, 0.4]))
    matrix = train_test_matrix(Scores(scores.header, pl.concat([scores.table, more])), "dice")
    assert matrix.values[0, 0, 0] == pytest.approx(0.6)
    np.testing.assert_allclose(matrix.per_subject["d1"].values[0, :, 0], [0.3, 0.9])
    assert matrix.per_subject["d1"].subjects == ("subject0", "subject1")


def test_what_could_not_be_scored_is_skipped_and_counted(dice_scores: MakeScores) -> None:
    values = np.array([[0.5, np.nan], [0.7, np.nan]]).reshape(1, 1, 2, 2)
    matrix = train_test_matrix(dice_scores(values), "dice")
    np.testing.assert_allclose(matrix.values[0, 0], [0.6, np.nan])
    assert matrix.mean[0, 0] == pytest.approx(0.6)
    assert matrix.left_out == 2


def test_domains_that_were_never_learnt_stand_apart(dice_scores: MakeScores) -> None:
    values = np.random.default_rng(1).random((2, 3, 2, 2))
    matrix = train_test_matrix(dice_scores(values), "dice")
    assert matrix.domains == ("d1", "d2")
    assert matrix.unseen == ("d3",)
    np.testing.assert_allclose(matrix.values, values[:, :2].mean(axis=2))
    np.testing.assert_allclose(matrix.unseen_values, values[:, 2:].mean(axis=2))
    np.testing.assert_allclose(matrix.unseen_mean, values[:, 2:].mean(axis=(2, 3)))
    assert set(matrix.per_subject) == {"d1", "d2", "d3"}


def test_change_is_known_only_for_domains_learnt_before(dice_scores: MakeScores) -> None:
    R = np.array([[0.9, 0.5], [0.7, 0.8]])
    matrix = train_test_matrix(dice_scores(R[:, :, None, None]), "dice")
    np.testing.assert_allclose(matrix.change, [[np.nan, np.nan], [-0.2, np.nan]])


def test_no_update_repeats_the_first_release(dice_scores: MakeScores) -> None:
    values = np.random.default_rng(2).random((3, 4, 2, 2))
    matrix = train_test_matrix(dice_scores(values), "dice")
    control = matrix.no_update()
    for i in range(3):
        np.testing.assert_array_equal(control.values[i], matrix.values[0])
        np.testing.assert_array_equal(control.unseen_values[i], matrix.unseen_values[0])
        np.testing.assert_array_equal(control.per_subject["d2"].values[i], matrix.per_subject["d2"].values[0])
    assert {release.id for release in control.releases} == {"r0"}


def test_metrics_of_a_whole_domain_have_no_structures(kappa_scores: MakeScores) -> None:
    R = np.array([[0.7, 0.5], [np.nan, 0.6]])
    matrix = train_test_matrix(kappa_scores(R), "kappa")
    np.testing.assert_array_equal(matrix.mean, R)
    assert matrix.values.shape == (2, 2, 1)
    assert matrix.structures == ()
    assert matrix.worst_structure() is None


class TestWorst:
    """Three domains, two structures; d1's s2 falls by .5 at stage 2 and is .1 below at the end."""

    R = np.array(
        [
            [[0.9, 0.9], [0.5, 0.5], [0.5, 0.5]],
            [[0.9, 0.4], [0.8, 0.8], [0.5, 0.5]],
            [[0.9, 0.8], [0.8, 0.5], [0.7, 0.7]],
        ]
    )

    def test_domain_at_the_last_stage(self, dice_scores: MakeScores) -> None:
        """d1 lost (.0 + .1) / 2, d2 lost (.0 + .3) / 2."""
        worst = train_test_matrix(dice_scores(self.R[:, :, None]), "dice").worst_domain()
        assert worst is not None
        assert (worst.domain, worst.structure, worst.release) == ("d2", None, "after-d3")
        assert (worst.before, worst.after, worst.loss) == pytest.approx((0.8, 0.65, 0.15))

    def test_domain_over_all_stages(self, dice_scores: MakeScores) -> None:
        worst = train_test_matrix(dice_scores(self.R[:, :, None]), "dice").worst_domain(over_all_stages=True)
        assert worst is not None
        assert (worst.domain, worst.release) == ("d1", "after-d2")
        assert worst.loss == pytest.approx(0.25)

    def test_structure(self, dice_scores: MakeScores) -> None:
        matrix = train_test_matrix(dice_scores(self.R[:, :, None]), "dice")
        last, ever = matrix.worst_structure(), matrix.worst_structure(over_all_stages=True)
        assert last is not None
        assert ever is not None
        assert (last.domain, last.structure, last.loss) == ("d2", "s2", pytest.approx(0.3))
        assert (ever.domain, ever.structure, ever.loss) == ("d1", "s2", pytest.approx(0.5))

    def test_of_gains_only_is_the_smallest_gain(self, dice_scores: MakeScores) -> None:
        R = np.array([[0.5, 0.1, 0.1], [0.6, 0.5, 0.1], [0.9, 0.6, 0.5]])
        worst = train_test_matrix(dice_scores(R[:, :, None, None]), "dice").worst_domain()
        assert worst is not None
        assert (worst.domain, worst.loss) == ("d2", pytest.approx(-0.1))

    def test_does_not_exist_with_one_domain(self, dice_scores: MakeScores) -> None:
        matrix = train_test_matrix(dice_scores(np.full((1, 1, 1, 1), 0.5)), "dice")
        assert matrix.worst_domain() is None
        assert matrix.worst_structure(over_all_stages=True) is None


class TestLineage:
    def test_one_of_several_is_named(self, dice_scores: MakeScores) -> None:
        one, other = dice_scores(np.full((2, 2, 1, 1), 0.5)), dice_scores(np.full((2, 2, 1, 1), 0.6), prefix="q")
        both = union([one, other])
        with pytest.raises(EvaluationError, match=r"hold 2 lineages; say which one ends in: r1 \(after-d2\), q1"):
            train_test_matrix(both, "dice")
        assert train_test_matrix(both, "dice", last="q1").mean == pytest.approx(0.6)
        assert train_test_matrix(both, "dice", last="q0").domains == ("d1",)

    def test_may_branch_from_one_base_release(self, dice_scores: MakeScores) -> None:
        scores = dice_scores(np.full((3, 3, 1, 1), 0.5))
        base, second, third = scores.header.releases
        branched = third.model_copy(update={"parent": base.id, "domain": second.domain})
        header = scores.header.model_copy(update={"releases": (base, second, branched)})
        matrix = train_test_matrix(Scores(header, scores.table), "dice", last=third.id)
        assert [release.id for release in matrix.releases] == ["r0", "r2"]
        assert matrix.unseen == ("d3",)

    def test_refuses_a_release_that_was_not_scored(self, dice_scores: MakeScores) -> None:
        with pytest.raises(EvaluationError, match="release 'x' was not scored; scored are: r0"):
            train_test_matrix(dice_scores(np.full((1, 1, 1, 1), 0.5)), "dice", last="x")

    def test_refuses_a_gap(self, dice_scores: MakeScores) -> None:
        scores = dice_scores(np.full((2, 2, 1, 1), 0.5))
        header = scores.header.model_copy(update={"releases": scores.header.releases[1:]})
        with pytest.raises(EvaluationError, match="release 'after-d2' was updated from 'r0', which was not scored"):
            train_test_matrix(Scores(header, scores.table.filter(pl.col("release") == "r1")), "dice")

    def test_refuses_a_domain_learnt_twice(self, dice_scores: MakeScores) -> None:
        scores = dice_scores(np.full((2, 2, 1, 1), 0.5))
        again = scores.header.releases[1].model_copy(update={"domain": "d1"})
        header = scores.header.model_copy(update={"releases": (scores.header.releases[0], again)})
        with pytest.raises(EvaluationError, match="domain 'd1' was learnt more than once"):
            train_test_matrix(Scores(header, scores.table), "dice")


class TestCells:
    def test_refuses_a_domain_that_was_learnt_but_not_scored(self, dice_scores: MakeScores) -> None:
        scores = dice_scores(np.full((2, 2, 1, 1), 0.5))
        header = scores.header.model_copy(update={"domains": ("d1",)})
        with pytest.raises(EvaluationError, match="domain 'd2' was learnt but not scored"):
            train_test_matrix(Scores(header, scores.table.filter(pl.col("domain") == "d1")), "dice")

    def test_refuses_an_empty_cell(self, dice_scores: MakeScores) -> None:
        scores = dice_scores(np.full((2, 2, 1, 1), 0.5))
        table = scores.table.filter((pl.col("release") == "r0") | (pl.col("domain") == "d2"))
        with pytest.raises(EvaluationError, match="release 'after-d2' has no dice on domain 'd1'"):
            train_test_matrix(Scores(scores.header, table), "dice")

    def test_refuses_different_cases(self, dice_scores: MakeScores) -> None:
        scores = dice_scores(np.full((2, 2, 2, 1), 0.5))
        table = scores.table.filter((pl.col("release") == "r0") | (pl.col("case") == "case0"))
        with pytest.raises(EvaluationError, match=r"cases of domain 'd1' \(case 'case1' of subject 'subject1'"):
            train_test_matrix(Scores(scores.header, table), "dice")

    @pytest.mark.parametrize("metric", ["hd95", "assd"])
    def test_refuses_a_distance_of_which_less_is_better(self, distance_scores: MakeScores, metric: str) -> None:
        scores = distance_scores(np.full((1, 1, 2), 0.5), np.ones((1, 1, 2)))
        with pytest.raises(EvaluationError, match=rf"no train-test matrix of '{metric}': it is a distance.*use dice"):
            train_test_matrix(scores, metric)

    @pytest.mark.parametrize("metric", ["kappa", "probability", "loss"])
    def test_refuses_a_metric_without_a_matrix(self, dice_scores: MakeScores, metric: str) -> None:
        with pytest.raises(EvaluationError, match=f"no train-test matrix of '{metric}' for segmentation; use dice"):
            train_test_matrix(dice_scores(np.full((1, 1, 1, 1), 0.5)), metric)
