"""`perdure key`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure.cli import options
from perdure.cli.console import show


def key(
    out: Annotated[Path, typer.Option("--out", help="File of the private key; its salt and public key stand beside.")],
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Makes the key that a site signs its scores with, and the salt that hides its case ids.

    Example: perdure key --out site-a.key
    """
    from perdure.evidence.remote.signing import fingerprint, new_key, public_path, salt_path

    record = {"fingerprint": fingerprint(new_key(out)), "public": str(public_path(out)), "salt": str(salt_path(out))}
    show(
        record,
        as_json,
        f"{out} and {salt_path(out)} stay here, safe: without them later scores pair with none of the earlier ones.",
        f"{public_path(out)} goes to whoever is to believe this site. Fingerprint: {record['fingerprint']}",
    )
