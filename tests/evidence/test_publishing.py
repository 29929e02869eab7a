"""A release in a real MLflow store: what can be read back is what it says of itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import Threshold, picture_contract, release
from perdure.errors import ConfigurationError, LedgerError, ReleaseError
from perdure.evidence.publishing import publish
from perdure.release import Release
from workspaces import gated

mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")

Saved = Callable[..., Release]
EPOCHS = [
    {"epoch": 1, "loss": 0.9, "validation_loss": None},
    {"epoch": 2, "loss": 0.5, "validation_loss": 0.7},
]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    # MLflow wants a database behind a server, which the client alone does not bring; a folder will do for a test
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "store").as_uri()


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    def make(name: str = "base") -> Release:
        made = release(Threshold([0.5]), picture_contract(), name=name)
        facts = {"recipe": {"learning_rate": 0.1}, "training": {"epochs": EPOCHS}}
        return replace(made, identity=made.identity.model_copy(update=facts)).save(tmp_path / name)

    return make


def client(store: str) -> Any:
    return mlflow.MlflowClient(tracking_uri=store, registry_uri=store)


def test_a_release_is_a_version_with_its_training_and_its_files(saved: Saved, store: str, tmp_path: Path) -> None:
    made = saved()
    assert publish(tmp_path / "base", store, "vessels") == "1"
    found = client(store).get_model_version("vessels", "1")
    assert found.tags["perdure.id"] == made.id
    assert found.tags["perdure.domain"] == "a"
    assert "perdure.verdict" not in found.tags
    history = client(store).get_metric_history(found.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(1, 0.9), (2, 0.5)]
    assert [one.step for one in client(store).get_metric_history(found.run_id, "validation_loss")] == [2]
    assert client(store).get_run(found.run_id).data.params["recipe.learning_rate"] == "0.1"
    files = {Path(one.path).name for one in client(store).list_artifacts(found.run_id, "release")}
    assert files == {"weights.safetensors", "memory.safetensors", "release.json"}


def test_the_verdict_is_a_tag_also_when_it_comes_later(saved: Saved, store: str, tmp_path: Path) -> None:
    made = saved()
    publish(tmp_path / "base", store, "vessels")
    assert publish(tmp_path / "base", store, "vessels", gated(tmp_path, made)) == "1"
    found = client(store).search_model_versions("name = 'vessels'")
    assert [one.tags["perdure.verdict"] for one in found] == ["ACCEPT"]
    assert found[0].tags["perdure.plan"] == "a" * 64


def test_a_verdict_that_no_gate_gave_is_no_tag(saved: Saved, store: str, tmp_path: Path) -> None:
    made = saved()
    with pytest.raises(LedgerError, match="does not know, byte for byte, from the gate"):
        publish(tmp_path / "base", store, "vessels", gated(tmp_path, made, is_recorded=False))
    edited = gated(tmp_path, made, "violated")
    edited.write_text(edited.read_text().replace("violated", "met").replace("REJECT", "ACCEPT"))
    with pytest.raises(LedgerError, match="does not know, byte for byte, from the gate"):
        publish(tmp_path / "base", store, "vessels", edited)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["o'brien", 'the "old" one', "' or name != '", "a`b", " "])
def test_a_name_with_a_quote_is_refused_by_name(saved: Saved, store: str, tmp_path: Path, name: str) -> None:
    """MLflow itself looks names up by a filter that a quote breaks."""
    saved()
    with pytest.raises(ConfigurationError, match="--name: found .*; a name without quotes"):
        publish(tmp_path / "base", store, name)
    assert not (tmp_path / "store").exists()


def test_a_release_that_another_model_has_is_a_version_of_this_one_too(
    saved: Saved, store: str, tmp_path: Path
) -> None:
    saved()
    saved("next")
    assert [publish(tmp_path / one, store, "brains") for one in ("base", "next", "base")] == ["1", "2", "1"]
    assert publish(tmp_path / "next", store, "vessels") == "1"


def test_another_release_is_another_version(saved: Saved, store: str, tmp_path: Path) -> None:
    saved()
    saved("next")
    assert [publish(tmp_path / name, store, "vessels") for name in ("base", "next")] == ["1", "2"]


def test_a_verdict_about_another_release_is_refused(saved: Saved, store: str, tmp_path: Path) -> None:
    saved()
    with pytest.raises(ReleaseError, match="The verdict is about release"):
        publish(tmp_path / "base", store, "vessels", gated(tmp_path, saved("next")))


def test_a_damaged_release_is_not_published(saved: Saved, store: str, tmp_path: Path) -> None:
    saved()
    (tmp_path / "base" / "memory.safetensors").write_bytes(b"x")
    with pytest.raises(ReleaseError, match="damaged"):
        publish(tmp_path / "base", store, "vessels")
    assert not (tmp_path / "store").exists()


def test_a_store_that_says_no_is_named(saved: Saved, tmp_path: Path) -> None:
    saved()
    with pytest.raises(ConfigurationError, match="MLflow at nowhere://store refused"):
        publish(tmp_path / "base", "nowhere://store", "vessels")


def test_without_mlflow_the_extra_is_named(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigurationError, match=r'pip install "perdure\[mlflow\]"'):
        publish(tmp_path / "base", "http://localhost:1", "vessels")
