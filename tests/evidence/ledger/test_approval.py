from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from perdure.errors import LedgerError
from perdure.evidence.gate.verdict import Outcome
from perdure.evidence.ledger.approval import approve
from perdure.evidence.ledger.ledger import Ledger
from perdure.evidence.ledger.verification import verify
from workspaces import DECISIONS, gated, workspace


def test_an_accepted_release_is_approved_by_a_person_once(tmp_path: Path) -> None:
    _, candidate = workspace(tmp_path)
    verdict = gated(tmp_path, candidate)
    entry = approve(tmp_path / "candidate", verdict, "  Dr. Ada \t Lovelace ")
    assert (entry.action, entry.release) == ("approved", candidate.id)
    assert entry.details == {
        "name": "Dr. Ada Lovelace",
        "verdict": hashlib.sha256(verdict.read_bytes()).hexdigest(),
        "decision": "ACCEPT",
        "file": "verdict.json",
    }
    assert approve(tmp_path / "candidate", verdict, "Dr. Ada Lovelace") == entry
    second = approve(tmp_path / "candidate", verdict, "Charles Babbage")
    assert second.number == entry.number + 1
    assert verify(tmp_path).problems == ()


@pytest.mark.parametrize("outcome", ["violated", "undecided", "outside plan"])
def test_any_other_verdict_is_approved_only_with_a_reason_which_is_recorded(tmp_path: Path, outcome: Outcome) -> None:
    _, candidate = workspace(tmp_path)
    verdict = gated(tmp_path, candidate, outcome)
    with pytest.raises(LedgerError, match=f"verdict: found {DECISIONS[outcome]}; only ACCEPT is approved"):
        approve(tmp_path / "candidate", verdict, "A")
    assert Ledger.beside(tmp_path / "base").entries()[-1].action == "gated"
    entry = approve(tmp_path / "candidate", verdict, "A", "the old scanner is gone")
    assert (entry.details["decision"], entry.details["override"]) == (DECISIONS[outcome], "the old scanner is gone")


def test_a_verdict_about_another_release_is_never_approved(tmp_path: Path) -> None:
    base, _ = workspace(tmp_path)
    verdict = gated(tmp_path, base)
    for override in (None, "reason"):
        with pytest.raises(LedgerError, match=rf"candidate: found base \({base.id}\)"):
            approve(tmp_path / "candidate", verdict, "A", override)


def test_a_verdict_that_no_gate_gave_is_refused(tmp_path: Path) -> None:
    _, candidate = workspace(tmp_path)
    verdict = gated(tmp_path, candidate, is_recorded=False)
    with pytest.raises(LedgerError, match="one that the ledger does not know"):
        approve(tmp_path / "candidate", verdict, "A")


@pytest.mark.parametrize("change", [("b" * 64, "d" * 64), ("a" * 64, "e" * 64)])
def test_a_verdict_from_other_scores_or_another_plan_than_the_gate_recorded_is_refused(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    _, candidate = workspace(tmp_path)
    verdict = gated(tmp_path, candidate)
    verdict.write_text(verdict.read_text().replace(*change))
    with pytest.raises(LedgerError, match="one that the ledger does not know"):
        approve(tmp_path / "candidate", verdict, "A")


def test_a_damaged_release_is_not_approved(tmp_path: Path) -> None:
    _, candidate = workspace(tmp_path)
    verdict = gated(tmp_path, candidate)
    (tmp_path / "candidate" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(LedgerError, match=r"weights\.safetensors: content: found SHA-256"):
        approve(tmp_path / "candidate", verdict, "A", "reason")


@pytest.mark.parametrize(("name", "override"), [(" \n", None), ("A", "  ")])
def test_a_name_and_a_reason_are_not_empty(tmp_path: Path, name: str, override: str | None) -> None:
    _, candidate = workspace(tmp_path)
    verdict = gated(tmp_path, candidate)
    with pytest.raises(LedgerError, match="needs the"):
        approve(tmp_path / "candidate", verdict, name, override)


def test_a_verdict_that_was_edited_after_the_gate_is_not_approved(tmp_path: Path) -> None:
    _, candidate = workspace(tmp_path)
    verdict = gated(tmp_path, candidate)
    verdict.write_text(verdict.read_text().replace("Said.", "Superb."))
    with pytest.raises(LedgerError, match="does not know, byte for byte"):
        approve(tmp_path / "candidate", verdict, "Ada")


def test_a_verdict_that_the_gate_has_replaced_is_not_approved(tmp_path: Path) -> None:
    _, candidate = workspace(tmp_path)
    accepted = gated(tmp_path, candidate).rename(tmp_path / "old.json")
    gated(tmp_path, candidate, "violated")
    with pytest.raises(LedgerError, match="one that the gate has replaced, by REJECT"):
        approve(tmp_path / "candidate", accepted, "Ada")
    assert approve(tmp_path / "candidate", accepted, "Ada", override="a slip").action == "approved"


def test_a_verdict_that_was_edited_is_not_approved_for_any_reason_and_verify_names_it(tmp_path: Path) -> None:
    _, candidate = workspace(tmp_path)
    verdict = gated(tmp_path, candidate, "violated", file="verdict.json")
    assert verify(tmp_path).problems == ()
    written = verdict.read_text()
    verdict.write_text(written.replace("Said.", "Superb."))
    with pytest.raises(LedgerError, match="edited after the gate wrote it"):
        approve(tmp_path / "candidate", verdict, "Ada", "the old scanner is gone")
    # as a version before this one recorded it: what was approved is not what the gate wrote
    edited = hashlib.sha256(verdict.read_bytes()).hexdigest()
    Ledger.beside(tmp_path / "base").append(
        "approved", candidate.id, name="Ada", verdict=edited, decision="REJECT", file="verdict.json", override="so"
    )
    (problem,) = verify(tmp_path).problems
    assert (problem.file, problem.field) == (str(verdict), "content")
    verdict.write_text(written)
    assert verify(tmp_path).problems == ()


def test_an_approval_against_the_rule_is_a_note_of_verify(tmp_path: Path) -> None:
    _, candidate = workspace(tmp_path)
    approve(tmp_path / "candidate", gated(tmp_path, candidate, "violated"), "Ada", "the old scanner is gone")
    found = verify(tmp_path)
    assert found.problems == ()
    assert found.notes == ("candidate: approved by Ada on REJECT, against the rule: the old scanner is gone",)
