from __future__ import annotations

import re
from pathlib import Path

import pytest

from perdure.benchmark.record import Record
from perdure.benchmark.rendering.page import index_entry, page, write_page
from records import choice, classification_rows, record, row, segmentation_rows

DOMAINS = ("a", "b")
R = [[0.8, 0.3], [0.6, 0.7]]


def segmented(**more: object) -> Record:
    rows = [row("finetune", role="control"), row("no-update", role="control"), row("default", "mas"), row("ewc")]
    parts = [segmentation_rows(one.label, seed, R, DOMAINS, subjects=8) for one in rows[:3] for seed in (0, 1)]
    failed = [("forward", "ewc", seed, "diverged", "the loss | is nan") for seed in (0, 1)]
    choices = [choice("ewc", {1: (0.5, 0.6), 10: (0.6, 0.5)}, 10)]
    return record(rows, parts, {"forward": DOMAINS}, failed=failed, choices=choices, subjects=8, **more)


def classified() -> Record:
    truth = {domain: [0, 1, 0, 1, 1, 0] for domain in DOMAINS}
    guess = {(stage, domain): [0, 1, 1, 1, 0, stage] for stage in (0, 1) for domain in DOMAINS}
    rows = [row("finetune"), row("mas")]
    parts = [classification_rows(one.label, seed, guess, truth) for one in rows for seed in (0, 1)]
    return record(rows, parts, {"forward": DOMAINS}, task="classification", subjects=3)


@pytest.fixture(scope="module", params=[segmented, classified], ids=["segmentation", "classification"])
def files(request: pytest.FixtureRequest) -> dict[str, str]:
    return page(request.param(), "small")


def test_tables_are_well_formed(files: dict[str, str]) -> None:
    text = files["small.md"]
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert tables
    for table in tables:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1
        assert re.fullmatch(r"\| ---( \| ---:)+ \|", table.splitlines()[1])
        # an empty line around it, or it is no table
        assert f"\n\n{table}" in text


def test_every_figure_that_the_page_shows_is_there_and_none_besides(files: dict[str, str]) -> None:
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", files["small.md"])
    assert sorted(shown) == sorted(name for name in files if name.endswith(".svg"))


def test_the_page_says_how_it_was_made_and_names_no_folder_of_the_machine(files: dict[str, str]) -> None:
    text = files["small.md"]
    assert "- Command: `perdure benchmark small.toml --out small`" in text
    assert "- Seeds: 0, 1" in text
    assert "- The test split was scored 12 times, a release on a domain each; 0 of these were repeated" in text
    assert "- Other releases in the same folder were scored on it 4 times" in text
    assert "- First scored: 2026-11-01T09:00:00+00:00" in text
    assert "- Recorded: 2026-11-02" in text
    assert "home" not in text
    assert "±" not in text.replace("what stands behind ±", "")


def test_paths_within_options_lose_their_folders_too() -> None:
    command = "perdure benchmark small.toml --data=/home/someone/data --weights '/home/someone/my weights.pth'"
    text = page(segmented(command=command), "small")["small.md"]
    assert "`perdure benchmark small.toml --data=data --weights 'my weights.pth'`" in text


def test_a_page_shows_failed_cells_the_search_and_the_default_against_every_row() -> None:
    text = page(segmented(), "small")["small.md"]
    assert r"| ewc | forward | 1 | diverged | the loss \| is nan |" in text
    assert "| ewc | 0, 2 diverged | – |" in text
    assert "strength: 1, 10 | strength = 10" in text
    assert "### The default against every other row" in text
    assert "### Held against no-update" in text
    assert "- Cells: 8, 6 of them with scores" in text
    assert (
        "Hours of cells, one thread each, shared work counted for the cell that did it: bases 0.01, finals 0.15" in text
    )


def test_two_domains_of_classes_stand_before_and_after() -> None:
    text = page(classified(), "small")["small.md"]
    own = "after | change of kappa | by seed | bootstrap p | p of errors |"
    assert f"| row | O (a), before | {own} T (b), before | {own}" in text
    assert "A change is of kappa of the cases of all seeds together" in text
    assert text.count("The same in accuracy and AUC:") == 2
    assert "Those of AUC have none over subjects" in text
    # three subjects
    assert "A question mark: with fewer than 20 subjects the bootstrap's p is too small" in text


def test_one_seed_is_said_once() -> None:
    rows = [row("finetune"), row("default", "dsbn")]
    parts = [segmentation_rows(one.label, 0, R, DOMAINS, subjects=8) for one in rows]
    text = page(record(rows, parts, {"forward": DOMAINS}, seeds=(0,), subjects=8), "small")["small.md"]
    assert text.count("one seed") == 1
    assert "by seed" not in text
    assert "| default† | 1 | 0.200 |" in text
    assert "default† minus each row" in text
    assert text.count("told at test time which domain an image is from") == 1


def test_the_name_of_the_metric_is_that_of_what_differs() -> None:
    found = classified()
    header = found.header.model_copy(update={"metric": "accuracy", "ordinal": True})
    text = page(Record(header, found.table), "small")["small.md"]
    assert "Scores are accuracy on the test split" in text
    assert "Differences are of kappa with linear weights" in text


def test_writing_twice_changes_nothing_and_old_figures_go(tmp_path: Path) -> None:
    written = write_page(segmented(), tmp_path, "small")
    before = {file.name: file.read_bytes() for file in written}
    (tmp_path / "small-forward-old.svg").write_text("")
    (tmp_path / "small-b-forward-old.svg").write_text("")
    write_page(segmented(), tmp_path, "small")
    left = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert left == {**before, "small-b-forward-old.svg": b""}


def test_the_index_counts_what_has_scores() -> None:
    expected = "- [A small grid](small.md): forward: a → b. 4 rows, 2 seeds, 6 of 8 cells with scores."
    assert index_entry(segmented(), "small") == expected
