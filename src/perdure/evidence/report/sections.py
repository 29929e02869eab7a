"""Which sections has a report, and what does each say in one line before it is opened?"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.evidence.report.content import Report
from perdure.evidence.text import number, worst_in_words


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Args:
        key: its anchor.
        short: its name in the list of sections.
        title: its heading.
        line: what it says, in one line; or why it is empty.
        is_open: whether it is open at first.
        is_missing: whether there is nothing in it.
    """

    key: str
    short: str
    title: str
    line: str
    is_open: bool = False
    is_missing: bool = False


def sections(report: Report) -> tuple[Section, ...]:
    """All of them, in the order of the page; none is left out because it is empty."""
    return (
        _section(report, "verdict", "Verdict", "Verdict and criteria", _criteria(report), is_open=True),
        _section(report, "domains", "Domains", "Each domain", _domains(report), is_open=True),
        _section(report, "matrix", "Matrix", "Train-test matrix", _matrix(report)),
        _section(
            report, "structures", "Structures", "Each structure", _structures(report), missing=_no_structures(report)
        ),
        _section(report, "cases", "Cases", "Each case", _cases(report), missing=report.missing.get("domains")),
        _section(report, "pictures", "Pictures", "Worst cases in pictures", f"{len(report.shown)} cases in pictures"),
        _section(report, "training", "Training", "Training", f"{len(report.curves)} releases of the line"),
        _section(report, "layers", "Importance", "Importance by layer", report.layers.budget if report.layers else ""),
        _section(report, "features", "Features", "Features in 2-D", f"{len(report.clouds)} figures"),
        _section(
            report,
            "candidates",
            "Candidates",
            "Candidates side by side",
            f"{len(report.candidates)} of the same parent and domain",
        ),
        _section(report, "data", "Data", "Data, counts and hashes", f"{len(_seen(report))} domains learnt"),
        _section(report, "lineage", "Lineage", "Lineage", f"{len(report.lineage)} releases"),
        _section(report, "ledger", "Ledger", "Ledger", _ledger(report)),
        _section(report, "record", "Record", "Change control record", _record(report)),
        _section(report, "limits", "Limits", "Limits of what was shown", f"{len(report.limits)} stated"),
    )


def _section(
    report: Report, key: str, short: str, title: str, line: str, *, is_open: bool = False, missing: str | None = None
) -> Section:
    why = missing or report.missing.get(key)
    return Section(
        key, short, title, f"Not shown: {why}" if why else line, is_open and why is None, is_missing=why is not None
    )


def _criteria(report: Report) -> str:
    if report.verdict is None:
        return ""
    criteria = report.verdict.criteria
    counts = [
        (outcome, sum(one.outcome == outcome for one in criteria))
        for outcome in ("violated", "outside plan", "undecided", "met")
    ]
    return ", ".join(f"{count} {outcome}" for outcome, count in counts if count)


def _domains(report: Report) -> str:
    known = [one for one in report.changes if one.change is not None]
    return ", ".join(f"{one.domain} {number(one.change, signed=True)}" for one in known[:6]) + (
        " …" if len(known) > 6 else ""
    )


def _matrix(report: Report) -> str:
    if report.matrix is None:
        return ""
    kept = report.matrix.summary.remembering
    return f"remembering {number(kept.value if kept else None)}; worst domain: {worst_in_words(report.worst_domain)}"


def _no_structures(report: Report) -> str | None:
    if report.missing.get("domains"):
        return report.missing["domains"]
    return None if report.structures else "the metric is of whole cases, not of structures."


def _structures(report: Report) -> str:
    known = [one for one in report.structures if one.change is not None]
    worst = min(known, key=lambda one: one.change or 0.0, default=None)
    return "" if worst is None else f"worst: {worst.structure} on {worst.domain} {number(worst.change, signed=True)}"


def _cases(report: Report) -> str:
    worse = sum(one.change < 0 for one in report.cases)
    return f"{worse} of {len(report.cases)} cases got worse"


def _seen(report: Report) -> list[object]:
    return list((report.candidate.identity or {}).get("domains", []))


def _ledger(report: Report) -> str:
    if report.ledger_problems:
        return f"{len(report.ledger_problems)} problems found"
    return f"{len(report.ledger)} entries, the chain is whole"


def _record(report: Report) -> str:
    lacking = sum(one.missing is not None for one in report.record)
    return f"{len(report.record)} fields, {lacking} with something to add"
