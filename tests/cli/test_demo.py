"""What the demo shows; the demo itself runs in `make demo`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from command import Command
from perdure.evaluation import ScoredRelease, TrainTestMatrix


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the demo was asked for, in place of it."""
    calls: list[Any] = []
    releases = tuple(ScoredRelease(id=name, name=name, domain=f"scanner-{i}") for i, name in enumerate(("base", "b")))
    matrix = TrainTestMatrix(
        metric="dice", releases=releases, domains=("scanner-0", "scanner-1"), structures=("grey",), per_subject={},
        values=np.array([[0.9, 0.3], [0.6, 0.8]])[..., None], unseen=(), unseen_values=np.empty((2, 0, 1)),
    )  # fmt: skip

    def run_demo(out: Path, *, seed: int, progress: Any) -> object:
        progress("simulating scans", 1, 2, None)
        calls.append((out, seed))
        return SimpleNamespace(page=out / "index.html", matrices={"finetune": matrix, "mas-lr": matrix})

    monkeypatch.setattr("perdure.benchmark.demo.run_demo", run_demo)
    return calls


def test_the_demo_shows_a_matrix_for_each_method_the_measures_and_the_page(
    asked: list[Any], command: Command, tmp_path: Path
) -> None:
    ended = command.succeeds("demo", "--out", tmp_path, "--seed", 4)
    assert asked == [(tmp_path, 4)]
    text = " ".join(ended.out.split())
    assert "finetune: Dice on each domain, after learning each" in text
    assert "mas-lr: Dice on each domain, after learning each" in text
    assert "scanner-0 lost 0.300 Dice" in ended.out
    assert ended.out.count("no update") == 1
    assert ended.out.endswith(f"Page: {tmp_path / 'index.html'}\n")
    assert "simulating scans" in ended.err


def test_the_demo_s_json_holds_the_matrices(asked: list[Any], command: Command, tmp_path: Path) -> None:
    record = command.succeeds("demo", "--out", tmp_path, "--json").json
    assert record["page"] == str(tmp_path / "index.html")
    assert record["finetune"]["R"] == record["mas-lr"]["R"] == [[0.9, 0.3], [0.6, 0.8]]
