"""What does a change control record ask for, what of it is here, and what has somebody to add?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perdure.evidence.bill import Difference
from perdure.evidence.report.content import RecordField, ReleaseFacts, Report
from perdure.evidence.report.words import interval_said
from perdure.evidence.text import number, worst_in_words


def record_of(report: Report) -> tuple[RecordField, ...]:
    """The fields that public guidance on change control plans and the life cycle of medical software names."""
    return tuple(_fields(report))


def _fields(report: Report) -> Iterator[RecordField]:
    one, identity = report.candidate, report.candidate.identity or {}
    yield RecordField(name="Identity", found=f"{one.name}, id {one.id}, made {one.created}", section="data")
    yield RecordField(
        name="Hashes",
        found=f"SHA-256 of every file of the candidate "
        f"({len(identity.get('files', {}))}) and of every score file ({len(report.score_files)})",
        section="data",
    )
    yield RecordField(name="Lineage", found=_line(report), section="lineage")
    yield RecordField(name="Change asked for", found=_change(report), section="overview")
    yield _plan(report)
    yield RecordField(
        name="Data by domain",
        found=_data(identity),
        section="data",
        missing=None if identity.get("domains") else "no domain is recorded",
    )
    yield RecordField(
        name="Splits by patient",
        found="Every manifest is refused in which one subject is in two splits.",
        section="data",
    )
    yield RecordField(name="Not accessed", found=not_accessed(one), section="data")
    yield RecordField(name="Method and seeds", found=_method(identity), section="training")
    yield _criteria(report)
    yield RecordField(
        name="Scores and measures",
        found=_measures(report),
        section="matrix",
        missing=None if report.matrix else report.missing.get("matrix"),
    )
    yield RecordField(
        name="Tests",
        found=_tests(report),
        section="domains",
        missing=None if report.changes else report.missing.get("domains"),
    )
    yield _verdict(report)
    yield RecordField(
        name="Impact and risks",
        found=_impact(report),
        section="overview",
        missing="A risk analysis is not made by software: the manufacturer adds it.",
    )
    yield _rollback(report)
    yield RecordField(
        name="Monitoring",
        found=None,
        missing="No plan for monitoring in use is recorded: whoever deploys the release adds it.",
    )
    yield _sign_offs(report)
    yield _ledger(report)
    yield _bill(report)
    yield RecordField(name="Limitations", found=f"{len(report.limits)} stated", section="limits")


def not_accessed(one: ReleaseFacts) -> str:
    """What the update did not read, from the method that its release records."""
    identity = one.identity or {}
    earlier = [seen["domain"] for seen in identity.get("domains", [])][:-1]
    data = identity.get("method", {}).get("data")
    if not earlier:
        return "A base release: there were no earlier domains."
    if data in ("cumulative", "replay"):
        what = "all training data" if data == "cumulative" else "some training cases"
        return f"Nothing was kept back: the method read {what} of {', '.join(earlier)}."
    if data in ("target", "none"):
        return f"Training data of {', '.join(earlier)}: the method ({data} data) does not read earlier domains."
    return "Not known: the release does not say what its method trained on."


def _line(report: Report) -> str:
    by_id = {one.id: one for one in report.lineage}
    line, here = [report.candidate], report.candidate
    while here.parent in by_id:
        here = by_id[here.parent]
        line.append(here)
    return " → ".join(f"{one.name} ({one.id[:12]})" for one in reversed(line))


def _change(report: Report) -> str:
    one = report.candidate
    if one.parent is None:
        return f"A base release on {one.domain}; nothing was changed."
    before = report.parent.name if report.parent else one.parent[:12]
    return f"{before} was updated to domain {one.domain} by {one.method}."


def _plan(report: Report) -> RecordField:
    declared = [entry for entry in report.ledger if entry.action == "declared"]
    said = [
        f"{entry.details.get('name')}, SHA-256 {entry.details.get('plan')}, declared {entry.time:%Y-%m-%d %H:%M} UTC"
        for entry in declared
    ]
    if report.verdict is not None:
        said.insert(0, f"judged by {report.verdict.plan.name}, SHA-256 {report.verdict.plan.sha256}")
    missing = None if declared else "no plan is declared in a ledger of this workspace"
    return RecordField(name="Bounds of the plan", found="; ".join(said) or None, missing=missing, section="verdict")


def _data(identity: dict[str, Any]) -> str | None:
    parts = []
    for seen in identity.get("domains", []):
        counts = "/".join(str(seen["counts"]["subjects"].get(split, 0)) for split in ("train", "val", "test"))
        parts.append(f"{seen['domain']}: {counts} subjects (train/val/test), data {seen['data'][:12]}")
    return "; ".join(parts) or None


def _method(identity: dict[str, Any]) -> str:
    seed = identity.get("recipe", {}).get("seed")
    return f"{identity.get('method', {}).get('name')}; seed {'not recorded' if seed is None else seed}"


def _criteria(report: Report) -> RecordField:
    if report.verdict is None:
        return RecordField(name="Acceptance criteria", found=None, missing=report.missing["verdict"], section="verdict")
    verdict = report.verdict
    declared = next((one for one in verdict.criteria if one.name == "plan declared"), None)
    missing: str | None = "the verdict does not say that this plan was declared before the update was made"
    if declared is not None:
        missing = None if declared.outcome == "met" else declared.reason
    found = f"{len(verdict.criteria)} criteria of {verdict.plan.name}"
    return RecordField(name="Acceptance criteria", found=found, missing=missing, section="verdict")


def _measures(report: Report) -> str | None:
    if report.matrix is None:
        return None
    summary = report.matrix.summary
    worst = worst_in_words(summary.worst_domain)
    kept = number(summary.remembering.value if summary.remembering else None)
    return f"{report.metric} on {report.split}; remembering {kept}; worst domain: {worst}"


def _tests(report: Report) -> str | None:
    said = [f"{one.domain}: {interval_said(one.interval)}" for one in report.changes if one.interval is not None]
    return "; ".join(said) or None


def _verdict(report: Report) -> RecordField:
    if report.verdict is None:
        return RecordField(name="Verdict", found=None, missing=report.missing["verdict"], section="verdict")
    notes = "; ".join(report.verdict_notes) or None
    return RecordField(name="Verdict", found=report.verdict.verdict, missing=notes, section="verdict")


def _impact(report: Report) -> str | None:
    lost = [one for one in report.changes if one.role != "new" and (one.change or 0) < 0]
    return "; ".join(f"{one.domain} changed by {number(one.change, signed=True)}" for one in lost) or None


def _rollback(report: Report) -> RecordField:
    done = [entry for entry in report.ledger if entry.action == "rolled back"]
    said = [f"rolled back {entry.time:%Y-%m-%d %H:%M} UTC" for entry in done]
    missing = None
    if report.parent is not None and report.parent.is_here:
        said.insert(0, f"{report.parent.name} stands in the workspace, every file with the SHA-256 it was written with")
    elif report.candidate.parent is not None:
        missing = "the parent is not in this workspace, so that nothing is here to go back to"
    return RecordField(name="Rollback", found="; ".join(said) or None, missing=missing, section="lineage")


def _sign_offs(report: Report) -> RecordField:
    approved = [entry for entry in report.ledger if entry.action == "approved"]
    said = [
        f"{entry.details.get('name')}, {entry.time:%Y-%m-%d %H:%M} UTC"
        for entry in approved
        if entry.release == report.candidate.id
    ]
    missing = None if said else "nobody has approved this release in a ledger of this workspace"
    return RecordField(name="Sign-offs", found="; ".join(said) or None, missing=missing, section="ledger")


def _ledger(report: Report) -> RecordField:
    if not report.ledger and not report.ledger_problems:
        return RecordField(name="Log", found=None, missing=report.missing["ledger"], section="ledger")
    found = f"{len(report.ledger)} entries, each with the hash of the one before" if report.ledger else None
    return RecordField(name="Log", found=found, missing="; ".join(report.ledger_problems) or None, section="ledger")


def _bill(report: Report) -> RecordField:
    bill = report.bill
    found = f"{bill.components} distributions, CycloneDX, SHA-256 {bill.sha256}, beside this report"
    missing = [f"{said(one)} made the release" for one in bill.release]
    missing += [f"{said(one)} is pinned" for one in bill.pins or ()]
    return RecordField(name="Bill of materials", found=found, missing="; ".join(missing) or None, section="data")


def said(one: Difference) -> str:
    """A difference in words, up to what is expected."""
    here = "is not installed" if one.installed is None else f"{one.installed} is installed"
    return f"{one.name} {here} and {one.expected}"
