"""An audit in words and tables, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from perdure.evidence.audit.audit import Audit


MOST_SHOWN = 100
"""Objections; a file that is none may give thousands, which nobody reads and which take minutes to lay out."""


def audit_record(audit: Audit) -> dict[str, Any]:
    """An audit as plain JSON values."""
    return {"is_passed": audit.is_passed, **audit.model_dump(mode="json")}


def audit_renderables(audit: Audit) -> list[RenderableType]:
    """Every objection with what to do, and the verdict in one line."""
    against = [one for one in audit.objections if not one.is_accepted]
    parts: list[RenderableType] = []
    if audit.objections:
        table = Table(title=Text("Objections"), title_justify="left", box=SIMPLE_HEAD)
        for column in ("kind", "file", "field", "found, why, and what to do"):
            table.add_column(column, overflow="fold")
        # those that count first
        for one in sorted(audit.objections, key=lambda one: one.is_accepted)[:MOST_SHOWN]:
            state = " (accepted)" if one.is_accepted else ""
            said = f"{one.found}. {one.why} {one.what_to_do}"
            table.add_row(Text(one.kind + state), Text(one.file), Text(one.field), Text(said))
        parts.append(table)
        if (more_of_them := len(audit.objections) - MOST_SHOWN) > 0:
            parts.append(f"{more_of_them} more objection(s); --json has all.")
    accepted = len(audit.objections) - len(against)
    more = f", {accepted} accepted" if accepted else ""
    if against:
        verdict = f"Not passed: {len(against)} objection(s){more}."
    else:
        verdict = (
            f"Passed: {audit.tensors} tensors, every text and every byte are on the list of what a release may "
            f"hold{more}. What this does not exclude is in docs/audit.md."
        )
    return [*parts, verdict]
