"""`perdure log`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure.cli import options
from perdure.cli.console import show
from perdure.errors import ConfigurationError


def log(
    workspace: Annotated[Path, typer.Argument(help="Folder that holds the releases, or the ledger in it.")],
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Shows what was done to the releases of a workspace, and the head of its ledger.

    Example: perdure log releases
    """
    from perdure.evidence.ledger.ledger import FILE, Ledger
    from perdure.evidence.ledger.ledger_text import entries_table, head_sentence

    ledger = Ledger(workspace / FILE if workspace.is_dir() else workspace)
    if not ledger.path.exists() and not ledger.head_path.exists():
        raise ConfigurationError(f"{ledger.path}: there is no ledger; name a folder with releases made by perdure.")
    entries, head = ledger.entries(), ledger.head()
    record = {"entries": [entry.model_dump(mode="json") for entry in entries], "head": head.model_dump()}
    show(record, as_json, entries_table(entries), head_sentence(head))
