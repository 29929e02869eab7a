"""`perdure report` from the command line, on a workspace with one release."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from command import Command
from fakes import Threshold, picture_contract, release


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with one base release and nothing else."""
    made = release(Threshold((0.5,)), picture_contract())
    made.save(tmp_path / "releases" / "base")
    return tmp_path / "releases"


def test_writes_everything_that_is_asked_for_and_says_what_is_not_in_it(
    command: Command, workspace: Path, tmp_path: Path
) -> None:
    out, record, card = tmp_path / "r.html", tmp_path / "r.json", tmp_path / "card"
    ended = command.succeeds("report", workspace, "--trust", "fakes", "--out", out, "--json-out", record,
                             "--model-card", card, "--title", "A title", "--json")  # fmt: skip
    assert ended.json["verdict"] == "none"
    assert [Path(name) for name in ended.json["files"]] == [
        out,
        record,
        card / "model-card.md",
        card / "model-card.json",
    ]
    assert all(Path(name).stat().st_size > 500 for name in ended.json["files"])
    assert "no score file is in the workspace" in ended.json["missing"]["domains"]
    assert "A title" in out.read_text(encoding="utf-8")


def test_a_pdf_without_weasyprint_is_refused_before_anything_is_written(
    command: Command, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    ended = command("report", workspace, "--out", tmp_path / "r.html", "--pdf", tmp_path / "r.pdf")
    assert ended.code == 1
    assert 'pip install "perdure[pdf]"' in ended.err
    assert not (tmp_path / "r.html").exists()


def test_a_folder_as_target_and_a_folder_without_releases_are_named(command: Command, workspace: Path) -> None:
    ended = command("report", workspace, "--out", workspace)
    assert ended.code == 2
    assert "--out" in ended.err
    ended = command("report", workspace.parent / "none", "--out", workspace / "r.html")
    assert ended.code == 1
    assert "there is no such folder" in ended.err
