"""Where the salt of an import is, and that it stays apart."""

from __future__ import annotations

import os
from pathlib import Path

from perdure.data.content import refusal
from perdure.data.pseudonyms import new_salt, read_salt


def default_salt() -> Path:
    """`$XDG_CONFIG_HOME/perdure/salt`, or `~/.config/perdure/salt`."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "perdure" / "salt"


def opened_salt(path: Path, *folders: Path) -> tuple[bytes, bool]:
    """The salt in a file, made if it is not there, and whether it was made.

    Args:
        path: the file.
        folders: what it must not lie in: whoever has a salt and a manifest can try who is who.

    Raises:
        DataError: it lies in one of them, or is no salt.
    """
    for folder in folders:
        if path.resolve().is_relative_to(folder.resolve()):
            raise refusal(path, f"a salt within {folder}", "keep it apart from images and manifest", "--salt")
    if path.exists():
        return read_salt(path), False
    path.parent.mkdir(parents=True, exist_ok=True)
    return new_salt(path), True
