"""A verdict in words and a table for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from perdure.evidence.gate.comparisons import undecided_needs
from perdure.evidence.gate.verdict import Criterion, Verdict
from perdure.evidence.text import number

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {"met": "green", "violated": "bold red", "undecided": "bold yellow", "outside plan": "bold red"}
_INFERRED = ("non-inferiority", "gain", "drift")


def verdict_renderables(verdict: Verdict) -> list[RenderableType]:
    """The decision first, then what is not met with its reason, then every comparison."""
    head = Text(f"{verdict.verdict}: {verdict.candidate.name}, by plan {verdict.plan.name}\n", style="bold")
    shown: list[RenderableType] = [head]
    for criterion in sorted(verdict.criteria, key=lambda one: one.outcome != "outside plan"):
        if criterion.outcome != "met":
            line = Text(f"{criterion.outcome}: ", style=_STYLES[criterion.outcome])
            whose = f" It is {criterion.subject}." if criterion.subject else ""
            shown.append(line.append(f"{criterion.name}. {criterion.reason}{whose}", style="not bold"))
    needed = undecided_needs(verdict.criteria)
    if verdict.verdict == "INCONCLUSIVE" and needed is not None:
        shown.append(Text(f"Some {needed} test subjects a domain would do, if they are like those seen."))
    compared = [criterion for criterion in verdict.criteria if criterion.kind in _INFERRED]
    met = sum(criterion.outcome == "met" for criterion in verdict.criteria)
    return [*shown, _table(compared), Text(f"{met} of {len(verdict.criteria)} criteria met.")]


def _table(criteria: list[Criterion]) -> Table:
    table = Table("criterion", title=Text("Changes, candidate less the other release"), box=SIMPLE_HEAD)
    table.title_justify = "left"
    for name in ("change", "interval", "bound", "subjects", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("outcome")
    for one in criteria:
        ends = "–" if one.low is None else f"{number(one.low, signed=True)} to {number(one.high, signed=True)}"
        p = "–" if one.adjusted_p is None else "< 0.001" if one.adjusted_p < 0.001 else number(one.adjusted_p)
        cells = [number(one.estimate, signed=True), ends, number(one.bound, signed=True), str(one.n or "–"), p]
        table.add_row(Text(one.name), *cells, Text(one.outcome, style=_STYLES[one.outcome]))
    return table
