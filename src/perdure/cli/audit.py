"""`perdure audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure.cli import options
from perdure.cli.console import OBJECTED, fail, show


def audit(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", help="A release folder.")],
    fewest_subjects: Annotated[
        int,
        typer.Option("--min-subjects", min=1, help="A statistic over fewer subjects is an objection."),
    ] = 5,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept", help="FILE:FIELD of an objection that you looked at and let pass. Repeat for several."
        ),
    ] = None,
    trust: options.Trust = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Holds a release against the list of what may be in one, so that no patient data leave with it.

    The exit code is 8 where something else is in it.

    Example: perdure audit releases/b
    """
    from perdure.evidence.audit import audit
    from perdure.evidence.audit.text import audit_record, audit_renderables

    found = audit(release, fewest_subjects=fewest_subjects, trusted=trust or (), accepted=accept or ())
    show(audit_record(found), as_json, *audit_renderables(found))
    if not found.is_passed:
        raise fail(f"{release}: {sum(not one.is_accepted for one in found.objections)} objection(s).", OBJECTED)
