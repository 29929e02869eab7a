"""Which release came from which? The lineage as a graph, parents on the left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from perdure.evidence.report.content import ReleaseFacts
from perdure.evidence.report.svg import COLOURS, Mark, shortened, svg

_WIDTH, _HEIGHT, _ACROSS, _DOWN, _EDGE = 178.0, 62.0, 44.0, 16.0, 6.0


class _Place(NamedTuple):
    """Where a release stands, in boxes from the left and from the top."""

    column: int
    row: int

    @property
    def x(self) -> float:
        return _EDGE + self.column * (_WIDTH + _ACROSS)

    @property
    def y(self) -> float:
        return _EDGE + self.row * (_HEIGHT + _DOWN)


def lineage(found: Sequence[ReleaseFacts], candidate: str) -> Markup:
    """The graph, the candidate marked, dashed what is not in the workspace.

    Args:
        found: every release.
        candidate: the id of the one that is marked.
    """
    by_id, at = {one.id: one for one in found}, _places(found)
    marks: list[Mark] = []
    for one in found:
        if one.parent in at:
            marks.append(_edge(at[one.parent], at[one.id]))
        marks += _box(one, at[one.id], is_marked=one.id == candidate)
    columns, rows = (1 + max((place[axis] for place in at.values()), default=0) for axis in (0, 1))
    return svg(
        "report/free.svg.j2",
        ". ".join(_said(one, by_id, candidate) for one in found),
        marks=marks,
        width=2 * _EDGE + columns * (_WIDTH + _ACROSS) - _ACROSS,
        height=2 * _EDGE + rows * (_HEIGHT + _DOWN) - _DOWN,
    )


def _places(found: Sequence[ReleaseFacts]) -> dict[str, _Place]:
    """A first child stands in the line of its parent, every other one in a line of its own."""
    known = {one.id for one in found}
    at: dict[str, _Place] = {}

    def place(one: ReleaseFacts, column: int, row: int) -> int:
        """The first line that is free below."""
        at[one.id] = _Place(column, row)
        free = row
        for child in [other for other in found if other.parent == one.id]:
            free = place(child, column + 1, free)
        return max(free, row + 1)

    free = 0
    for one in found:
        if one.parent not in known:
            free = place(one, 0, free)
    return at


def _edge(parent: _Place, child: _Place) -> Mark:
    start, middle = parent.x + _WIDTH, child.y + _HEIGHT / 2
    bend = start + _ACROSS / 2
    way = [(start, parent.y + _HEIGHT / 2), (bend, parent.y + _HEIGHT / 2), (bend, middle), (child.x - 1, middle)]
    return Mark("line", "soft", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in way), weight=1.5)


def _box(one: ReleaseFacts, at: _Place, *, is_marked: bool) -> list[Mark]:
    x, y = at.x, at.y
    frame = f"{x},{y} {x + _WIDTH},{y} {x + _WIDTH},{y + _HEIGHT} {x},{y + _HEIGHT} {x},{y}"
    colour, weight, dash = COLOURS[1] if is_marked else "soft", 3 if is_marked else 1.2, "" if one.is_here else "4 3"
    title = f"{one.name} ({one.id[:12]}): learnt {one.domain} by {one.method}"
    lines = ((19, one.name, "ink"), (36, f"learnt {one.domain}", "soft"), (52, f"{one.method} · {one.id[:8]}", "soft"))
    return [
        Mark("line", colour, points=frame, weight=weight, dash=dash),
        *(Mark("text", hue, title, x=x + 9, y=y + down, text=shortened(text, 25)) for down, text, hue in lines),
    ]


def _said(one: ReleaseFacts, by_id: dict[str, ReleaseFacts], candidate: str) -> str:
    origin = f"updated from {by_id[one.parent].name}" if one.parent in by_id else "the first of its line"
    mark = ", which this report is about" if one.id == candidate else ""
    away = "" if one.is_here else ", not in this folder"
    return f"{one.name}{mark}: {origin}, learnt {one.domain} by {one.method}{away}"
