from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from perdure.benchmark.comparison import against, compared, compared_metric, compared_with_base
from perdure.benchmark.outcomes import SequenceOutcome, outcomes
from perdure.errors import EvaluationError
from perdure.evaluation import linear_kappa
from records import classification_rows, record, row, segmentation_rows

DOMAINS = ("a", "b")
ROWS = [row("finetune", role="control"), row("mas")]
BEFORE, AFTER = [[0.8, 0.3], [0.5, 0.7]], [[0.8, 0.3], [0.6, 0.65]]


def segmented(subjects: int, *, seeds_of_mas: tuple[int, ...] = (0, 1)) -> SequenceOutcome:
    parts = [segmentation_rows("finetune", seed, BEFORE, DOMAINS, subjects=subjects) for seed in (0, 1)]
    # seed 1 is .02 better everywhere, and subjects differ
    parts += [
        segmentation_rows(
            "mas", seed, (np.array(AFTER) + 0.02 * seed).tolist(), DOMAINS, subjects=subjects, apart=0.001
        )
        for seed in seeds_of_mas
    ]
    failed = [("forward", "mas", seed, "failed", "") for seed in (0, 1) if seed not in seeds_of_mas]
    return outcomes(record(ROWS, parts, {"forward": DOMAINS}, subjects=subjects, failed=failed))[0]


def test_a_difference_is_row_minus_reference_of_means_over_seeds_at_the_end() -> None:
    found = compared(segmented(8), "mas", "finetune")
    assert found is not None
    assert found.seeds == (0, 1)
    a, b = found.differences
    # .6 + .01 - .5 and .65 + .01 - .7
    assert (a.interval.estimate, b.interval.estimate) == (pytest.approx(0.11), pytest.approx(-0.04))
    assert a.interval.low is not None
    assert a.interval.low > 0
    # all of 8 subjects change one way: 2 / 2^8, and twice that over two domains
    assert a.test.p == pytest.approx(2 / 2**8)
    assert (a.p, b.p) == (pytest.approx(2 * 2 / 2**8), pytest.approx(2 * 2 / 2**8))
    assert a.can_decide


def test_the_difference_of_each_seed_stands_beside_that_over_subjects_and_is_not_joined_with_it() -> None:
    found = compared(segmented(8), "mas", "finetune")
    assert found is not None
    a, b = (one.over_seeds for one in found.differences)
    assert a is not None
    assert b is not None
    # seed 0: .6 - .5 and .65 - .7; seed 1 is .02 more
    assert (a.n, a.min, a.max) == (2, pytest.approx(0.10), pytest.approx(0.12))
    assert (b.min, b.max) == (pytest.approx(-0.05), pytest.approx(-0.03))
    # subjects differ by .001 from one to the next, so the interval over them is narrower than the range of seeds
    interval = found.differences[0].interval
    assert interval.low is not None
    assert interval.low > a.min


def test_structures_that_one_side_lacks_are_left_out_of_both() -> None:
    structures = ("background", "easy", "hard")
    parts = [
        segmentation_rows("finetune", 0, [[0.9, 0.9], [0.9, 0.9]], DOMAINS, structures=structures),
        segmentation_rows("mas", 0, [[0.9, 0.9], [0.8, 0.9]], DOMAINS, structures=structures),
    ]
    hard = (pl.col("structure") == "hard") & (pl.col("stage") == 1) & (pl.col("domain") == "a")
    # the hard structure of a: finetune .1 in both subjects; mas .3 in the first, no score in the second
    parts[0] = parts[0].with_columns(pl.when(hard).then(0.1).otherwise("value").alias("value"))
    first = pl.col("subject") == "a-0"
    parts[1] = parts[1].with_columns(
        pl.when(hard & first).then(0.3).when(hard).then(None).otherwise("value").alias("value")
    )
    found = compared(
        outcomes(record(ROWS, parts, {"forward": DOMAINS}, seeds=(0,), structures=structures))[0], "mas", "finetune"
    )
    assert found is not None
    # first subject: (.8 + .3) / 2 - (.9 + .1) / 2 = .05; second: .8 - .9, not .8 - (.9 + .1) / 2; mean -.025
    difference = found.differences[0]
    assert difference.interval.estimate == pytest.approx((0.05 - 0.1) / 2)
    assert difference.over_seeds is not None
    assert difference.over_seeds.mean == pytest.approx((0.05 - 0.1) / 2)
    assert difference.test.mean_difference == pytest.approx((0.05 - 0.1) / 2)


