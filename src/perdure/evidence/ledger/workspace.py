"""Which releases stand in a workspace, and is each as the ledger has it?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.errors import Problem
from perdure.evidence.ledger.ledger import FILE, Entry
from perdure.release import Identity
from perdure.release.folder import sha256
from perdure.release.release import IDENTITY

if TYPE_CHECKING:
    from pydantic import JsonValue

MADE = ("trained", "adopted", "updated")
"""The actions that bring a release into being."""
LONGEST_NAME = 255
"""Bytes of a file's name, as most file systems have it."""


def release_folders(workspace: Path) -> tuple[Path, ...]:
    """The folders of a workspace that hold a `release.json`, by name; those still being written are hidden."""
    if not workspace.is_dir():
        return ()
    return tuple(sorted(f for f in workspace.iterdir() if not f.name.startswith(".") and (f / IDENTITY).is_file()))


def made(entries: Iterable[Entry]) -> dict[str, Entry]:
    """The entry that brought each release into being, by its id."""
    return {entry.release: entry for entry in reversed([*entries]) if entry.action in MADE and entry.release}


def last_word(release: str | None, entries: Iterable[Entry]) -> Entry | None:
    """The newest entry that a release was approved, or given up for its parent; None where neither was said."""
    said = [
        entry
        for entry in entries
        if (entry.action == "approved" and entry.release == release)
        or (entry.action == "rolled back" and entry.details.get("from") == release)
    ]
    return said[-1] if said else None


def facts(folder: Path, identity: Identity) -> dict[str, JsonValue]:
    """What the ledger keeps of a release, beside its id: its name, where it comes from, and every file's SHA-256."""
    return {
        "name": folder.absolute().name,
        "domain": identity.domains[-1].domain,
        "method": str(identity.method.get("name", "")),
        "parent": identity.lineage[-1].id if identity.lineage else None,
        "created": identity.created,
        "files": {**identity.files, IDENTITY: sha256(folder / IDENTITY)},
    }


def files(entry: Entry) -> Mapping[str, str]:
    """The SHA-256 of each file of a release, as the entry that brought it into being has it."""
    kept = entry.details.get("files")
    return {name: str(digest) for name, digest in kept.items()} if isinstance(kept, dict) else {}


def entry_of(folder: Path, entries: Iterable[Entry]) -> Entry | None:
    """The entry of the release in a folder: by the id in its `release.json`, else by its other files, else by its name.

    The latter two are for a release that was changed: what it was is still to be known, to say what was changed.
    """
    known = made(entries)
    try:
        content = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("id") in known:
            return known[content["id"]]
    except (OSError, ValueError, RecursionError, TypeError):
        pass  # damaged
    present = {sha256(path) for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()
    alike = [e for e in known.values() if files(e) and len({*files(e).values()} - present) <= 1]
    same_name = [entry for entry in known.values() if entry.details.get("name") == folder.absolute().name]
    return max(alike or same_name, key=lambda entry: entry.number, default=None)


def named(workspace: Path, name: object) -> Path | None:
    """What a ledger calls by a name; None if that is no plain name of a file, for a ledger may come from anywhere."""
    plain = isinstance(name, str) and name == Path(name).name and name not in ("", "..") and "\0" not in name
    return workspace / name if isinstance(name, str) and plain and len(name.encode()) <= LONGEST_NAME else None


def release_problems(folder: Path, entry: Entry) -> tuple[Problem, ...]:
    """Every file of a release folder that is not the one that the ledger has."""
    expected = files(entry)
    where = f"the ledger's entry {entry.number}"
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    problems = [
        Problem(str(folder / name), "file", "one that nobody recorded", f"{where} has no such file")
        for name in sorted(present - expected.keys())
    ]
    for name, digest in expected.items():
        if name not in present:
            problems.append(Problem(str(folder / name), "file", "none", f"{where} has one, SHA-256 {digest}"))
        elif (folder / name).is_symlink():
            allowed = "what it leads to can change without a trace here; put the file here itself"
            problems.append(Problem(str(folder / name), "content", "a link", allowed))
        elif not (folder / name).is_file() or (found := sha256(folder / name)) != digest:
            found = found if (folder / name).is_file() else "no file"
            problems.append(Problem(str(folder / name), "content", f"SHA-256 {found}", f"{where} has {digest}"))
    return tuple(problems)


def workspace_of(path: Path) -> Path:
    """The workspace that a path names: a folder, or the ledger in it."""
    return path.absolute().parent if path.name == FILE or path.is_file() else path.absolute()
