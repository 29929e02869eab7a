"""Is a workspace as its ledger has it: the chain, every release, and the plans, scores and verdicts beside them?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perdure.errors import EvaluationError, Problem
from perdure.evidence.ledger.ledger import FILE, Entry, Head, Ledger
from perdure.evidence.ledger.workspace import entry_of, files, made, named, release_folders, release_problems
from perdure.release.folder import Folder, sha256
from perdure.release.release import IDENTITY

RECORDED = {"declared": "plan", "evaluated": "scores", "gated": "sha256", "approved": "verdict"}
"""By action, the detail that holds the SHA-256 of the file that the detail `file` names."""


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Args:
        problems: everything that is not as it was written, each with its file.
        notes: what is no problem, and worth knowing.
        head: where the ledger ends, as far as it can be read.
        releases: how many release folders were looked at.
        files: how many files were compared by their hash.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    head: Head
    releases: int
    files: int


def verify(workspace: Path, head: str | None = None) -> Verification:
    """Compares a workspace with its ledger, every byte of it.

    Args:
        workspace: the folder that holds the releases and `ledger.jsonl`.
        head: a hash that was kept elsewhere; the ledger must still hold the entry with it.
    """
    ledger = Ledger(workspace / FILE)
    entries = ledger.readable()
    problems = [*ledger.problems(), *_start(ledger, entries), *_kept(ledger, entries, head)]
    folders = _folders(workspace, entries)
    compared, seen = 0, set()
    for folder in folders:
        entry = entry_of(folder, entries)
        if entry is None:
            allowed = "train, adopt, update or evaluate it here, or take it away"
            problems.append(Problem(str(folder), "release", "one that has no entry in the ledger", allowed))
            continue
        problems += [*release_problems(folder, entry), *_misplaced(folder, entry, entries)]
        compared += len(files(entry))
        seen.add(entry.release)
    other, number = _evidence(workspace, entries)
    other += [_linked(path) for path in (*folders, ledger.path, ledger.head_path) if path.is_symlink()]
    end = Head(entries=len(entries), hash=entries[-1].hash) if entries else Head()
    notes = (*_notes(made(entries).values(), seen), *_overridden(entries))
    return Verification((*problems, *other), notes, end, len(folders), compared + number)


def _start(ledger: Ledger, entries: Sequence[Entry]) -> Iterator[Problem]:
    if not entries and not ledger.path.exists():
        allowed = "the next train, adopt, update or evaluate begins one with what is there"
        yield Problem(str(ledger.path), "file", "none", allowed)


def _kept(ledger: Ledger, entries: Sequence[Entry], head: str | None) -> Iterator[Problem]:
    if head is not None and head.strip().lower() not in {entry.hash for entry in entries}:
        allowed = "the ledger that it was taken from has lost its end, was written anew, or is another one"
        yield Problem(str(ledger.path), f"head {head.strip()}", "no entry with this hash", allowed)


def _folders(workspace: Path, entries: Iterable[Entry]) -> tuple[Path, ...]:
    """Release folders, hidden ones and those that have lost their `release.json` among them."""
    known = {named(workspace, entry.details.get("name")) for entry in made(entries).values()} - {None}
    hidden = {
        path for path in workspace.glob(".*") if (path / IDENTITY).is_file() and not Folder.is_unfinished(path.name)
    }
    return tuple(
        sorted(
            {
                *release_folders(workspace),
                *hidden,
                *(folder for folder in known if folder is not None and folder.is_dir()),
            }
        )
    )


def _misplaced(folder: Path, entry: Entry, entries: Sequence[Entry]) -> Iterator[Problem]:
    """A problem where a folder has the name of another release: every file is whole, and it is the wrong one.

    A copy under a name of its own is none.
    """
    alike = [one for one in made(entries).values() if one.details.get("name") == folder.name]
    is_restored = any(
        one.action == "rolled back" and one.release == entry.release and one.details.get("folder") == folder.name
        for one in entries
    )
    newest = max(alike, key=lambda one: one.number, default=entry)
    if newest.release != entry.release and not is_restored:
        found = f"{entry.details.get('name')} ({entry.release})"
        allowed = f"the ledger has {newest.release} under this name; put every release back in its place"
        yield Problem(str(folder), "release", found, allowed)


def _linked(path: Path) -> Problem:
    return Problem(str(path), "file", "a link", "what it leads to can change without a trace here; put it here itself")


def _evidence(workspace: Path, entries: Sequence[Entry]) -> tuple[list[Problem], int]:
    """What is wrong with plans, scores and verdicts that stand in the workspace, and how many were compared."""
    hashes = _recorded(entries)
    here = {name: named(workspace, name) for name in sorted(hashes)}
    present = {name: sha256(path) for name, path in here.items() if path is not None and path.is_file()}
    problems = [
        Problem(str(workspace / name), "content", f"SHA-256 {found}", f"the ledger has {', '.join(hashes[name])}")
        for name, found in present.items()
        if found not in hashes[name]
    ]
    problems += [_linked(workspace / name) for name in present if (workspace / name).is_symlink()]
    known = {digest for digests in hashes.values() for digest in digests}
    for path in sorted({*workspace.glob("*.parquet")} - {workspace / name for name in present}):
        if sha256(path) not in known and _is_of(path, set(made(entries))):
            allowed = "scores are recorded when they are computed; evaluate again"
            problems.append(Problem(str(path), "scores", "ones that have no entry in the ledger", allowed))
    return problems, len(present)


def _recorded(entries: Iterable[Entry]) -> dict[str, list[str]]:
    """By file name every SHA-256 that the ledger has of it.

    What was approved says what a file should be only where no gate wrote a file of this name: else a verdict that was
    edited and then approved would pass for the gate's own.
    """
    hashes: dict[str, dict[bool, list[str]]] = {}
    for entry in entries:
        name, digest = entry.details.get("file"), entry.details.get(RECORDED.get(entry.action, ""))
        if isinstance(name, str) and isinstance(digest, str):
            hashes.setdefault(name, {}).setdefault(entry.action == "approved", []).append(digest)
    return {name: found.get(False) or found[True] for name, found in hashes.items()}


def _overridden(entries: Sequence[Entry]) -> Iterator[str]:
    """Approvals of a verdict that is not ACCEPT, or not the gate's."""
    names = {release: entry.details.get("name") for release, entry in made(entries).items()}
    for entry in entries:
        if entry.action == "approved" and (reason := entry.details.get("override")):
            who, decision = entry.details.get("name"), entry.details.get("decision")
            yield f"{names.get(str(entry.release))}: approved by {who} on {decision}, against the rule: {reason}"


def _is_of(path: Path, releases: set[str]) -> bool:
    from perdure.evaluation import Scores

    try:
        return any(release.id in releases for release in Scores.read(path).header.releases)
    except EvaluationError:
        return False


def _notes(entries: Iterable[Entry], seen: set[str | None]) -> Iterator[str]:
    for entry in entries:
        name = entry.details.get("name")
        if entry.details.get("found"):
            yield f"{name}: was there when it was first recorded, {entry.time:%Y-%m-%d}; nobody saw it being made."
        if entry.release not in seen:
            yield f"{name}: its folder is not here; it was moved or removed."
