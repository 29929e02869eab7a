"""A release in a real MLflow store: what can be read back is what it says of itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import Threshold, picture_contract, release
from perdure.errors import ConfigurationError, ReleaseError
from perdure.evaluation import ScoredRelease
from perdure.evidence.gate.verdict import Criterion, PlanReference, Verdict
from perdure.evidence.publishing import publish
from perdure.release import Release

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


def verdict_about(judged: Release) -> Verdict:
    scored = ScoredRelease(id=judged.id, name=judged.name, domain="a")
    criterion = Criterion(name="plan", kind="plan", outcome="met", reason="It is as declared.")
    return Verdict(
        verdict="ACCEPT", plan=PlanReference(name="p", sha256="1" * 64), candidate=scored, parent=None, first=None,
        criteria=(criterion,), scores=(), created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


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
    assert publish(tmp_path / "base", store, "vessels", verdict_about(made)) == "1"
    found = client(store).search_model_versions("name = 'vessels'")
    assert [one.tags["perdure.verdict"] for one in found] == ["ACCEPT"]
    assert found[0].tags["perdure.plan"] == "1" * 64


def test_another_release_is_another_version(saved: Saved, store: str, tmp_path: Path) -> None:
    saved()
    saved("next")
    assert [publish(tmp_path / name, store, "vessels") for name in ("base", "next")] == ["1", "2"]


def test_a_verdict_about_another_release_is_refused(saved: Saved, store: str, tmp_path: Path) -> None:
    saved()
    with pytest.raises(ReleaseError, match="The verdict is about release"):
        publish(tmp_path / "base", store, "vessels", verdict_about(saved("next")))


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
