from __future__ import annotations

import math

import pytest

from perdure.benchmark.outcomes import RowOutcome, marked, ordered, outcomes, published_rows
from perdure.benchmark.published import COLUMNS, TABLE_1
from perdure.evaluation import Spread
from records import classification_rows, record, row, segmentation_rows

DOMAINS = ("a", "b")
# two seeds, worked by hand below
R = {0: [[0.8, 0.3], [0.6, 0.7]], 1: [[0.9, 0.4], [0.5, 0.8]]}


def outcome_of(matrices: dict[int, list[list[float]]], domains: tuple[str, ...] = DOMAINS) -> RowOutcome:
    parts = [segmentation_rows("mas", seed, R, domains) for seed, R in matrices.items()]
    found = record([row("mas")], parts, {"forward": domains}, seeds=tuple(matrices))
    return outcomes(found)[0].rows[0]


def of(spread: Spread | None) -> tuple[float, float, float]:
    assert spread is not None
    return pytest.approx((spread.mean, spread.min, spread.max))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("key", "by_seed"),
    [
        ("transfer_learning", (0.75, 0.85)),  # (.8 + .7) / 2, (.9 + .8) / 2
        ("remembering", (0.8, 0.6)),  # 1 - .2, 1 - .4
        ("positive_backward_transfer", (0.0, 0.0)),
        ("forward_transfer", (0.3, 0.4)),
        ("continual_learning_score", (0.7, 2.2 / 3)),  # (.8 + .6 + .7) / 3, (.9 + .5 + .8) / 3
    ],
)
def test_a_measure_is_the_mean_over_seeds_of_the_measure_of_each(key: str, by_seed: tuple[float, float]) -> None:
    assert (sum(by_seed) / 2, min(by_seed), max(by_seed)) == of(outcome_of(R).measure(key))


def test_the_worst_loss_is_learnt_minus_last_of_the_domain_that_lost_most_in_the_mean_over_seeds() -> None:
    worst = outcome_of(R).worst_loss()
    assert worst is not None
    assert (worst.domain, worst.after) == ("a", "b")
    # .8 - .6 and .9 - .5
    assert of(worst.loss) == (0.3, 0.2, 0.4)
    assert worst.loss.sd == pytest.approx(0.2 / math.sqrt(2))
    assert outcome_of(R).losses_by_seed("a") == pytest.approx([0.2, 0.4])


def test_the_worst_loss_of_all_stages_finds_what_a_later_update_brought_back() -> None:
    lost_and_found = {0: [[0.8, 0.1, 0.1], [0.3, 0.7, 0.1], [0.75, 0.6, 0.9]]}
    outcome = outcome_of(lost_and_found, ("a", "b", "c"))
    at_the_end, of_all = outcome.worst_loss(), outcome.worst_loss(over_all_stages=True)
    assert at_the_end is not None
    assert of_all is not None
    assert (at_the_end.domain, at_the_end.loss.mean) == ("b", pytest.approx(0.1))
    assert (of_all.domain, of_all.after, of_all.loss.mean) == ("a", "b", pytest.approx(0.5))


def test_a_domain_that_gained_has_a_negative_loss() -> None:
    worst = outcome_of({0: [[0.5, 0.1], [0.6, 0.7]]}).worst_loss()
    assert worst is not None
    assert worst.loss.mean == pytest.approx(-0.1)


def test_scores_when_learnt_and_at_the_end_are_means_over_seeds() -> None:
    outcome = outcome_of(R)
    assert of(outcome.score(0, 0)) == (0.85, 0.8, 0.9)
    assert of(outcome.score(-1, 0)) == (0.55, 0.5, 0.6)
    assert outcome.mean.tolist() == [pytest.approx([0.85, 0.35]), pytest.approx([0.55, 0.75])]


def test_a_cell_without_scores_is_named_and_in_no_mean() -> None:
    failed = [("forward", "mas", 1, "diverged", "the loss is nan")]
    parts = [segmentation_rows("mas", 0, R[0], DOMAINS)]
    outcome = outcomes(record([row("mas")], parts, {"forward": DOMAINS}, failed=failed))[0].rows[0]
    assert [(cell.seed, cell.status) for cell in outcome.lacking] == [(1, "diverged")]
    learnt = outcome.measure("transfer_learning")
    assert learnt is not None
    assert (learnt.n, learnt.mean) == (1, pytest.approx(0.75))


def test_a_row_without_any_score_has_no_numbers() -> None:
    failed = [("forward", "mas", seed, "failed", "no memory") for seed in (0, 1)]
    outcome = outcomes(record([row("mas")], [], {"forward": DOMAINS}, failed=failed))[0].rows[0]
    assert outcome.measure("remembering") is None
    assert outcome.worst_loss() is None
    assert outcome.score(0, 0) is None


def test_a_seed_whose_kappa_is_not_defined_is_counted_out() -> None:
    truth = {"a": [0, 0, 1, 1], "b": [1, 1, 1, 1]}
    constant = {(i, domain): truth[domain] for i in range(2) for domain in DOMAINS}
    varied = {**constant, (1, "b"): [0, 1, 1, 1]}
    parts = [classification_rows("mas", 0, constant, truth), classification_rows("mas", 1, varied, truth)]
    found = record([row("mas")], parts, {"forward": DOMAINS}, task="classification")
    spread = outcomes(found)[0].rows[0].score(1, 1)
    assert spread is not None
    assert spread.n == 1


def test_rows_stand_as_in_table_1_then_controls_then_the_rest_as_in_the_file() -> None:
    rows = [
        row("lwf"),
        row("no-update", role="control"),
        row("mas-lr, original", "mas-lr"),
        row("mas-lr"),
        row("dropout"),
        row("finetune", role="control"),
        row("ewc"),
        row("mas-fix"),
    ]
    expected = ["finetune", "mas-fix", "mas-lr", "dropout", "no-update", "lwf", "mas-lr, original", "ewc"]
    assert [one.label for one in ordered(rows)] == expected
    assert [one.label for one in published_rows(rows).values()] == expected[:4]


def test_rows_that_are_told_the_domain_or_need_old_data_carry_a_sign() -> None:
    rows = [row("default", "dsbn"), row("joint"), row("replay"), row("mas")]
    assert [marked(one) for one in rows] == ["default†", "joint‡", "replay‡", "mas"]


def test_published_rows_have_all_columns() -> None:
    assert len(TABLE_1) == 8
    assert all(tuple(one.values) == COLUMNS for one in TABLE_1.values())
    assert TABLE_1["mas-lr"].values["remembering"] == (0.960, 0.032)
