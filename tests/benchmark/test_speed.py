"""The suite that measures speed: every goal has a row and what measures it, and the table says what was found."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = (
    "startup", "roofline", "importance", "restraint", "training", "evaluation", "prediction", "growth", "trained",
    "seeds", "peers",
)  # fmt: skip
PARTS = ("importance", "restraint", "training", "prediction", "evaluation", "startup", "growth")


@pytest.fixture(scope="module")
def suite() -> Iterator[SimpleNamespace]:
    """The modules of the suite, which lie beside each other and are no package."""
    with pytest.MonkeyPatch.context() as path:
        path.syspath_prepend(ROOT / "benchmarks" / "speed")
        names = ("goals", "results", "table", "timing", "growth_figure", *SCRIPTS)
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


def row(suite: SimpleNamespace, key: str, values: tuple[float, ...], note: str = "", **changes: Any) -> Any:
    place = suite.results.Place("a processor, 2 cores", "cpu", 1, {"torch": "2.13.0"}, "abc1234", "0123456789ab")
    found = suite.results.Found(values, note, changes.pop("points", ()))
    return replace(suite.results.Row(key, "full", found, place), **changes)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").replace("\\|", "\0").split("|")]


def test_every_goal_is_measured_by_one_script(suite: SimpleNamespace) -> None:
    measured = [key for name in SCRIPTS for one in getattr(suite, name).ALL for key in one.keys]
    assert sorted(measured) == sorted(suite.goals.BY_KEY)


def test_every_part_of_the_issue_has_goals_with_a_bound_and_some_of_the_short_form(suite: SimpleNamespace) -> None:
    for part in PARTS:
        own = [goal for goal in suite.goals.GOALS if goal.part == part]
        assert any(goal.wanted is not None for goal in own)
        assert any(goal.form == "short" for goal in own)


def test_the_table_has_a_line_for_every_goal_measured_or_not(suite: SimpleNamespace) -> None:
    page = suite.table.page({})
    for key in suite.goals.BY_KEY:
        (line,) = (line for line in page.splitlines() if f"`make bench ONLY={key}`" in line)
        assert len(cells(line)) == len(cells(suite.table.COLUMNS))
        assert cells(line)[3] == "not measured"


def test_a_line_says_median_quartiles_and_repeats_and_marks_a_goal_that_is_not_met(suite: SimpleNamespace) -> None:
    goal = suite.goals.BY_KEY["importance/mas/resnet50"]
    met = cells(suite.table.line(goal, row(suite, goal.key, (0.8, 0.7, 0.9, 0.6, 1.0), "said")))
    assert met[2:7] == ["≤ 1.08", "0.8", "0.7 to 0.9", "5", "said"]
    missed = cells(suite.table.line(goal, row(suite, goal.key, (1.2,))))
    assert missed[3:6] == ["**1.2**", "", "1"]


def test_a_goal_may_be_a_least_value_and_have_a_unit(suite: SimpleNamespace) -> None:
    faster, opening = suite.goals.BY_KEY["evaluation/monai"], suite.goals.BY_KEY["startup/open"]
    assert cells(suite.table.line(faster, row(suite, faster.key, (39.0,))))[2:4] == ["≥ 40", "**39**"]
    assert cells(suite.table.line(opening, row(suite, opening.key, (0.12, 0.14))))[2:4] == ["≤ 0.3 s", "0.13 s"]


def test_a_peer_that_refuses_has_a_line_with_its_own_words(suite: SimpleNamespace) -> None:
    key = "importance/nngeometry/quicknat-128"
    line = suite.table.line(suite.goals.BY_KEY[key], row(suite, key, (), "refuses: I do not know | what to do"))
    assert cells(line)[3:7] == ["—", "", "", "refuses: I do not know \0 what to do"]


def test_the_page_says_on_what_each_row_was_measured(suite: SimpleNamespace) -> None:
    one = row(suite, "evaluation/dice", (0.1,))
    other = row(suite, "evaluation/kappa", (0.1,), form="short")
    page = suite.table.page({one.key: one, other.key: replace(other, place=replace(other.place, commit="def5678+"))})
    assert "- Machine: a processor, 2 cores; 1 thread (2 rows)." in page
    assert "- Versions: torch 2.13.0 (2 rows)." in page
    assert "- Commit abc1234, form `full` (1 row)." in page
    assert "- Commit def5678+, form `short` (1 row)." in page


def test_growth_is_drawn_with_its_exponent_and_the_same_figures_give_the_same_bytes(
    suite: SimpleNamespace, tmp_path: Path
) -> None:
    keys, points = ("growth/cases", "growth/classes"), ((10, 0.1), (100, 1.0), (1000, 10.0))
    rows = {key: row(suite, key, (0.9, 1.0, 1.1), points=points) for key in keys}
    suite.table.write(rows, tmp_path / "page.md")
    # one line with a mark at each point in each picture
    drawn = (tmp_path / "page-growth.svg").read_text(encoding="utf-8")
    assert drawn.count('id="axes_') == len(keys)
    assert drawn.count("stroke: #0072b2") >= len(keys) * (1 + len(points))
    first = (tmp_path / "page-growth.svg").read_bytes()
    suite.table.write(rows, tmp_path / "page.md")
    assert (tmp_path / "page-growth.svg").read_bytes() == first
    assert "(page-growth.svg)" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_results_come_back_and_a_row_takes_the_place_of_the_one_before(suite: SimpleNamespace, tmp_path: Path) -> None:
    results = suite.results.Results(tmp_path / "new", "cpu")
    first = row(suite, "growth/cases", (1.0,), points=((10, 0.1), (100, 1.0)))
    second = replace(first, found=replace(first.found, values=(2.0,)))
    other = row(suite, "evaluation/dice", (0.1,))
    for one in (first, other, second):
        results.add(one)
    assert list(results) == [other, second]


def test_what_is_there_counts_for_the_same_code_versions_and_machine_and_a_smaller_form(
    suite: SimpleNamespace, tmp_path: Path
) -> None:
    results = suite.results.Results(tmp_path, "cpu")
    full = row(suite, "evaluation/dice", (0.1,))
    results.add(full)
    results.add(row(suite, "evaluation/kappa", (0.1,), form="short"))
    assert results.has("evaluation/dice", "full", full.place)
    assert results.has("evaluation/dice", "short", full.place)
    assert results.has("evaluation/kappa", "short", full.place)
    assert not results.has("evaluation/kappa", "full", full.place)
    assert results.has("evaluation/dice", "full", replace(full.place, commit="another"))
    for other in ({"code": "another"}, {"versions": {"torch": "2.14.0"}}, {"threads": 2}, {"machine": "another"}):
        assert not results.has("evaluation/dice", "full", replace(full.place, **other))


def test_an_exponent_is_that_of_the_larger_half(suite: SimpleNamespace) -> None:
    assert suite.timing.slope([1, 10, 100, 1000], [5.0, 5.0, 10.0, 20.0]) == pytest.approx(0.301, abs=1e-3)
    assert suite.timing.slope([1, 2, 4], [3.0, 6.0, 12.0]) == pytest.approx(1.0)


def committed(suite: SimpleNamespace, device: str) -> tuple[Any, Path]:
    name = "performance-table.md" if device == "cpu" else f"performance-table-{device}.md"
    return suite.results.Results(ROOT / "benchmarks" / "records" / "speed", device), ROOT / "docs" / name


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_committed_table_is_what_the_committed_results_give(
    suite: SimpleNamespace, device: str, tmp_path: Path
) -> None:
    results, table = committed(suite, device)
    if not table.exists():
        pytest.skip(f"{table.name} is not committed yet")
    suite.table.write(results.newest(), tmp_path / table.name)
    for file in tmp_path.iterdir():
        assert file.read_text(encoding="utf-8") == (table.parent / file.name).read_text(encoding="utf-8")
