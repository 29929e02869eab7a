"""The committed example on real photographs says of itself what its files say."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from perdure.evidence.gate.verdict import Verdict

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "examples" / "retina"
ROWS = re.findall(
    r"\[(PLAN-\w+\.toml)\].*?\[([A-Z ]+)\]\((verdict-\w+\.json)\)", (FOLDER / "README.md").read_text("utf-8")
)


def test_every_update_has_its_row() -> None:
    assert {file for _, _, file in ROWS} == {file.name for file in FOLDER.glob("verdict-*.json")}


@pytest.mark.parametrize(("plan", "decision", "file"), ROWS)
def test_a_row_is_the_verdict_of_its_plan(plan: str, decision: str, file: str) -> None:
    verdict = Verdict.read(FOLDER / file)
    assert verdict.verdict == decision
    assert verdict.plan.sha256 == hashlib.sha256((FOLDER / plan).read_bytes()).hexdigest()


def test_the_page_holds_no_photograph() -> None:
    assert "data:image" not in (FOLDER / "report.html").read_text("utf-8")
