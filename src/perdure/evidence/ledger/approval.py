"""Who approved a release, on what verdict?"""

from __future__ import annotations

from pathlib import Path

from perdure.errors import LedgerError, Problem
from perdure.evidence.gate.verdict import Verdict
from perdure.evidence.ledger.ledger import Entry, Ledger
from perdure.evidence.ledger.workspace import entry_of, release_problems
from perdure.release.folder import sha256


def approvable(folder: Path, verdict: Path, override: str | None = None) -> tuple[Entry, Verdict]:
    """The release and the verdict, once it is sure that the one may be approved on the other.

    Args:
        folder: of the release.
        verdict: the file that `perdure gate` wrote.
        override: why it may be approved although the verdict is not ACCEPT, or not in the ledger.

    Raises:
        LedgerError: if the release is not as the ledger has it, or the verdict is about another, is not ACCEPT, or
            was given by no gate that the ledger knows.
    """
    entries = Ledger.beside(folder).entries()
    release = entry_of(folder, entries)
    if release is None:
        raise _refused(folder, "release", "no entry in the ledger beside it", "evaluate it in its workspace first")
    if problems := release_problems(folder, release):
        raise LedgerError("\n".join(map(str, problems)))
    given = Verdict.read(verdict)
    if given.candidate.id != release.release:
        allowed = f"the release to approve is {folder.name} ({release.release}); gate that"
        raise _refused(verdict, "candidate", f"{given.candidate.name} ({given.candidate.id})", allowed)
    if override is not None:
        return release, given
    if given.verdict != "ACCEPT":
        raise _refused(
            verdict, "verdict", given.verdict, "only ACCEPT is approved, or --override REASON, for the record"
        )
    allowed = "gate the release in this workspace, or --override REASON, for the record"
    gates = [entry for entry in entries if entry.action == "gated" and entry.release == release.release]
    if not any(_gave(entry, given, verdict) for entry in gates):
        raise _refused(verdict, "verdict", "one that the ledger does not know, byte for byte, from the gate", allowed)
    if not _gave(gates[-1], given, verdict):
        replaced = f"one that the gate has replaced, by {gates[-1].details.get('verdict')}"
        raise _refused(verdict, "verdict", replaced, allowed)
    return release, given


def approve(folder: Path, verdict: Path, name: str, override: str | None = None) -> Entry:
    """Records that a person approved a release; once, however often it is said.

    Args:
        folder: of the release.
        verdict: the file that `perdure gate` wrote.
        name: of the person, as it was typed.
        override: see `approvable`.

    Raises:
        LedgerError: as `approvable`, or if there is no name or reason.
    """
    name = " ".join(name.split())
    if not name:
        raise LedgerError("An approval needs the name of a person; type it, or give --name.")
    if override is not None and not override.strip():
        raise LedgerError("--override needs the reason; it goes into the ledger.")
    ledger = Ledger.beside(folder)
    with ledger.locked():
        release, given = approvable(folder, verdict, override)
        details = {"name": name, "verdict": sha256(verdict), "decision": given.verdict}
        details |= {"file": verdict.name} if verdict.absolute().parent == ledger.path.parent else {}
        details |= {"override": override.strip()} if override is not None else {}
        said = [e for e in ledger.entries() if e.action == "approved" and e.release == release.release]
        if before := [entry for entry in said if entry.details == details]:
            return before[-1]
        return ledger.append("approved", release.release, **details)


def _gave(entry: Entry, verdict: Verdict, file: Path) -> bool:
    """Whether an entry is that of the gate that wrote this very file."""
    said = (entry.details.get("plan"), entry.details.get("verdict"), entry.details.get("sha256"))
    return said == (verdict.plan.sha256, verdict.verdict, sha256(file))


def _refused(path: Path, field: str, found: str, allowed: str) -> LedgerError:
    return LedgerError(str(Problem(str(path), field, found, allowed)))
