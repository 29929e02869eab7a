"""What cells share lies in the folder of the benchmark, whatever things are called."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import workspaces
from perdure.benchmark.store import Kept, Store


@pytest.mark.parametrize(
    ("name", "called"), [("a/b", "a-b"), ("../../b", "..-..-b"), ("/b", "-b"), ("Site A", "Site A")]
)
def test_scores_of_a_domain_called_like_a_path_stay_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, called: str
) -> None:
    base, _ = workspaces.workspace(tmp_path / "work")
    scores = workspaces.scores_of(base)
    monkeypatch.setattr("perdure.benchmark.store.evaluate", lambda *_, **__: scores)
    plan: Any = SimpleNamespace(scored={(name, "test"): "0123456789"}, device="cpu")
    domain: Any = SimpleNamespace(name=name)
    release: Any = None
    found = Store(tmp_path / "out", plan).scores(Kept("key", tmp_path, release), domain, "test", "cell")
    assert found.header == scores.header
    (file,) = (tmp_path / "out").rglob("*.parquet")
    assert file == tmp_path / "out" / "scores" / "test" / f"key-{called}-0123456789.parquet"
