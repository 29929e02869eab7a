"""`perdure inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure.cli import options
from perdure.cli.console import show


def inspect(
    what: Annotated[str, typer.Argument(help="A release folder, or: methods, networks.")],
    as_json: options.Json = False,
) -> None:
    """Shows a release as a person would want to read it, or lists methods or networks.

    Example: perdure inspect releases/b
    """
    if what == "methods":
        from perdure.evidence.catalogue import methods_record, methods_table

        show(methods_record(), as_json, methods_table())
    elif what == "networks":
        from perdure.evidence.catalogue import networks_table
        from perdure.models import networks

        show(networks(), as_json, networks_table())
    else:
        from perdure.evidence.release_text import identity_panel, identity_record
        from perdure.release import read_identity

        identity = read_identity(Path(what))
        show(identity_record(identity), as_json, identity_panel(identity, Path(what).name))
