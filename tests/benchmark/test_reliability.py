"""The tables of docs/reliability.md are what the record gives."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import pytest

import pacs
from faults import lab, sweep
from faults.sweep import Outcome

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
    assert min(row["updates"] for row in found["soak"]) >= 300
    assert [row for row in found["damage"] if row["wrong"]] == []
    assert [row for row in found["fuzz"] if row["findings"]] == []
    assert min(row["inputs"] for row in found["fuzz"]) >= 100_000


def test_every_target_was_fuzzed() -> None:
    from fuzz.targets import targets

    found = json.loads(RECORD.read_text(encoding="utf-8"))
    assert {row["target"] for row in found["fuzz"]} == set(targets())


def test_faults_of_one_kind_are_one_row_that_adds_them_up(script: ModuleType) -> None:
    row = {"kind": "kill", "operations": 6000, "times": 2000, "stopped": 1999, "wrong": ["x"]}
    table = script.tables({"faults": [{"command": "a", **row}, {"command": "b", **row}, {}]})["faults"]
    assert table.splitlines()[2:] == [
        "| killed (`SIGKILL`) before this operation on a file | `a`, `b` | at 4,000 of 12,000 moments | 3,998 | 2 |"
    ]


def test_faults_that_have_no_moment_are_counted_alone(script: ModuleType) -> None:
    row = {"command": "a", "kind": "two at once", "operations": 9, "times": 10, "stopped": 10, "wrong": []}
    assert "| `a` | 10 times | 10 | 0 |" in script.tables({"faults": [row]})["faults"]


def test_a_disk_that_was_large_enough_at_once_is_not_counted_as_tried(script: ModuleType) -> None:
    row = {"kind": "small disk", "operations": 9, "times": 8, "stopped": 8, "wrong": []}
    rows = [{"command": "a", **row}, {"command": "b", **row, "times": 0, "stopped": 0}]
    table = script.tables({"faults": rows})["faults"]
    assert "| `a` | 8 times | 8 | 0 |" in table
    assert "`b`" not in table


@pytest.fixture
def elsewhere(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record and a page of their own; the record."""
    monkeypatch.setattr(script, "RECORD", tmp_path / "reliability.json")
    monkeypatch.setattr(script, "PAGE", tmp_path / "reliability.md")
    (tmp_path / "reliability.md").write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path / "reliability.json"


class World:
    """Two commands of four operations, and what is asked of them."""

    def __init__(self, folder: Path, lab: object, names: Sequence[str], pacs: str) -> None:
        self.scenarios = dict.fromkeys(("first", "second"))
        self.operations = {"first": 4, "second": 4}
        if set(names) - set(self.scenarios):
            raise ValueError("third: no scenario of this name; there are first, second.")

    def faults(self, name: str, kind: str, moments: Sequence[int]) -> Outcome:
        if (name, kind) == ("second", "full"):
            raise KeyboardInterrupt
        return Outcome(name, kind, 4, len(moments), len(moments))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started, and nothing is mounted."""

    def disk(world: World, name: str) -> Outcome:
        raise OSError("not allowed here")

    monkeypatch.setattr(lab, "Lab", lambda folder: nullcontext())
    monkeypatch.setattr(pacs, "is_here", lambda: False)
    monkeypatch.setattr(sweep, "World", World)
    for one in ("on_a_small_disk", "on_a_read_only_disk"):
        monkeypatch.setattr(sweep, one, disk)
    monkeypatch.setattr(
        sweep, "at_once", lambda world, other, name, times: Outcome(name, "two at once", 4, times, times)
    )


@pytest.mark.usefixtures("quick")
def test_a_command_that_is_named_runs_alone_and_all_other_rows_stay(
    script: ModuleType, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"command": "second", "kind": "kill", "operations": 9, "times": 9, "stopped": 9, "wrong": []}
    disk = {**other, "command": "first", "kind": "small disk"}
    damage = [{"file": "x", "times": 1, "refused": 1, "wrong": []}]
    rows = [other, disk, {**other, "command": "first"}]
    elsewhere.write_text(json.dumps({"faults": rows, "damage": damage}))
    monkeypatch.setattr(sys, "argv", ["reliability.py", "faults", "--command", "first", "--every", "3"])
    script.main()
    found = json.loads(elsewhere.read_text())
    assert found["damage"] == damage
    assert found["faults"][:2] == [other, disk]
    fresh = {"command": "first", "kind": "kill", "operations": 4, "times": 2, "stopped": 2, "wrong": [], "every": 3}
    assert found["faults"][2] == fresh
    assert [(row["kind"], row.get("every")) for row in found["faults"][3:]] == [
        ("error", 3), ("full", 3), ("back", 8), ("ahead", 8), ("two at once", None)
    ]  # fmt: skip
    assert "at 11 of 13 moments" in (elsewhere.parent / "reliability.md").read_text()


@pytest.mark.usefixtures("quick")
def test_a_run_that_is_stopped_loses_nothing(
    script: ModuleType, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["reliability.py", "faults", "--command", "first", "--command", "second"])
    with pytest.raises(KeyboardInterrupt):
        script.main()
    rows = json.loads(elsewhere.read_text())["faults"]
    assert [(row["command"], row["kind"]) for row in rows] == [
        *(("first", kind) for kind in (*script.AT_MOMENTS, "two at once")), ("second", "kill"), ("second", "error")
    ]  # fmt: skip


@pytest.mark.usefixtures("quick", "elsewhere")
def test_a_command_that_there_is_not_is_said_with_those_that_there_are(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["reliability.py", "faults", "--command", "third"])
    with pytest.raises(SystemExit, match="--command third: no scenario of this name; there are first, second"):
        script.main()


def test_rows_of_what_there_is_no_more_go(script: ModuleType, elsewhere: Path) -> None:
    row = {"kind": "kill", "operations": 9, "times": 9, "stopped": 9, "wrong": []}
    elsewhere.write_text(json.dumps({"faults": [{"command": "first", **row}, {"command": "gone", **row}]}))
    script._keep_only("faults", {"first"}, "command")
    assert [one["command"] for one in json.loads(elsewhere.read_text())["faults"]] == ["first"]


def test_a_page_without_a_mark_is_left_alone(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match="must hold these two lines once"):
        script.with_tables("# Reliability\n", {"soak": []})
