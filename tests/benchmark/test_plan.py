from __future__ import annotations

from pathlib import Path

import numpy as np

import synthetic
from grids import PLAIN, plan
from perdure.benchmark.cell import folder_of
from perdure.benchmark.plan import Cell, Plan


def test_a_plan_in_another_process_is_the_same(tmp_path: Path) -> None:
    one = plan(tmp_path, PLAIN)
    again = Plan.from_json(one.to_json())
    cell = Cell(kind="final", sequence="there", base="plain", seed=0, label="finetune")
    assert again == one
    assert folder_of(again, cell, tmp_path) == folder_of(one, cell, tmp_path)


def folders(made: Plan) -> dict[str, Path]:
    cells = {"base": made.bases()[0], "final": made.finals({})[0]}
    return {name: folder_of(made, cell, Path("out")) for name, cell in cells.items()}


def test_a_cell_is_another_one_when_its_test_cases_or_their_truth_change(tmp_path: Path) -> None:
    """And the base release, which never saw them, is the same one."""
    before = folders(plan(tmp_path, PLAIN))
    file = next((tmp_path / "data").glob("labels/b/b-test-*"))
    synthetic.save_image(file, np.zeros((40, 48), np.uint8))
    after = folders(plan(tmp_path, PLAIN))
    assert after["final"] != before["final"]
    assert after["base"] == before["base"]


def test_a_cell_is_another_one_when_a_setting_of_its_training_changes(tmp_path: Path) -> None:
    before = folders(plan(tmp_path, PLAIN))
    update = folders(plan(tmp_path, PLAIN.replace("[update]\nepochs = 1", "[update]\nepochs = 2")))
    assert (update["base"] == before["base"], update["final"] == before["final"]) == (True, False)
    train = folders(plan(tmp_path, PLAIN.replace("[train]\nepochs = 1", "[train]\nepochs = 2")))
    assert (train["base"] == before["base"], train["final"] == before["final"]) == (False, False)


def test_rows_that_join_leave_the_cells_of_others_as_they_are(tmp_path: Path) -> None:
    """Whatever importance they need, also one that is gathered in training."""
    before = folders(plan(tmp_path, PLAIN))
    assert folders(plan(tmp_path, PLAIN + '[[methods]]\nmethod = "si"\n[[methods]]\nmethod = "ewc"\n')) == before


def test_sequences_that_begin_alike_share_their_bases(tmp_path: Path) -> None:
    more = PLAIN.replace('there = ["a", "b"]', 'there = ["a", "b"]\nalso = ["a", "b"]\nback = ["b", "a"]')
    assert [(cell.sequence, cell.seed) for cell in plan(tmp_path, more).bases()] == [
        ("there", 0), ("there", 1), ("back", 0), ("back", 1),
    ]  # fmt: skip
