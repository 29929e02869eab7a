"""`perdure verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure.cli import options
from perdure.cli.console import ALTERED, show
from perdure.errors import ConfigurationError


def verify(
    workspace: Annotated[Path, typer.Argument(help="Folder that holds the releases and their ledger.")],
    head: Annotated[
        str | None, typer.Option("--head", help="Hash that `perdure log` printed and somebody kept elsewhere.")
    ] = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Checks that ledger, releases, plans, scores and verdicts of a workspace are what was written.

    Code 7 if anything is not; each such thing is named.

    Example: perdure verify releases
    """
    if not workspace.is_dir():
        raise ConfigurationError(f"{workspace}: is no folder; name the one that holds the releases.")
    from perdure.evidence.ledger.ledger_text import verification_lines, verification_record
    from perdure.evidence.ledger.verification import verify

    found = verify(workspace, head)
    show(verification_record(found), as_json, *verification_lines(found))
    if found.problems:
        raise typer.Exit(ALTERED)
