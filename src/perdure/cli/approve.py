"""`perdure approve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from perdure.cli import options
from perdure.cli.console import note, show
from perdure.errors import ConfigurationError


def approve(
    release: Annotated[Path, typer.Argument(help="Release folder.")],
    verdict: Annotated[Path, typer.Option("--verdict", help="What `perdure gate` wrote about it.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Your name, where there is no terminal to type it at.")
    ] = None,
    override: Annotated[
        str | None,
        typer.Option("--override", help="Why it is approved although the verdict is not ACCEPT; it is recorded."),
    ] = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Records that a person approves a release on the verdict of its gate.

    Example: perdure approve releases/b --verdict releases/verdict.json
    """
    from perdure.evidence.ledger.approval import approvable, approve

    _, given = approvable(release, verdict, override)
    if name is None:
        if not sys.stdin.isatty():
            raise ConfigurationError("--name: needed where there is no terminal to type it at.")
        note(f"{release.name} ({given.candidate.id[:12]}): {given.verdict} by plan {given.plan.name}.")
        name = typer.prompt("Your name, to approve it", err=True)
    entry = approve(release, verdict, name, override)
    show(entry.model_dump(mode="json"), as_json, f"{release} approved by {entry.details['name']}.")
