from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from command import Command
from perdure.evaluation.evaluate import scored
from perdure.evidence.gate.verdict import Criterion, PlanReference, Verdict
from perdure.evidence.ledger.ledger import Ledger
from perdure.release.folder import sha256
from workspaces import workspace


@pytest.fixture
def verdict(tmp_path: Path) -> Path:
    """An accepted candidate in a workspace, and the verdict about it."""
    _, candidate = workspace(tmp_path)
    given = Verdict.model_validate(
        {
            "verdict": "ACCEPT",
            "plan": PlanReference(name="plan of 2026", sha256="a" * 64),
            "candidate": scored(candidate),
            "parent": None,
            "first": None,
            "criteria": (Criterion(name="floor a", kind="floor", outcome="met", reason="Said."),),
            "scores": ("b" * 64,),
            "created": datetime(2026, 1, 1, tzinfo=UTC),
        }
    )
    given.write(tmp_path / "verdict.json")
    written = {"file": "verdict.json", "sha256": sha256(tmp_path / "verdict.json")}
    Ledger.beside(tmp_path / "base").append(
        "gated", candidate.id, plan="a" * 64, verdict="ACCEPT", scores=["b" * 64], **written
    )
    return tmp_path / "verdict.json"


def test_the_name_can_be_given_where_there_is_no_terminal(command: Command, verdict: Path, tmp_path: Path) -> None:
    ended = command.succeeds("approve", tmp_path / "candidate", "--verdict", verdict, "--name", "Ada Lovelace")
    assert ended.out == f"{tmp_path / 'candidate'} approved by Ada Lovelace.\n"
    record = command.succeeds(
        "approve", tmp_path / "candidate", "--verdict", verdict, "--name", "Ada Lovelace", "--json"
    ).json
    assert (record["action"], record["details"]["name"]) == ("approved", "Ada Lovelace")
    assert Ledger.beside(tmp_path / "base").head().entries == 4


def test_without_a_terminal_and_without_a_name_nothing_is_approved(
    command: Command, verdict: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    ended = command("approve", tmp_path / "candidate", "--verdict", verdict)
    assert (ended.code, "--name: needed where there is no terminal" in ended.err) == (2, True)
    assert Ledger.beside(tmp_path / "base").head().entries == 3


def test_at_a_terminal_the_name_is_typed_after_it_was_said_what_is_approved(
    command: Command, verdict: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def typed(question: str, err: bool) -> str:
        asked.append(question)
        return "Grace Hopper"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", typed)
    ended = command.succeeds("approve", tmp_path / "candidate", "--verdict", verdict)
    assert asked == ["Your name, to approve it"]
    assert "ACCEPT by plan plan of 2026" in ended.err
    assert Ledger.beside(tmp_path / "base").entries()[-1].details["name"] == "Grace Hopper"


def test_what_cannot_be_approved_is_refused_before_anybody_is_asked(
    command: Command, verdict: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: pytest.fail("asked"))
    ended = command("approve", tmp_path / "base", "--verdict", verdict)
    assert (ended.code, "candidate: found candidate" in ended.err) == (1, True)
