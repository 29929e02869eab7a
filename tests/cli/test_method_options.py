"""What `--method` and the options around it do on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from command import Command, quietly
from synthetic import write_images

NETWORK = ("--size", 16, "--filters", 2, "--kernel-size", 3)
QUICK = ("--epochs", 1, "--importance-samples", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder, and a release of its first domain with the usual importance."""
    place = tmp_path_factory.mktemp("methods")
    write_images(place / "data", cases=(4, 1, 1), size=(16, 16))
    quietly("train", "--data", place / "data", "--domain", "camera-a", *NETWORK, *QUICK, "--out", place / "base")
    return place


def words(folder: Path, *more: object) -> tuple[object, ...]:
    data = ("--data", folder / "data", "--domain", "camera-b", *QUICK)
    return ("update", "--release", folder / "base", *data, *more)


def written(path: Path) -> Any:
    return json.loads((path / "release.json").read_text())


def test_set_gives_a_method_s_own_settings(folder: Path, tmp_path: Path, command: Command) -> None:
    settings = ("--set", "strength=1e4", "--set", "norm=parameters", "--granularity", "kernel")
    command.succeeds(*words(folder, "--method", "mas", *settings, "--out", tmp_path / "b"))
    method = written(tmp_path / "b")["method"]
    assert (method["name"], method["granularity"], method["by"]) == ("mas", "kernel", "perdure")
    assert (method["regularizer"]["strength"], method["regularizer"]["norm"]) == (1e4, "parameters")


def test_a_configuration_file_can_say_settings_too(folder: Path, tmp_path: Path, command: Command) -> None:
    config = tmp_path / "update.toml"
    config.write_text('method = "mas-fix"\nset = ["fraction=0.5"]\n')
    command.succeeds(*words(folder, "--config", config, "--out", tmp_path / "b"))
    assert written(tmp_path / "b")["method"]["regularizer"]["fraction"] == 0.5


