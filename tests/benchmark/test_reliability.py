"""The tables of docs/reliability.md are what the record gives."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE, RECORD = ROOT / "docs" / "reliability.md", ROOT / "benchmarks" / "records" / "reliability.json"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reliability_script", ROOT / "benchmarks" / "reliability.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_tables_of_the_committed_record(script: ModuleType) -> None:
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    assert set(script.tables(found)) == {"faults", "damage", "fuzz", "soak"}
    text = PAGE.read_text(encoding="utf-8")
    assert script.with_tables(text, found) == text


def test_nothing_was_lost_half_written_or_read_otherwise_and_no_input_is_left_unmended() -> None:
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    assert [row for row in found["faults"] if row.get("wrong")] == []
    assert [row for row in found["damage"] if row["wrong"]] == []
    assert [row for row in found["fuzz"] if row["findings"]] == []
    assert min(row["inputs"] for row in found["fuzz"]) >= 100_000


def test_every_target_was_fuzzed() -> None:
    from fuzz.targets import targets

    found = json.loads(RECORD.read_text(encoding="utf-8"))
    assert {row["target"] for row in found["fuzz"]} == set(targets())


def test_faults_of_one_kind_are_one_row_that_adds_them_up(script: ModuleType) -> None:
    row = {"kind": "kill", "operations": 9, "times": 2000, "stopped": 1999, "wrong": ["x"]}
    table = script.tables({"faults": [{"command": "a", **row}, {"command": "b", **row}, {}], "damage": []})["faults"]
    assert table.splitlines()[2:] == [
        "| killed (`SIGKILL`) before this operation on a file | `a`, `b` | 4,000 | 3,998 | 2 |"
    ]


def test_a_page_without_a_mark_is_left_alone(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match="must hold these two lines once"):
        script.with_tables("# Reliability\n", {"soak": []})
