"""The demo at a size that takes seconds; its numbers are those of `make demo` (README)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perdure.benchmark import demo
from perdure.update import Recipe


def test_the_demo_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both methods start from one base release; whatever is finished is not made again."""
    monkeypatch.setattr(demo, "SPACING", 10.0)
    for name in ("BASE", "LATER"):
        monkeypatch.setattr(demo, name, Recipe(epochs=1, batch_size=5))
    told: list[str] = []

    def stop(what: str, done: int, total: int, loss: float | None) -> None:
        told.append(what)
        if what.startswith("mas-lr, scanner3: epoch"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(tmp_path, progress=stop)
    assert any(what.startswith("base, scanner1: epoch") for what in told)
    again: list[str] = []
    story = demo.run_demo(tmp_path, progress=lambda what, *_: again.append(what))
    trained = {what.split(":")[0] for what in again if ": epoch" in what}
    assert trained == {"mas-lr, scanner3", "mas-lr, scanner4"}
    assert not any("scoring" in what and what.startswith("finetune") for what in again)
    assert {name: matrix.mean.shape for name, matrix in story.matrices.items()} == {
        "finetune": (4, 4),
        "mas-lr": (4, 4),
    }
    first, second = (matrix for matrix in story.matrices.values())
    assert first.releases[0] == second.releases[0]
    np.testing.assert_array_equal(first.mean[0], second.mean[0])
    assert story.page.is_file()