def test_trainable_says_what_trains_under_any_method(folder: Path, tmp_path: Path, command: Command) -> None:
    command.succeeds(*words(folder, "--method", "ewc-online", "--trainable", "head", "--out", tmp_path / "b"))
    assert written(tmp_path / "b")["method"]["trainable"] == "head"
    before, after = (load_file(path / "weights.safetensors") for path in (folder / "base", tmp_path / "b"))
    moved = {name for name in before if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    moved = {name for name in moved if not before[name].equal(after[name])}
    assert moved == {"classifier.conv.weight", "classifier.conv.bias"}


@pytest.mark.parametrize(
    ("more", "said", "code"),
    [
        (("--method", "bn-only", "--trainable", "head"), "Method 'bn-only' itself says what trains (batch-norm)", 1),
        (("--trainable", "head", "--set", "trainable=all"), "--set trainable=all: trainable is 'head' already", 2),
        (("--set", "strength"), "--set strength: must be NAME=VALUE, for example strength=1e4", 2),
        (("--set", "a=1", "--set", "a=2"), "--set a=2: a is 1 already; say it once", 2),
        (("--method", "mas", "--recipe", "authors", "--set", "recipe=paper"), "recipe is 'authors' already", 2),
        (("--method", "mas", "--set", "lamda=1"), "Method 'mas' does not take these settings: ['lamda']", 1),
        (("--method", "mas", "--set", "name=x"), "does not take these settings: ['name']", 1),
        (("--method", "mas-fix", "--set", "fraction=half"), "Method 'mas-fix' does not take these settings", 1),
        (("--method", "finetune", "--recipe", "authors"), "does not take these settings: ['recipe']", 1),
        (("--replay-cases", 2), "--replay-cases: only for the method replay; this is dsbn", 2),
        (("--granularity", "kernel"), "granularity: settings of a method; name it too (--method)", 2),
        (("--candidate", "there"), "--candidate there: only with --retain", 2),
        (("--method", "joint"), "needs the data of earlier domains (joint_with, --joint-with)", 1),
        (("--method", "si"), "train or adopt there with --measure si,", 1),
        (("--method", "mas-lr", "--recipe", "authors"), "train or adopt there with --measure mas-authors,", 1),
    ],
)
def test_a_mistake_is_named(
    folder: Path, tmp_path: Path, command: Command, more: tuple[object, ...], said: str, code: int
) -> None:
    ended = command(*words(folder, *more, "--out", tmp_path / "b"))
    assert ended.code == code
    assert said in ended.err
    assert list(tmp_path.iterdir()) == []


def test_replay_is_refused_unless_patient_data_are_allowed(folder: Path, tmp_path: Path, command: Command) -> None:
    replay = words(folder, "--method", "replay", "--joint-with", "camera-a", "--out", tmp_path / "b")
    cache = ("--cache", tmp_path / "cache")
    ended = command(*replay, *cache)
    assert ended.code == 1
    assert "trains on stored patient data" in ended.err
    # refused before an image of an earlier patient is prepared
    assert list(tmp_path.iterdir()) == []
    command.succeeds(*replay, *cache, "--allow-patient-data", "--replay-cases", 2)
    record = written(tmp_path / "b")
    assert (record["method"]["name"], record["method"]["data"]) == ("replay", "replay")
    assert [seen["domain"] for seen in record["domains"]] == ["camera-a", "camera-b"]


def test_replay_sees_as_many_cases_as_are_said(folder: Path, tmp_path: Path, command: Command) -> None:
    """Two samples a batch, so that steps count them: 4 of the new domain, and the replayed ones."""
    replay = ("--method", "replay", "--joint-with", "camera-a", "--allow-patient-data", "--batch-size", 2)
    for cases, steps in ((2, 3), (4, 4)):
        ended = command.succeeds(*words(folder, *replay, "--replay-cases", cases, "--out", tmp_path / str(cases)))
        assert f"epoch 1 of 1  {steps}/{steps}" in ended.err


def test_a_base_release_carries_what_measure_says(folder: Path, tmp_path: Path, command: Command) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[importance]\nmeasure = "mas"\noutput = "logits"\n[regularizer]\nform = "learning-rate"\n')
    said = ("si", "uniform", "mas-authors", "fisher:labels=dataset", file)
    measures = [word for one in said for word in ("--measure", one)]
    base = ("train", "--data", folder / "data", "--domain", "camera-a", *NETWORK, *QUICK, *measures)
    command.succeeds(*base, "--out", tmp_path / "base")
    measured = written(tmp_path / "base")["measures"]
    assert sorted(measured) == ["fisher-dataset", "mas-authors-samples", "mas-logits", "si", "uniform"]
    release = ("update", "--release", tmp_path / "base", *words(folder)[3:])
    for number, more in enumerate(
        (("--method", "si"), ("--method", "mas-lr", "--recipe", "authors"), ("--method", file))
    ):
        command.succeeds(*release, *more, "--out", tmp_path / str(number))
    assert written(tmp_path / "1")["method"]["recipe"] == "authors"
    assert written(tmp_path / "2")["method"]["by"] == "file mine.toml"


def test_the_same_measure_twice_is_refused(folder: Path, tmp_path: Path, command: Command) -> None:
    base = ("train", "--data", folder / "data", "--domain", "camera-a", *NETWORK, *QUICK)
    ended = command(*base, "--measure", "mas", "--measure", "mas:output=softmax", "--out", tmp_path / "base")
    assert ended.code == 2
    assert "--measure mas:output=softmax: this importance is measured already" in ended.err


def test_retain_goes_back_towards_the_release_and_trains_once(folder: Path, tmp_path: Path, command: Command) -> None:
    def dialled(retain: float, name: str, *more: object) -> str:
        dial = ("--method", "finetune", "--retain", retain)
        return command.succeeds(*words(folder, *dial, *more, "--out", tmp_path / name)).err

    assert "epoch 1 of 1" in dialled(1.0, "whole")
    candidate = ("--candidate", tmp_path / "whole.candidate")
    assert "epoch 1 of 1" not in dialled(0.25, "quarter", *candidate)
    weights = {
        name: load_file(path / "weights.safetensors")["classifier.conv.weight"]
        for name, path in {
            "base": folder / "base",
            **{name: tmp_path / name for name in ("whole", "quarter", "whole.candidate")},
        }.items()
    }
    assert weights["whole"].equal(weights["base"])
    between = 0.75 * weights["whole.candidate"] + 0.25 * weights["base"]
    assert weights["quarter"].allclose(between)
    assert not between.equal(weights["base"])
    assert written(tmp_path / "quarter")["training"]["interpolated"]["retain"] == 0.25
    ended = command(*words(folder, "--retain", 0.5, "--out", tmp_path / "quarter"))
    assert ended.code == 1
    assert "quarter exists, and nothing is overwritten" in ended.err
