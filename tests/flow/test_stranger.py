"""A network of somebody else's, with neither our names nor batch norm, goes through adopt, update and evaluate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import synthetic
from command import Command

THEIRS = """
import torch
from torch import nn


class Grader(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.AvgPool2d(4))
        self.head = nn.Linear(4 * 3 * 3, 2)

    def forward(self, image):
        return self.head(self.trunk(image).flatten(1))
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with their module, their weights and data; the command is started in it."""
    folder = tmp_path / "theirs"
    synthetic.write_classes(folder / "data", domains=("a", "b"), cases=(8, 2, 6), size=(14, 14))
    (folder / "stranger_nets.py").write_text(THEIRS)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    from stranger_nets import Grader  # type: ignore[import-not-found]

    torch.save({"state_dict": Grader().state_dict()}, folder / "weights.pt")
    return folder


ADOPT = ("adopt", "--network", "stranger_nets:Grader", "--weights", "weights.pt", "--data", "data", "--domain", "a")
TRUST = ("--trust", "stranger_nets")


def test_adopt_update_evaluate_and_predict(theirs: Path, command: Command) -> None:
    ended = command.succeeds(*ADOPT, *TRUST, "--size", 14, "--mean", 0.5, "--std", 0.25, "--out", "base")
    assert "made adopted" in " ".join(ended.out.split())
    update = ("update", "--release", "base", "--data", "data", "--domain", "b", "--epochs", 2, *TRUST)
    ended = command.succeeds(*update, "--method", "mas-lr", "--batch-norm", "original", "--out", "b")
    assert "note: The network has no batch norm" in ended.err
    assert "note:" not in command.succeeds(*update, "--method", "finetune", "--out", "c").err
    both = ("--release", "base", "--release", "b", "--data", "data", *TRUST)
    record = command.succeeds("evaluate", *both, "--out", "scores.parquet", "--json").json
    assert record["matrices"]["b"]["domains"] == ["a", "b"]
    command.succeeds("predict", "--release", "b", "--input", "data/images", "--out", "predicted", *TRUST)
    assert len(Path("predicted/predictions.csv").read_text().splitlines()) == 1 + 2 * 16


@pytest.mark.parametrize("trust", [(), ("--trust", "stranger"), ("--trust", "torch")])
def test_their_code_runs_only_where_it_is_trusted(theirs: Path, command: Command, trust: tuple[str, ...]) -> None:
    (theirs / "stranger_nets.py").write_text("raise SystemExit('it ran')")
    ended = command(*ADOPT, *trust, "--size", 14, "--out", "base")
    assert ended.code == 1
    assert "stranger_nets:Grader" in ended.err
    assert "--trust stranger_nets" in ended.err
    assert not (theirs / "base").exists()


def test_a_release_of_theirs_is_read_by_inspect_without_their_code_and_else_asks_for_trust(
    theirs: Path, command: Command
) -> None:
    command.succeeds(*ADOPT, *TRUST, "--size", 14, "--out", "base")
    assert "stranger_nets:Grader()" in command.succeeds("inspect", "base").out
    ended = command("evaluate", "--release", "base", "--data", "data", "--out", "scores.parquet")
    assert ended.code == 1
    assert "--trust stranger_nets" in ended.err


def test_weights_of_another_network_are_refused_by_file_and_name(theirs: Path, command: Command) -> None:
    torch.save({"head.weight": torch.zeros(2, 5)}, theirs / "weights.pt")
    ended = command(*ADOPT, *TRUST, "--size", 14, "--out", "base")
    assert ended.code == 1
    assert "weights.pt: does not fit the network Grader" in ended.err
    assert "head.weight: found shape (2, 5); the network has (2, 36)" in ended.err


def test_what_exists_is_not_adopted_over(theirs: Path, command: Command) -> None:
    (theirs / "base").mkdir()
    ended = command(*ADOPT, *TRUST, "--size", 14, "--out", "base")
    assert ended.code == 1
    assert "base exists, and nothing is overwritten" in ended.err
    assert "checking data" not in ended.err
