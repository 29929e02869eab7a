"""`perdure rollback`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure.cli import options
from perdure.cli.console import show


def rollback(
    release: Annotated[Path, typer.Argument(help="Release folder that is given up, in its workspace.")],
    out: Annotated[Path, typer.Option("--out", help="Where its parent is restored; never overwritten.")],
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Restores the parent of a release bit for bit, checked against the ledger, and records it there.

    Example: perdure rollback releases/b --out deployed
    """
    from perdure.evidence.ledger.restoring import roll_back

    entry = roll_back(release, out)
    show(entry.model_dump(mode="json"), as_json, f"Parent of {release} restored to {out}")