def test_six_subjects_are_too_few_for_two_domains() -> None:
    found = compared(segmented(6), "mas", "finetune")
    assert found is not None
    # 2 / 2^6 alone would do, but not twice that
    assert found.differences[0].test.can_decide
    assert found.differences[0].smallest_p == pytest.approx(4 / 2**6)
    assert not found.differences[0].can_decide


def test_only_seeds_that_both_have_are_compared() -> None:
    found = compared(segmented(8, seeds_of_mas=(1,)), "mas", "finetune")
    assert found is not None
    assert found.seeds == (1,)
    assert found.differences[0].interval.estimate == pytest.approx(0.12)


def test_without_a_common_seed_there_is_no_comparison() -> None:
    assert against(segmented(8, seeds_of_mas=()), "finetune") == {"mas": None}


def test_a_reference_that_is_not_there_compares_nothing() -> None:
    assert against(segmented(2), "no-update") == {}
    with pytest.raises(EvaluationError, match="no row 'no-update'"):
        compared(segmented(2), "mas", "no-update")


def test_classes_are_compared_by_the_kappa_of_the_cases_of_all_seeds() -> None:
    rng = np.random.default_rng(0)
    truth = {domain: rng.integers(0, 3, 40).tolist() for domain in DOMAINS}
    guesses = {
        (label, seed, stage, domain): rng.integers(0, 3, 40).tolist()
        for label in ("finetune", "mas")
        for seed in (0, 1)
        for stage in (0, 1)
        for domain in DOMAINS
    }
    guesses |= {("mas", seed, 1, "a"): truth["a"] for seed in (0, 1)}
    parts = [
        classification_rows(
            label,
            seed,
            {(stage, domain): guesses[label, seed, stage, domain] for stage in (0, 1) for domain in DOMAINS},
            truth,
            classes=3,
            ordinal=True,
        )
        for label in ("finetune", "mas")
        for seed in (0, 1)
    ]
    found = record(
        ROWS, parts, {"forward": DOMAINS}, task="classification", ordinal=True, structures=("x", "y", "z"), subjects=20
    )
    outcome = outcomes(found)[0]
    expected = np.array(truth["a"] * 2)

    def pooled(label: str, stage: int) -> float:
        return linear_kappa(expected, np.array(guesses[label, 0, stage, "a"] + guesses[label, 1, stage, "a"]), 3)

    def of_seed(label: str, seed: int) -> float:
        return linear_kappa(np.array(truth["a"]), np.array(guesses[label, seed, 1, "a"]), 3)

    difference = compared(outcome, "mas", "finetune")
    assert difference is not None
    first = difference.differences[0]
    assert first.interval.n == 20
    assert first.interval.estimate == pytest.approx(1 - pooled("finetune", 1))
    gains = [1 - of_seed("finetune", seed) for seed in (0, 1)]
    assert first.over_seeds is not None
    assert (first.over_seeds.min, first.over_seeds.max) == (pytest.approx(min(gains)), pytest.approx(max(gains)))
    assert first.keeps_level
    assert first.p is not None
    assert first.p < 0.01
    assert first.p_errors is not None
    # the row errs less
    assert first.test.effect is not None
    assert first.test.effect < 0
    change = compared_with_base(outcome, "mas")
    assert change is not None
    assert change.differences[0].interval.estimate == pytest.approx(1 - pooled("mas", 0))


