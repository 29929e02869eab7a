"""A verdict follows from its criteria, in the file as in memory, and in JUnit XML."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from gate_workspace import releases
from perdure.errors import EvaluationError
from perdure.evidence.gate.junit import junit
from perdure.evidence.gate.verdict import Criterion, PlanReference, Verdict


def verdict(*outcomes: str, decision: str, **more: Any) -> Verdict:
    first, parent, candidate = releases()
    criteria = [
        Criterion.model_validate(
            {"name": f"c{place}", "kind": "gain", "outcome": outcome, "reason": "Because <&\x01>."}
        )
        for place, outcome in enumerate(outcomes)
    ]
    return Verdict.model_validate(
        {
            "verdict": decision,
            "plan": PlanReference(name="a <plan>\x00", sha256="0" * 64),
            "candidate": candidate,
            "parent": parent,
            "first": first,
            "criteria": tuple(criteria),
            "scores": ("f" * 64,),
            "created": datetime(2026, 1, 1, tzinfo=UTC),
            **more,
        }
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    made = verdict("met", "undecided", decision="INCONCLUSIVE", first=None)
    made.write(tmp_path / "verdict.json")
    assert Verdict.read(tmp_path / "verdict.json") == made


@pytest.mark.parametrize(
    ("outcomes", "decision"),
    [(("met", "undecided"), "ACCEPT"), (("violated",), "INCONCLUSIVE"), (("met",), "REJECT"), ((), "ACCEPT")],
)
def test_a_decision_that_does_not_follow_from_its_criteria_is_none(outcomes: tuple[str, ...], decision: str) -> None:
    with pytest.raises(ValueError, match="follows|at least 1 item"):
        verdict(*outcomes, decision=decision)


def test_a_file_edited_by_hand_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    verdict("violated", decision="REJECT").write(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "verdict": "ACCEPT"}))
    with pytest.raises(EvaluationError, match="from these criteria follows REJECT, not ACCEPT"):
        Verdict.read(path)
    with pytest.raises(EvaluationError, match="found none"):
        Verdict.read(tmp_path / "none.json")


def test_junit_is_green_exactly_where_all_is_met() -> None:
    suite = ET.fromstring(junit(verdict("met", "violated", "undecided", "outside plan", decision="OUTSIDE PLAN")))  # noqa: S314
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "4",
        "1",
        "2",
        "0",
    )
    results = [[child.tag for child in case] for case in suite.iter("testcase")]
    assert results == [["system-out"], ["failure"], ["error"], ["error"]]
    assert [one.get("type") for one in suite.iter("error")] == ["undecided", "outside plan"]
    green = ET.fromstring(junit(verdict("met", decision="ACCEPT")))  # noqa: S314
    assert (green.get("failures"), green.get("errors")) == ("0", "0")


def test_junit_holds_names_that_xml_cannot() -> None:
    suite = ET.fromstring(junit(verdict("violated", decision="REJECT")))  # noqa: S314
    assert suite.find("testsuite").get("name") == "a <plan>\ufffd"
    assert next(suite.iter("failure")).get("message") == "Because <&\ufffd>."
