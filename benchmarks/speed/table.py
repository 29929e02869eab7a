"""The results as a page: every goal, what was reached, how far it spread, and the command that measures it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from goals import GOALS, PARTS, Goal
from results import Row
from timing import quartiles

HEAD = """# What was reached

<!-- made by `make bench`; do not edit. What the figures mean stands in performance.md -->

Every figure is a ratio of two things that were measured in turns, unless a unit says otherwise: in one process, or
each in one of its own where commands are compared. It is of processor time{clock}; medians and quartiles over so
many repeats. **Bold** is a goal that is not met.
{place}
"""
COLUMNS = "| goal | over what | wanted | reached | quartiles | repeats | remarks | command |"
RULE = "| --- | --- | --- | --- | --- | --- | --- | --- |"
MISSING = "not measured"


def page(rows: Mapping[str, Row], figure: str = "") -> str:
    """The whole page in Markdown.

    Args:
        rows: the newest of each key.
        figure: name of the picture of growth, beside the page; empty where there is none.
    """
    lines = [HEAD.format(clock=_clock(rows.values()), place=_places(rows.values()))]
    for part, title in PARTS.items():
        own = [goal for goal in GOALS if goal.part == part]
        lines += [f"## {title}", "", COLUMNS, RULE, *(line(goal, rows.get(goal.key)) for goal in own), ""]
        if part == "growth" and figure:
            lines += [f"![Seconds and MiB against what was varied, both axes logarithmic]({figure})", ""]
    return "\n".join(lines)


def line(goal: Goal, row: Row | None) -> str:
    """One row of the table."""
    sign = "≤" if goal.sense == "at most" else "≥"
    wanted = "" if goal.wanted is None else f"{sign} {goal.wanted:g} {goal.unit}".strip()
    remarks = "" if row is None else row.found.note
    cells = [goal.what, goal.over, wanted, *_reached(goal, row), remarks, f"`make bench ONLY={goal.key}`"]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _reached(goal: Goal, row: Row | None) -> tuple[str, str, str]:
    """Median, quartiles and repeats."""
    if row is None or not row.found.values:
        return (MISSING if row is None else "—"), "", ""
    low, middle, high = quartiles(row.found.values)
    said = number(middle, goal)
    reached = f"**{said}**" if goal.is_met(middle) is False else said
    repeats = len(row.found.values)
    spread = f"{number(low, goal)} to {number(high, goal)}" if repeats > 1 else ""
    return reached, spread, str(repeats)


def number(value: float, goal: Goal) -> str:
    """A figure with its unit, to three digits; near 1 to a thousandth, because there the goals lie close."""
    if not math.isfinite(value):
        return "no number"
    near_one = 0.95 < abs(value) < 1.1
    said = f"{value:.3f}" if near_one else f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}"
    if abs(value) >= 1000:
        said = f"{value:,.0f}"
    return f"{said} {goal.unit}".strip()


def _clock(rows: Iterable[Row]) -> str:
    return ", on a card the time of day" if any(row.place.device == "cuda" for row in rows) else ""


def _places(rows: Iterable[Row]) -> str:
    """On what all of them were measured: mostly one machine, with some rows of another commit."""
    rows = list(rows)
    if not rows:
        return "\nNothing is measured yet."
    machines = Counter((row.place.machine, row.place.threads) for row in rows)
    versions = Counter(tuple(row.place.versions.items()) for row in rows)
    commits = Counter((row.place.commit, row.form) for row in rows)
    lines = [
        *(
            f"- Machine: {name}; {threads} thread{'s' * (threads > 1)} ({_rows(n)})."
            for (name, threads), n in machines.items()
        ),
        *(
            f"- Versions: {', '.join(f'{name} {found}' for name, found in v)} ({_rows(n)})."
            for v, n in versions.items()
        ),
        *(f"- Commit {name}, form `{form}` ({_rows(n)})." for (name, form), n in commits.items()),
    ]
    return "\n" + "\n".join(lines)


def _rows(number: int) -> str:
    return f"{number} row{'s' * (number != 1)}"


def write(rows: Mapping[str, Row], file: Path) -> None:
    """Writes the page, and its picture beside it where growth was measured."""
    from growth_figure import chart

    picture = file.with_name(f"{file.stem}-growth.svg")
    curves = {key: row.found for key, row in rows.items() if row.found.points}
    if curves:
        picture.write_text(chart(curves), encoding="utf-8")
    file.write_text(page(rows, picture.name if curves else ""), encoding="utf-8")
