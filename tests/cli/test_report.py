"""`perdure report` from the command line, on a workspace with one release."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

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
        tmp_path / "r.cdx.json",
        record,
        card / "model-card.md",
        card / "model-card.json",
    ]
    assert all(Path(name).stat().st_size > 500 for name in ended.json["files"])
    assert "no score file is in the workspace" in ended.json["missing"]["domains"]
    assert "A title" in out.read_text(encoding="utf-8")
    bill = json.loads(record.read_text(encoding="utf-8"))["bill"]
    assert bill["sha256"] == hashlib.sha256((tmp_path / "r.cdx.json").read_bytes()).hexdigest()
    assert bill["pins"] is None


def test_says_what_is_installed_otherwise_than_pinned(command: Command, workspace: Path, tmp_path: Path) -> None:
    out, record, pins = tmp_path / "r.html", tmp_path / "r.json", tmp_path / "constraints.txt"
    pins.write_text(f"# pins\nnumpy==1.0.0\ntorch=={torch.__version__}\nno-such-thing==2\nscipy>=1\n")
    words = ("report", workspace, "--trust", "fakes", "--out", out, "--json-out", record, "--pins")
    command.succeeds(*words, pins)
    found = json.loads(record.read_text(encoding="utf-8"))
    assert [(one["name"], one["installed"]) for one in found["bill"]["pins"]] == [
        ("numpy", np.__version__),
        ("no-such-thing", None),
    ]
    (field,) = [one for one in found["record"] if one["name"] == "Bill of materials"]
    assert "no-such-thing is not installed and 2 is pinned" in field["missing"]
    pins.write_text("scipy>=1\n")
    ended = command(*words, pins)
    assert ended.code == 2
    assert "constraints.txt: lines: found none that pins a version" in ended.err


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
