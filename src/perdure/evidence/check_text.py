"""What `perdure check` found, in words and tables, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from perdure.evaluation.shift_of_scans import Shifts
    from perdure.evidence.advice import Advice, Suggestion

MOST = 8
"""Layers that are shown: those that are furthest."""

_TO_DO: dict[Suggestion, str] = {
    "nothing": "Nothing: use the release as it is.",
    "recalibrate": "Estimate the statistics anew on these scans (perdure.models.recalibrate); labels are not needed. "
    "Label a few all the same, and see whether the score is good enough.",
    "update": "Label a few of these scans and update the release (perdure update).",
    "label and evaluate": "Label a few of these scans and score the release on them (perdure evaluate): without labels "
    "nobody can tell.",
    "do not use": "Do not use this release on these scans: they are not of the kind that it is for.",
}


def check_record(shifts: Shifts, advice: Advice) -> dict[str, Any]:
    """Shift and advice as plain JSON values."""
    return {**advice.model_dump(mode="json"), "shift": shifts.model_dump(mode="json")}


def check_renderables(shifts: Shifts, advice: Advice) -> list[RenderableType]:
    """The verdict, why, what to do, and the layers that are furthest."""
    said: list[RenderableType] = [f"{advice.state}: {' '.join(advice.reasons)}", _TO_DO[advice.suggestion]]
    if shifts.domains and (nearest := shifts.domains[0]).layers:
        rows = sorted(nearest.layers, key=lambda one: -one.distance)[:MOST]
        rows += [nearest.intensities] if nearest.intensities else []
        title = f"Furthest layers, of {len(nearest.layers)}, from {nearest.like}; {shifts.subjects} subject(s)"
        table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
        table.add_column("layer")
        table.add_column("distance", justify="right")
        table.add_column("p, uncorrected", justify="right")
        for one in rows:
            table.add_row(Text(one.layer), f"{one.distance:.2f}", "–" if one.p is None else f"{one.p:.2g}")
        said.append(table)
    return [*said, *(f"refused: {reason}" for reason in shifts.refused.values())]
