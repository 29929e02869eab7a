"""How does the parent of a release come back, bit for bit?"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from perdure.errors import LedgerError, Problem
from perdure.evidence.ledger.ledger import Entry, Ledger
from perdure.evidence.ledger.workspace import entry_of, files, last_word, made, named, release_folders, release_problems
from perdure.release import Folder


def roll_back(folder: Path, out: Path) -> Entry:
    """Copies the parent of a release out of its workspace, and records it in the ledger there.

    Everything is taken from the ledger, so that a release that is damaged itself can be rolled back. A crash between
    the copy and its entry is mended by the same call.

    Args:
        folder: of the release that is given up.
        out: where the parent goes; never overwritten.

    Returns:
        The entry `rolled back`.

    Raises:
        LedgerError: if the ledger does not know the release, it has no parent, or the parent's folder is gone or is
            not what the ledger has.
        FileExistsError: if there is something else at `out`.
    """
    ledger = Ledger.beside(folder)
    with ledger.locked():
        entries = ledger.entries()
        release, parent = _parent(folder, ledger, entries)
        details = {"from": release.release, "to": parent.release, "name": out.absolute().name}
        details |= {"folder": out.name} if out.absolute().parent == ledger.path.parent else {}
        if out.exists() and not _is_whole(out, parent):
            raise FileExistsError(f"{out} exists; nothing is overwritten. Choose another --out, or move it away.")
        if not out.exists():
            _copy(_source(ledger.path.parent, parent, entries), out, parent)
        elif (last := last_word(release.release, entries)) is not None and last.details == details:
            return last
        return ledger.append("rolled back", parent.release, **details)


def _parent(folder: Path, ledger: Ledger, entries: Sequence[Entry]) -> tuple[Entry, Entry]:
    release = entry_of(folder, entries)
    if release is None:
        allowed = "name a release that was made or evaluated in its workspace"
        raise LedgerError(str(Problem(str(ledger.path), f"release {folder.name}", "no entry", allowed)))
    parent = release.details.get("parent")
    if parent is None:
        raise LedgerError(f"{folder}: is a base release; there is none before it to go back to.")
    if str(parent) not in made(entries):
        allowed = "its parent was never in this workspace; roll back where it was updated"
        raise LedgerError(str(Problem(str(ledger.path), f"release {parent}", "no entry", allowed)))
    return release, made(entries)[str(parent)]


def _source(workspace: Path, parent: Entry, entries: Sequence[Entry]) -> Path:
    """A folder of the workspace that holds the parent, every file of it as the ledger has it."""
    own = named(workspace, parent.details.get("name")) or workspace / str(parent.release)
    for folder in dict.fromkeys((own, *release_folders(workspace))):
        if folder.is_dir() and entry_of(folder, entries) == parent and _is_whole(folder, parent):
            return folder
    damage = release_problems(own, parent) if own.is_dir() else ()
    told = "\n".join(map(str, damage)) or f"{own}: there is no such folder, and no other holds the release."
    raise LedgerError(f"The parent {own.name} ({parent.release}) cannot be restored; bring back a copy of it.\n{told}")


def _copy(source: Path, out: Path, parent: Entry) -> None:
    with Folder.being_written(out) as unfinished:
        for name in files(parent):
            shutil.copyfile(source / name, unfinished / name)
        if problems := release_problems(unfinished, parent):
            raise LedgerError("\n".join(map(str, problems)))


def _is_whole(folder: Path, entry: Entry) -> bool:
    return not release_problems(folder, entry)
