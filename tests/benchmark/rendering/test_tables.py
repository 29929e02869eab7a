from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from perdure.benchmark.comparison import against, compared_with_base
from perdure.benchmark.outcomes import SequenceOutcome, outcomes
from perdure.benchmark.record import Record
from perdure.benchmark.rendering.tables import (
    before_and_after_table,
    choices_table,
    decidable_sentences,
    differences_table,
    further_table,
    has_table_1,
    lacking_table,
    markdown,
    measures_table,
    placeless,
    scores_table,
    sign_sentences,
    table_1,
)
from perdure.benchmark.rendering.terminal import rich_tables
from records import choice, classification_rows, record, row, segmentation_rows

DOMAINS = ("a", "b")
R = {0: [[0.8, 0.3], [0.6, 0.7]], 1: [[0.9, 0.4], [0.5, 0.8]]}


@pytest.fixture
def small() -> Record:
    rows = [row("no-update", role="control"), row("mas"), row("finetune", role="control")]
    parts = [segmentation_rows(label, seed, R[seed], DOMAINS) for label in ("mas", "finetune") for seed in (0, 1)]
    parts.append(segmentation_rows("no-update", 0, R[0], DOMAINS))
    failed = [("forward", "no-update", 1, "failed", "OSError: no space in /home/someone/runs/cells/x.json\nat all")]
    return record(rows, parts, {"forward": DOMAINS}, failed=failed, choices=[choice("mas", {1: (0.7, 0.5)}, 1)])


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]


def test_measures_stand_with_the_smallest_and_the_largest_seed(small: Record) -> None:
    header, _, *rows = cells(measures_table(outcomes(small)[0]))
    assert header == ["row", "seeds", "worst loss at the end", "TL", "REM", "BWT+", "FWT", "CL Dice"]
    assert [line[0] for line in rows] == ["finetune", "mas", "no-update"]
    assert rows[0][1:5] == ["2", "0.300 (0.200..0.400)", "0.800 (0.750..0.850)", "0.700 (0.600..0.800)"]
    assert rows[0][5:] == ["0.000 (0.000..0.000)", "0.350 (0.300..0.400)", "0.717 (0.700..0.733)"]


def test_a_row_with_a_failed_seed_says_so(small: Record) -> None:
    *_, last = cells(measures_table(outcomes(small)[0]))
    assert last[1:3] == ["1, 1 failed", "0.200 (one seed; 1 of 2 seeds)"]


def test_with_one_seed_cells_are_plain() -> None:
    rows = [row("finetune"), row("mas")]
    parts = [segmentation_rows(one.label, 0, R[0], DOMAINS, subjects=8, apart=0.01) for one in rows]
    outcome = outcomes(record(rows, parts, {"forward": DOMAINS}, seeds=(0,), subjects=8))[0]
    assert cells(measures_table(outcome))[2][1:4] == ["1", "0.200", "0.750"]
    assert cells(differences_table(outcome, against(outcome, "finetune"), "row"))[0][1:3] == [
        "a: difference of Dice", "p",
    ]  # fmt: skip


def graded(subjects: int, metric: str = "kappa") -> SequenceOutcome:
    truth = {domain: [0, 1] * subjects for domain in DOMAINS}
    wrong = {domain: [1, 1] * (subjects - 1) + [0, 1] for domain in DOMAINS}
    guess = {(stage, domain): (wrong, truth)[stage][domain] for stage in (0, 1) for domain in DOMAINS}
    parts = [classification_rows("mas", seed, guess, truth) for seed in (0, 1)]
    found = record([row("mas")], parts, {"forward": DOMAINS}, task="classification", subjects=subjects, metric=metric)
    return outcomes(found)[0]


def before_and_after(outcome: SequenceOutcome) -> list[list[str]]:
    return cells(before_and_after_table(outcome, {"mas": compared_with_base(outcome, "mas")}))


def test_the_change_of_kappa_has_the_p_of_errors_beside_that_of_the_bootstrap_which_few_subjects_make_too_small() -> (
    None
):
    header, _, few = before_and_after(graded(12))
    assert header[1:7] == ["O (a), before", "after", "change of kappa", "by seed", "bootstrap p", "p of errors"]
    # 11 of 12 subjects have one error less: 2 / 2^11, and twice that over two domains
    assert few[4:7] == ["+0.917..+0.917", "< 0.001?", "0.002"]
    *_, many = before_and_after(graded(20))
    assert many[5:7] == ["< 0.001", "< 0.001"]


def test_the_differences_in_accuracy_and_auc_stand_in_a_table_of_their_own() -> None:
    outcome = graded(20)
    header, _, found = cells(further_table(outcome, {"mas": compared_with_base(outcome, "mas")}, "row"))
    assert header == ["row", "a: accuracy", "by seed", "a: AUC", "b: accuracy", "by seed", "b: AUC"]
    # 19 of 40 cases; the AUC could not be computed
    assert found[1].startswith("+0.475 [")
    assert found[2:4] == ["+0.475..+0.475", "–"]