def test_classes_are_compared_in_accuracy_and_auc_too_of_which_auc_has_seeds_alone() -> None:
    truth = {domain: [0, 1] * 4 for domain in DOMAINS}
    guesses = {"finetune": ([0, 1] * 3 + [1, 0], [0, 1] * 3 + [1, 1]), "mas": ([0, 1] * 4, [0, 1] * 3 + [0, 0])}
    areas = {"finetune": (0.6, 0.7), "mas": (0.9, 0.8)}
    parts = []
    for label, of_seeds in guesses.items():
        for seed, guess in enumerate(of_seeds):
            part = classification_rows(label, seed, {(i, d): guess for i in (0, 1) for d in DOMAINS}, truth)
            area = pl.when(pl.col("metric") == "auc").then(areas[label][seed]).otherwise(pl.col("value"))
            parts.append(part.with_columns(area.alias("value")))
    outcome = outcomes(record(ROWS, parts, {"forward": DOMAINS}, task="classification", subjects=4))[0]
    comparison = compared(outcome, "mas", "finetune")
    assert comparison is not None
    accuracy, auc = comparison.differences[0].further
    assert (accuracy.metric, auc.metric) == ("accuracy", "auc")
    # seed 0: 8 - 6 of 8 cases, seed 1: 7 - 7 of 8
    assert accuracy.interval is not None
    assert accuracy.interval.estimate == pytest.approx(2 / 16)
    assert accuracy.interval.n == 4
    assert accuracy.over_seeds is not None
    assert (accuracy.over_seeds.min, accuracy.over_seeds.max) == (0, pytest.approx(0.25))
    assert auc.interval is None
    assert auc.over_seeds is not None
    assert (auc.over_seeds.min, auc.over_seeds.max) == (pytest.approx(0.1), pytest.approx(0.3))


def test_rows_that_were_scored_on_other_cases_are_not_compared() -> None:
    truth = {domain: [0, 1] * 4 for domain in DOMAINS}
    other = {domain: [1, 0] * 4 for domain in DOMAINS}
    guess = {(stage, domain): truth[domain] for stage in (0, 1) for domain in DOMAINS}
    parts = [classification_rows("finetune", 0, guess, truth), classification_rows("mas", 0, guess, other)]
    outcome = outcomes(record(ROWS, parts, {"forward": DOMAINS}, seeds=(0,), task="classification", subjects=4))[0]
    with pytest.raises(EvaluationError, match="mas were scored on different cases of a"):
        compared(outcome, "mas", "finetune")


def test_classes_without_order_are_right_or_wrong() -> None:
    truth = {domain: [0, 1, 2, 0, 1, 2, 0, 1] for domain in DOMAINS}
    wrong_by_one, wrong_by_two = [1, 2, 1, 1, 2, 1, 1, 2], [2, 0, 0, 2, 0, 0, 2, 0]
    parts = [
        classification_rows(
            label, 0, {(stage, domain): wrong for stage in (0, 1) for domain in DOMAINS}, truth, classes=3
        )
        for label, wrong in (("finetune", wrong_by_one), ("mas", wrong_by_two))
    ]
    found = record(
        ROWS, parts, {"forward": DOMAINS}, seeds=(0,), task="classification", structures=("x", "y", "z"), subjects=4
    )
    comparison = compared(outcomes(found)[0], "mas", "finetune")
    assert comparison is not None
    assert comparison.differences[0].test.ties == 4
    # four subjects: the bootstrap's p is too small
    assert not comparison.differences[0].keeps_level


def test_differences_of_classes_are_of_kappa_whatever_the_scores_are() -> None:
    header = record([], [], {"forward": DOMAINS}, task="classification", metric="accuracy").header
    assert compared_metric(header) == "kappa"
    assert compared_metric(segmented(2).record.header) == "dice"
