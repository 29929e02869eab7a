"""A command that was stopped at any moment ends, when it is run again, with the same weights and memory bit for bit."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import synthetic
from command import Command, quietly
from perdure.cli.console import Bar
from perdure.evaluation.prediction_writing import TABLE
from perdure.evaluation.table import Table

KILLED_AT = Path(__file__).with_name("killed_at.py")
TENSORS = ("weights.safetensors", "memory.safetensors")


@dataclass(frozen=True)
class Undisturbed:
    """What came out where nothing was interrupted.

    Args:
        folder: with `data` and the releases `base` and `b`.
    """

    folder: Path

    def train(self, folder: Path) -> tuple[object, ...]:
        """The command for a base release in a folder; every kind of random number plays a part in it."""
        options = ("--filters", 3, "--kernel-size", 3, "--dropout", 0.2, "--size", 32, "--augment", "--seed", 3)
        where = ("--data", self.folder / "data", "--domain", "a", "--cache", folder / "cache", "--out", folder / "base")
        return "train", *where, *options, "--epochs", 3, "--batch-size", 2

    def update(self, folder: Path) -> tuple[object, ...]:
        """The command for an update of the undisturbed base release, in a folder."""
        where = ("--data", self.folder / "data", "--domain", "b", "--cache", folder / "cache", "--out", folder / "b")
        more = ("--method", "mas-lr", "--augment", "--epochs", 3, "--batch-size", 2)
        return "update", "--release", self.folder / "base", *where, *more


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    whole = Undisturbed(tmp_path_factory.mktemp("undisturbed"))
    synthetic.write_images(whole.folder / "data", domains=("a", "b"))
    quietly(*whole.train(whole.folder))
    quietly(*whole.update(whole.folder))
    return whole


def killed(moment: str, words: tuple[object, ...]) -> None:
    """Runs a command until it is killed at a moment."""
    done = subprocess.run(
        [sys.executable, KILLED_AT, moment, *map(str, words)], check=False, capture_output=True, text=True
    )
    assert done.returncode == -9, done.stderr


def same(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in TENSORS)


def epochs(run: Path) -> list[str]:
    with (run / "training.csv").open(newline="") as log:
        return [row["epoch"] for row in csv.DictReader(log)]


@pytest.mark.parametrize("what", ["train", "update"])
def test_killed_in_the_middle_of_an_epoch(
    undisturbed: Undisturbed, tmp_path: Path, command: Command, what: str
) -> None:
    words, name = (undisturbed.train(tmp_path), "base") if what == "train" else (undisturbed.update(tmp_path), "b")
    killed("epoch", words)
    assert epochs(tmp_path / f"{name}.run") == ["1"]
    assert not (tmp_path / name).exists()
    ended = command.succeeds(*words)
    assert "epoch 1 of 3" not in ended.err
    assert "epoch 2 of 3" in ended.err
    assert epochs(tmp_path / f"{name}.run") == ["1", "2", "3"]
    assert same(tmp_path / name, undisturbed.folder / name)


def test_killed_while_a_release_is_written(undisturbed: Undisturbed, tmp_path: Path, command: Command) -> None:
    words = undisturbed.train(tmp_path)
    killed("release", words)
    assert not (tmp_path / "base").exists()
    (unfinished,) = tmp_path.glob(".base.*.unfinished")
    assert (unfinished / "memory.safetensors").stat().st_size == 100
    ended = command("inspect", unfinished)
    assert ended.code == 1
    assert "unfinished" in ended.err
    ended = command.succeeds(*words)
    assert "epoch" not in ended.err  # only what was not done is done
    assert same(tmp_path / "base", undisturbed.folder / "base")
    assert list(tmp_path.glob(".base.*")) == []


def test_killed_while_the_cache_is_filled(undisturbed: Undisturbed, tmp_path: Path, command: Command) -> None:
    words = undisturbed.train(tmp_path)
    killed("cache", words)
    assert len(list((tmp_path / "cache" / "entries").iterdir())) == 1
    assert len(list((tmp_path / "cache" / "building").iterdir())) == 1
    assert not (tmp_path / "base.run").exists()
    command.succeeds(*words)
    assert same(tmp_path / "base", undisturbed.folder / "base")


def test_ctrl_c_gives_code_130_and_the_same_command_goes_on(
    undisturbed: Undisturbed, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(bar: Bar, what: str, done: int, total: int, loss: float | None = None) -> None:
        if what.startswith("epoch 3"):
            raise KeyboardInterrupt

    words = undisturbed.train(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Bar, "__call__", interrupted)
        ended = command(*words)
    assert ended.code == 130
    assert ended.out == ""
    assert ended.err.endswith("error: stopped. Nothing that was finished is lost: the same command goes on.\n")
    ended = command.succeeds(*words)
    assert "epoch 2 of 3" not in ended.err
    assert "epoch 3 of 3" in ended.err
    assert same(tmp_path / "base", undisturbed.folder / "base")


def test_without_an_interruption_the_same_command_gives_the_same_bits(
    undisturbed: Undisturbed, tmp_path: Path, command: Command
) -> None:
    command.succeeds(*undisturbed.train(tmp_path))
    assert same(tmp_path / "base", undisturbed.folder / "base")


def test_a_prediction_that_was_stopped_goes_on_with_the_files_that_are_left(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = synthetic.write_classes(tmp_path / "data", domains=("a",), cases=(2, 1, 1), size=(16, 16))
    (tmp_path / "net_of_the_interruption.py").write_text(
        "from torch import nn\n\ndef net(in_channels, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(256 * in_channels, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    trust = ("--trust", "net_of_the_interruption")
    network = ("--network", "net_of_the_interruption:net", *trust, "--size", 16, "--epochs", 1)
    command.succeeds("train", "--data", data, "--domain", "a", *network, "--out", tmp_path / "base")
    words = ("predict", "--release", tmp_path / "base", "--input", data, *trust, "--out")
    command.succeeds(*words, tmp_path / "whole")
    original, done = Table.add, []

    def stopped(table: Table, given: Sequence[Sequence[str]]) -> None:
        if len(done) == 3:  # the second picture has its row, and no line yet that says what it is of
            raise KeyboardInterrupt
        done.append(given)
        original(table, given)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "add", stopped)
        assert command(*words, tmp_path / "parts").code == 130
    ended = command.succeeds(*words, tmp_path / "parts")
    assert ended.out == f"3 predicted, 1 done before, in {tmp_path / 'parts'}\n"
    assert (tmp_path / "parts" / TABLE).read_bytes() == (tmp_path / "whole" / TABLE).read_bytes()
