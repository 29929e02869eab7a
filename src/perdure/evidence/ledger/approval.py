"""Who approved a release, on what verdict?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from perdure.errors import LedgerError, Problem
from perdure.evidence.gate.verdict import Verdict
from perdure.evidence.ledger.ledger import Entry, Ledger
from perdure.evidence.ledger.workspace import entry_of, last_word, release_problems
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
    gates = [entry for entry in entries if entry.action == "gated"]
    _check_is_unchanged(verdict, folder, gates)
    if override is not None:
        return release, given
    if given.verdict != "ACCEPT":
        raise _refused(
            verdict, "verdict", given.verdict, "only ACCEPT is approved, or --override REASON, for the record"
        )
    check_is_of_the_gate(verdict, given, gates, "or --override REASON, for the record")
    return release, given


def check_is_of_the_gate(file: Path, verdict: Verdict, entries: Iterable[Entry], otherwise: str = "") -> None:
    """Passes if a verdict is, byte for byte, the newest one that the gate gave of its candidate.

    Args:
        file: that holds it.
        verdict: what it says.
        entries: of the ledger beside the release.
        otherwise: what else may be done.

    Raises:
        LedgerError: if it is not.
    """
    allowed = ", ".join(filter(None, ["gate the release in this workspace", otherwise]))
    gates = [entry for entry in entries if entry.action == "gated" and entry.release == verdict.candidate.id]
    if not any(_gave(entry, verdict, file) for entry in gates):
        raise _refused(file, "verdict", "one that the ledger does not know, byte for byte, from the gate", allowed)
    if not _gave(gates[-1], verdict, file):
        replaced = f"one that the gate has replaced, by {gates[-1].details.get('verdict')}"
        raise _refused(file, "verdict", replaced, allowed)


def _check_is_unchanged(verdict: Path, folder: Path, gates: Iterable[Entry]) -> None:
    """Passes unless a gate wrote this file of the workspace, and it holds something else now."""
    if verdict.absolute().parent != folder.absolute().parent:
        return
    written = [entry.details.get("sha256") for entry in gates if entry.details.get("file") == verdict.name]
    if written and sha256(verdict) not in written:
        allowed = "it was edited after the gate wrote it, which no reason makes up for; gate the release again"
        raise _refused(verdict, "content", f"SHA-256 {sha256(verdict)}", allowed)


def approve(folder: Path, verdict: Path, name: str, override: str | None = None) -> Entry:
    """Records that a person approved a release; once, however often it is said in a row.

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
        last = last_word(release.release, ledger.entries())
        if last is not None and last.details == details:
            return last
        return ledger.append("approved", release.release, **details)


def _gave(entry: Entry, verdict: Verdict, file: Path) -> bool:
    """Whether an entry is that of the gate that wrote this very file."""
    said = (entry.details.get("plan"), entry.details.get("verdict"), entry.details.get("sha256"))
    return said == (verdict.plan.sha256, verdict.verdict, sha256(file))


def _refused(path: Path, field: str, found: str, allowed: str) -> LedgerError:
    return LedgerError(str(Problem(str(path), field, found, allowed)))
