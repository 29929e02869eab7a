"""`perdure publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure.cli import options
from perdure.cli.console import show


def publish(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", help="A finished release folder.")],
    to: Annotated[str, typer.Option("--to", help="URI of an MLflow server or store.")],
    name: Annotated[str, typer.Option("--name", help="The registered model that it becomes a version of.")],
    verdict: Annotated[
        Path | None, typer.Option("--verdict", help="The gate's verdict about it, as the ledger has it; becomes a tag.")
    ] = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Registers a release as a model version in MLflow, with its training as a run and the verdict as a tag.

    Example: perdure publish releases/b --to http://localhost:5000 --name brains --verdict verdict.json
    """
    from perdure.evidence.publishing import publish

    version = publish(release, to, name, verdict)
    record = {"name": name, "version": version, "to": to}
    show(record, as_json, f"{release} is version {version} of {name} at {to}")
