from __future__ import annotations

from pathlib import Path

import pytest

import synthetic
from command import Command

GRID = """
name = "grid"
seeds = [0, 1]
[data]
folder = "data"
size = 16
[sequences]
there = ["a", "b"]
[network]
arguments = { filters = 2, kernel_size = 3 }
[train]
epochs = 1
[update]
epochs = 1
[[methods]]
method = "finetune"
[[methods]]
method = "ewc"
search = { strength = [1.0, 10.0] }
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    synthetic.write_images(tmp_path / "data", domains=("a", "b"), cases=(2, 1, 2))
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path / "grid.toml"


@pytest.mark.parametrize(
    ("words", "cells"),
    [
        # bases, trials, finals
        ((), 2 + 4 + 4),
        (("--seed", 1), 1 + 2 + 2),
        (("--only", "finetune"), 2 + 2),
        (("--only", "ewc", "--seed", 0), 1 + 2 + 1),
    ],
)
def test_a_dry_run_lists_every_cell_that_is_asked_for_and_runs_none(
    grid: Path, tmp_path: Path, command: Command, words: tuple[object, ...], cells: int
) -> None:
    listed = command.succeeds("benchmark", grid, "--out", tmp_path / "out", "--dry-run", "--json", *words).json
    assert len(listed["cells"]) == cells
    assert {cell["state"] for cell in listed["cells"]} == {"to do"}
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "mas"), "--only mas: no row of"),
        (("--seed", 7), "--seed 7: no seed of"),
        (("--address", "tcp://x"), "--address tcp://x: only with --engine dask"),
        (("--engine", "dask"), "--engine dask: name the scheduler with --address"),
        (("--engine", "dask", "--address", "tcp://x", "--workers", 2), "--workers 2: only with --engine local"),
        (("--weights", "none.pt"), "--weights none.pt: there is no such file"),
    ],
)
def test_a_mistake_is_named(grid: Path, tmp_path: Path, command: Command, words: tuple[object, ...], said: str) -> None:
    ended = command("benchmark", grid, "--out", tmp_path / "out", *words)
    assert ended.code == 2
    assert said in ended.err
    assert not (tmp_path / "out").exists()