def test_scores_that_are_no_kappa_do_not_lend_their_name_to_its_difference() -> None:
    header, _, cell = before_and_after(graded(20, "accuracy"))
    assert header[3] == "change of kappa"
    assert cell[1].startswith("0.525 ")
    assert cell[3].startswith("+0.950 ")


def test_rows_that_are_told_the_domain_are_marked_in_every_table_and_the_sign_is_said() -> None:
    rows = [row("default", "dsbn"), row("finetune")]
    parts = [segmentation_rows(one.label, 0, R[0], DOMAINS) for one in rows]
    found = record(rows, parts, {"forward": DOMAINS}, seeds=(0,), choices=[choice("default", {1: (0.7, 0.5)}, 1)])
    outcome = outcomes(found)[0]
    differences = differences_table(outcome, against(outcome, "finetune"), "row")
    for table in (measures_table(outcome), scores_table(outcome), differences, choices_table(found)):
        assert "| default† |" in table
    written = io.StringIO()
    Console(width=120, file=written).print(*rich_tables(found))
    assert "default†" in written.getvalue()
    (said,) = sign_sentences(found.header.rows)
    assert "told at test time which domain an image is from" in said


def test_a_search_that_is_not_over_has_chosen_nothing_yet(small: Record) -> None:
    unfinished = small.header.choices[0].model_copy(update={"chosen": None, "unfinished": 3})
    found = Record(small.header.model_copy(update={"choices": (unfinished,)}), small.table)
    assert cells(choices_table(found))[2][3] == "nothing yet: 3 trials are not finished"


def test_scores_stand_when_learnt_and_at_the_end(small: Record) -> None:
    header, _, first, *_ = cells(scores_table(outcomes(small)[0]))
    assert header == ["row", "a, when learnt", "at the end", "b, when learnt"]
    assert first[1:] == ["0.850 (0.800..0.900)", "0.550 (0.500..0.600)", "0.750 (0.700..0.800)"]


def test_failed_cells_are_listed_with_a_reason_that_names_no_folder_of_the_machine(small: Record) -> None:
    assert cells(lacking_table(small))[2] == [
        "no-update", "forward", "1", "failed", "OSError: no space in x.json at all",
    ]  # fmt: skip


def test_the_terminal_shows_every_row_and_why_a_cell_failed(small: Record) -> None:
    written = io.StringIO()
    Console(width=100, file=written).print(*rich_tables(small), sep="\n")
    text = written.getvalue()
    assert "no-update, seed 1: failed: OSError: no space in x.json" in text
    assert re.search(r"finetune +0\.800 +0\.300 +0\.700", text)
    assert ".20 to .40" in text


def test_too_few_subjects_are_said_instead_of_a_p(small: Record) -> None:
    outcome = outcomes(small)[0]
    comparisons = against(outcome, "finetune")
    table = cells(differences_table(outcome, comparisons, "row"))
    assert table[0] == ["row", *(f for d in DOMAINS for f in (f"{d}: difference of Dice", "by seed", "p"))]
    assert table[2] == ["mas", *["0.000 [0.000, 0.000]", "0.000..0.000", "too few (2)"] * 2]
    assert decidable_sentences(comparisons)[0] == (
        "a has too few subjects to decide: with 2 pairs, corrected p cannot go below 1."
    )


def test_what_was_searched_stands_beside_what_was_chosen(small: Record) -> None:
    assert cells(choices_table(small))[2] == [
        "mas", "forward", "strength: 1", "strength = 1", "0.800 → 0.700", "0.300 → 0.500", "1",
    ]  # fmt: skip


def test_the_form_of_table_1_has_published_numbers_below_ours_and_labels_the_deviation() -> None:
    names = ("finetune", "joint", "mas", "mas-lr", "mas-fix", "ewc")
    structures = ("background", "one", "two")
    parts = [segmentation_rows(name, 0, R[0], DOMAINS, structures=structures) for name in names]
    found = record([row(name) for name in names], parts, {"forward": DOMAINS}, seeds=(0,), structures=structures)
    assert has_table_1(found)
    table = cells(table_1(outcomes(found)[0]))
    assert table[0] == ["row", "whose", "CL Dice", "REM", "BWT+", "TL", "FWT"]
    assert table[2][:3] == ["Fine-tuning (finetune)", "ours", "0.700 [0.000]"]
    assert table[3][1:4] == ["published", "0.716 [0.138]", "0.903 [0.054]"]
    assert [line[0] for line in table[2:] if line[0]][-1] == "ewc"


def test_few_rows_of_table_1_do_not_make_it(small: Record) -> None:
    assert not has_table_1(small)


def test_a_label_with_a_bar_does_not_break_a_table() -> None:
    assert markdown(["row", "x"], [["a|b", "1"]]).splitlines()[-1] == r"| a\|b | 1 |"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot read /home/me/data/a.png: gone", "cannot read a.png: gone"),
        ("'/tmp/x/y'", "'y'"),
        ("1/2 and a/b/c stay", "1/2 and a/b/c stay"),
        ("https://host/a/b stays", "https://host/a/b stays"),
    ],
)
def test_absolute_paths_lose_their_folders(text: str, expected: str) -> None:
    assert placeless(text) == expected
