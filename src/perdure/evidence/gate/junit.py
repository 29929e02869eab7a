"""A verdict for machines that read test results: JUnit XML, a test case a criterion."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from perdure.evidence.gate.verdict import Outcome, Verdict

# what is undecided is an error, not skipped: a build server counts skipped tests as passed
_RESULT: dict[Outcome, str] = {"violated": "failure", "outside plan": "error", "undecided": "error"}


def junit(verdict: Verdict) -> bytes:
    """The XML: one suite, named after the plan.

    `violated` is a failure; `undecided` and `outside plan` are errors of that type. So the suite is green exactly where
    the verdict is ACCEPT.
    """
    results = [_RESULT.get(criterion.outcome) for criterion in verdict.criteria]
    counts = {
        "tests": str(len(results)),
        "failures": str(results.count("failure")),
        "errors": str(results.count("error")),
        "skipped": "0",
    }
    suites = ET.Element("testsuites", counts)
    suite = ET.SubElement(
        suites, "testsuite", {"name": _text(verdict.plan.name), "timestamp": f"{verdict.created:%Y-%m-%dT%H:%M:%S}"}
    )
    suite.attrib |= counts
    properties = ET.SubElement(suite, "properties")
    facts = {"verdict": verdict.verdict, "plan": verdict.plan.sha256, "candidate": verdict.candidate.id}
    for name, value in facts.items():
        ET.SubElement(properties, "property", {"name": name, "value": value})
    for criterion, result in zip(verdict.criteria, results, strict=True):
        about = {"classname": f"perdure.gate.{criterion.kind}".replace(" ", "-"), "name": _text(criterion.name)}
        case = ET.SubElement(suite, "testcase", {**about, "time": "0"})
        if result is None:
            ET.SubElement(case, "system-out").text = _text(criterion.reason)
        else:
            said = {"type": criterion.outcome, "message": _text(criterion.reason)}
            ET.SubElement(case, result, said)
    ET.indent(suites)
    return bytes(ET.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _text(text: str) -> str:
    """The text without what XML 1.0 cannot hold; names come from files."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
