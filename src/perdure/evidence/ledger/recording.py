"""Which entries belong to a release that was made, and to one that was scored?"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from perdure.errors import LedgerError, ReleaseError
from perdure.evaluation import Scores
from perdure.evidence.canonical import canonical
from perdure.evidence.ledger.ledger import Ledger
from perdure.evidence.ledger.workspace import facts, made, release_folders
from perdure.release import Identity, read_identity
from perdure.release.folder import replace_file


def record_release(folder: Path, identity: Identity, *, found: bool = False) -> None:
    """Writes that a release was made, into the ledger beside it, unless that is written there already.

    A ledger that is new begins with the releases that stand there already. They are marked `found`: nobody saw them
    being made.

    Args:
        folder: of the release.
        identity: of the release.
        found: it was there before, and whoever writes did not make it.

    Raises:
        LedgerError: if the ledger is not as it was written, or cannot be written.
    """
    ledger = Ledger.beside(folder)
    if identity.id in made(ledger.entries()):
        return
    with _writing(ledger):
        entries = ledger.entries()
        releases = [] if entries else _others(folder)
        if identity.id not in made(entries):
            releases.append((folder, identity, {"found": True} if found else {}))
        written: set[str] = set()
        for place, one, mark in sorted(releases, key=lambda one: (len(one[1].lineage), one[1].created)):
            if one.id not in written:
                ledger.append(one.origin, one.id, **facts(place, one), **mark)
            written.add(one.id)


def record_scores(
    folders: Mapping[str, Path],
    scores: Scores,
    content: bytes,
    out: Path,
    cases: Mapping[str, str] | None = None,
    **more: Any,
) -> None:
    """Writes a score file, and into the ledger beside each release that it was scored, with each look at a test split.

    The entries come first: a look that is written down and not taken does no harm.

    Args:
        folders: of the releases, by id.
        scores: of them.
        content: of the score file, sealed or not.
        out: where it goes; replaced if it is there.
        cases: by domain a digest of its cases and what is in their files, see `remote.sealing.case_set`; of a domain
            without one the ids of subjects and cases are digested here.
        more: details of each entry `evaluated`.

    Raises:
        LedgerError: if a ledger is not as it was written, or cannot be written.
    """
    header, digest = scores.header, hashlib.sha256(content).hexdigest()
    for release, folder in folders.items():
        ledger = Ledger.beside(folder)
        file = {"file": out.name} if out.absolute().parent == ledger.path.parent else {}
        fixed = {"scores": digest, "split": header.split}
        with _writing(ledger):
            ledger.append("evaluated", release, **fixed, domains=list(header.domains), **file, **more)
            for domain in header.domains if header.split == "test" else ():
                ids = case_ids(scores, release, domain)
                digested = (cases or {}).get(domain) or hashlib.sha256(canonical(ids)).hexdigest()
                ledger.append("looked", release, domain=domain, **fixed, cases=len(ids), case_set=digested)
    replace_file(out, content)


def case_ids(scores: Scores, release: str, domain: str) -> list[tuple[str, str]]:
    """Subject and id of each case that a release was scored on in a domain, in order."""
    rows = scores.table.filter((pl.col("release") == release) & (pl.col("domain") == domain))
    return sorted(set(rows.select("subject", "case").drop_nulls().iter_rows()))


def _others(folder: Path) -> list[tuple[Path, Identity, dict[str, bool]]]:
    """The other releases of a workspace; a damaged one has no entry, which `perdure verify` says."""
    others = []
    for other in release_folders(folder.absolute().parent):
        if other != folder.absolute():
            with suppress(ReleaseError):
                others.append((other, read_identity(other), {"found": True}))
    return others


@contextmanager
def _writing(ledger: Ledger) -> Iterator[None]:
    try:
        with ledger.locked():
            yield
    except PermissionError as error:
        raise _unwritable(ledger, error) from error
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        raise _unwritable(ledger, error) from error


def _unwritable(ledger: Ledger, error: OSError) -> LedgerError:
    return LedgerError(
        f"{ledger.path}: cannot be written ({error.strerror}). What is done to a release is recorded beside it; copy "
        "the release folder to where you may write."
    )
