"""`perdure doctor` on an update of pictures, from the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import synthetic
from command import Command, quietly


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `data`, a base release, two updates of it by MAS-LR and the control, and one of the first update."""
    folder = tmp_path_factory.mktemp("doctor")
    data = synthetic.write_images(folder / "data", domains=("a", "b", "c"), cases=(3, 1, 1))
    words = ("--filters", 2, "--kernel-size", 3, "--size", 32, "--epochs", 1)
    quietly("train", "--data", data, "--domain", "a", *words, "--out", folder / "base")

    def update(parent: str, domain: str, method: str, out: str) -> None:
        where = ("--release", folder / parent, "--data", data, "--domain", domain, "--out", folder / out)
        quietly("update", *where, "--method", method, "--epochs", 2)

    update("base", "b", "mas-lr", "b")
    update("base", "b", "finetune-lr-matched", "control")
    update("b", "c", "mas-lr", "c")
    return folder


def test_an_update_is_examined_as_json(command: Command, folder: Path) -> None:
    words = ("doctor", folder / "b.run", "--release", folder / "base", "--data", folder / "data")
    record = command.succeeds(*words, "--control", folder / "control", "--json").json
    assert [epoch["epoch"] for epoch in record["epochs"]] == [1, 2]
    for epoch in record["epochs"]:
        assert 0 < epoch["step_share"] < 1
        assert 0 < epoch["in_gradient"] < 0.5
        assert epoch["task_gradient"] > 0
        assert (epoch["in_loss"], epoch["restraint_gradient"], epoch["restraint"]) == (None, None, 0.0)
    assert record["measure"] == "mas"
    assert sum(layer["in_importance"] for layer in record["movement"]) > 0
    assert len(record["drift"]) == 27  # three batch norms a block, nine blocks
    (one,) = record["forgetting"]
    assert one["domain"] == "a"
    assert one["total"] == pytest.approx(one["in_weights"] + one["in_statistics"])
    assert record["control"]["name"] == "control"
    assert {found["rule"] for found in record["findings"]} >= {"too-few-epochs"}
    assert record["not_computed"] == {}


def test_a_person_reads_what_was_found_and_what_to_do(command: Command, folder: Path) -> None:
    ended = command.succeeds("doctor", folder / "b.run", "--data", folder / "data", "--split", "test")
    text = " ".join(ended.out.split())
    assert "b.run, method mas-lr" in text
    assert "note: rate-explains-effect Importance leaves" in text
    assert "What to do: Update the same parent with --method finetune-lr-matched" in text
    for heading in ("The restraint's share of each epoch", "Layers that moved furthest, of 64; Ω: mas"):
        assert heading in text
    for heading in ("Batch norms that drifted furthest, of 27", "What earlier domains lost, in Dice"):
        assert heading in text
    assert "scoring cases 3/3" in " ".join(ended.err.split())


def test_the_parent_is_found_beside_the_candidate_by_its_id(command: Command, folder: Path, tmp_path: Path) -> None:
    record = command.succeeds("doctor", folder / "c.run", "--json").json
    assert record["parent"] == command.succeeds("inspect", folder / "b", "--json").json["id"]
    assert record["forgetting"] == []
    assert record["not_computed"]["forgetting"] == "it takes cases of earlier domains; give them with --data."
    for name in ("c", "c.run"):
        shutil.copytree(folder / name, tmp_path / name)
    ended = command("doctor", tmp_path / "c.run")
    assert ended.code == 2
    assert f"{tmp_path / 'c.run'}: its parent release, {record['parent'][:16]}, does not stand beside it" in ended.err
    assert "--release" in ended.err
    assert command.succeeds("doctor", tmp_path / "c.run", "--release", folder / "b", "--json").json["drift"]


def test_of_a_run_without_a_release_the_log_is_examined(command: Command, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "b.run", tmp_path / "b.run")
    words = ("doctor", tmp_path / "b.run", "--release", folder / "base", "--data", folder / "data", "--json")
    record = command.succeeds(*words).json
    assert "unfinished-run" in {found["rule"] for found in record["findings"]}
    assert record["movement"] == record["drift"] == record["forgetting"] == []
    assert record["not_computed"]["movement"] == "the run has no release yet."


def test_of_a_base_release_too(command: Command, folder: Path) -> None:
    text = command.succeeds("doctor", folder / "base.run").out
    assert "Not computed: movement; it made a base release." in text


def test_what_is_no_run_or_another_release_is_named(command: Command, folder: Path) -> None:
    ended = command("doctor", folder / "b")
    assert (ended.code, ended.out) == (1, "")
    assert f"{folder / 'b' / 'run.json'}: missing; name the folder" in ended.err
    ended = command("doctor", folder / "c.run", "--release", folder / "base")
    assert ended.code == 1
    assert "Give that one with --release." in ended.err
