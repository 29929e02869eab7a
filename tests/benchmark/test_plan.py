from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import synthetic
from perdure.benchmark.cell import folder_of
from perdure.benchmark.config import read_config
from perdure.benchmark.plan import Cell, Plan
from perdure.errors import ConfigurationError

GRID = """
name = "grid"
seeds = [0, 1]
[data]
size = 16
[sequences]
there = ["a", "b"]
[network]
arguments = { filters = 2, kernel_size = 3 }
[train]
epochs = 1
[update]
epochs = 1
[bases.wild]
arguments = { dropout = 0.2 }
"""
PLAIN = GRID + '[[methods]]\nmethod = "finetune"\n'


def plan(folder: Path, text: str) -> Plan:
    if not (folder / "data").exists():
        synthetic.write_images(folder / "data", domains=("a", "b"), cases=(2, 1, 2))
    (folder / "grid.toml").write_text(text)
    return Plan(read_config(folder / "grid.toml"), folder / "grid.toml", folder / "data", cache=folder / "cache")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[[methods]]\nmethod = "mas"\nsearch = { lamda = [1, 2] }\n', "methods.1 .mas.: found {'lamda': 2}"),
        ('[[methods]]\nmethod = "mas"\nsearch = { retain = [0.5, 1.5] }\n', r"retain must be in \[0, 1\]; got 1.5"),
        ('[[methods]]\nmethod = "mas"\nupdate = { preset = "paper_a" }\n', "preset: found 'paper_a'; allowed are"),
        ('[[methods]]\nmethod = "mas"\nupdate = { epochs = "5" }\n', "epochs: found '5'"),
        ('[[methods]]\nmethod = "mas"\nupdate = { sped = 5 }\n', "sped: found 5"),
        ('[[methods]]\nmethod = "mas"\nupdate = { seed = 5 }\n', "seed: stands in `seeds` of the file"),
        ('[[methods]]\nmethod = "mas-lr-dropout"\n', "the network of base 'plain' has none"),
        ('[[methods]]\nmethod = "replay"\n', "Say that you may keep them"),
        ('[selection]\nmetric = "kappa"\n', "selection.metric: found kappa; a segmentation has dice"),
        ('[[methods]]\nlabel = "x"\nmethod = "mas"\nset = { batch_norm = "old" }\n', "batch_norm"),
    ],
)
def test_what_could_only_fail_later_is_said_before_anything_runs(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        plan(tmp_path, PLAIN + more).check()
    assert "grid.toml" in str(caught.value)


def test_a_row_that_needs_dropout_goes_with_a_base_that_has_it(tmp_path: Path) -> None:
    plan(tmp_path, PLAIN + '[[methods]]\nmethod = "mas-lr-dropout"\nbase = "wild"\n').check()


def test_a_domain_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="sequences: found c; .* has a, b"):
        plan(tmp_path, PLAIN.replace('"a", "b"', '"a", "c"')).check()


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
