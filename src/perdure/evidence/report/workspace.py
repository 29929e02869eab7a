"""What stands in a workspace? Releases, scores, verdict and ledger, each checked as it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from perdure.errors import EvaluationError, LedgerError, Problem, ReleaseError
from perdure.evaluation import Scores, union
from perdure.evidence.gate.verdict import Verdict
from perdure.evidence.ledger.ledger import FILE as LEDGER
from perdure.evidence.ledger.ledger import Entry, Ledger
from perdure.evidence.ledger.verification import verify
from perdure.evidence.ledger.workspace import release_folders
from perdure.evidence.report.content import ScoreFile
from perdure.release.folder import sha256
from perdure.release.release import IDENTITY, read_identity
from perdure.types import Split

if TYPE_CHECKING:
    from perdure.release import Identity

VERDICT = "verdict.json"
UNNAMED = "the reason may name a subject, and subjects are left out here; make the report with them to read it"
"""Stands where the words of an error would."""


@dataclass(frozen=True)
class Found:
    """One whole release.

    Args:
        path: its folder.
        identity: what it says about itself; every file of it has the hash that stands there.
    """

    path: Path
    identity: Identity

    @property
    def id(self) -> str:
        """Its id."""
        return self.identity.id

    @property
    def parent(self) -> str | None:
        """The id of its parent; None for a base release."""
        return self.identity.lineage[-1].id if self.identity.lineage else None


@dataclass(frozen=True)
class Workspace:
    """A folder that holds releases of one line side by side, and the records beside them.

    Args:
        folder: the workspace.
        releases: by id, the oldest first.
        refused: folders that look like a release and are none, with the reason.
        scores: all score files of one split as one; None where there are none.
        score_files: what became of each of them.
        verdict: of the gate; None where there is none.
        verdict_sha256: of its file.
        entries: of the ledger; empty where there is none, or where its chain is broken.
        ledger_problems: what in the workspace is not as the ledger has it; see `evidence.verification.verify`.
    """

    folder: Path
    releases: Mapping[str, Found]
    refused: Mapping[str, str]
    scores: Scores | None
    score_files: tuple[ScoreFile, ...]
    verdict: Verdict | None
    verdict_sha256: str | None
    entries: tuple[Entry, ...]
    ledger_problems: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path, *, scores: Sequence[Path] = (), verdict: Path | None = None) -> Workspace:
        """Reads all of it.

        Args:
            folder: the workspace.
            scores: score files; without any, every Parquet file in the workspace.
            verdict: what the gate wrote; without it, `verdict.json` in the workspace if there is one.

        Raises:
            EvaluationError: if there is no whole release, or score files contradict each other.
        """
        releases, refused = _releases(folder)
        judged = verdict or next((path for path in sorted(folder.glob("*.json")) if path.name.lower() == VERDICT), None)
        found = None if judged is None else Verdict.read(judged)
        joined, files = _scores(folder, scores, () if found is None else found.scores)
        entries, problems = _ledger(folder / LEDGER)
        return cls(
            folder=folder,
            releases=releases,
            refused=refused,
            scores=joined,
            score_files=files,
            verdict=found,
            verdict_sha256=None if judged is None else sha256(judged),
            entries=entries,
            ledger_problems=problems,
        )

    def candidate(self, wanted: str | None = None) -> Found:
        """The release that a report is about.

        Args:
            wanted: the name of its folder, or its id; without it, the one that the verdict judges, else the newest of
                those that no other was updated from.

        Raises:
            EvaluationError: if there is no such release.
        """
        if wanted is not None:
            for found in self.releases.values():
                if wanted in (found.id, found.path.name):
                    return found
            names = ", ".join(found.path.name for found in self.releases.values())
            raise EvaluationError(str(Problem(str(self.folder), "release", wanted, f"must be one of: {names}")))
        if self.verdict is not None and self.verdict.candidate.id in self.releases:
            return self.releases[self.verdict.candidate.id]
        parents = {found.parent for found in self.releases.values()}
        return [found for found in self.releases.values() if found.id not in parents][-1]


def without_names(workspace: Workspace) -> Workspace:
    """The same, with fixed words where those of an error could hold a line of a file, and in it a subject.

    Only a score file that could not be read has no split.
    """
    files = [one if one.split else one.model_copy(update={"reason": UNNAMED}) for one in workspace.score_files]
    return replace(
        workspace,
        refused=dict.fromkeys(workspace.refused, UNNAMED),
        score_files=tuple(files),
        ledger_problems=(f"not as the ledger has it: {UNNAMED}",) * len(workspace.ledger_problems),
    )


def _releases(folder: Path) -> tuple[dict[str, Found], dict[str, str]]:
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: there is no such folder; name the one that holds the releases.")
    if (folder / IDENTITY).is_file():
        raise EvaluationError(f"{folder}: is one release; name the folder that holds it, {folder.absolute().parent}.")
    whole, refused = [], {}
    for path in release_folders(folder):
        try:
            whole.append(Found(path, read_identity(path)))
        except ReleaseError as error:
            refused[path.name] = str(error)
    if not whole:
        why = f" ({'; '.join(refused.values())})" if refused else ""
        raise EvaluationError(f"{folder}: holds no whole release{why}; name the folder that holds the releases.")
    whole.sort(key=lambda one: (len(one.identity.lineage), one.identity.created))
    return {one.id: one for one in whole}, refused


def _scores(folder: Path, named: Sequence[Path], judged: Sequence[str]) -> tuple[Scores | None, tuple[ScoreFile, ...]]:
    """The files that were named, or else all of the workspace; of several splits the one that was judged, or test."""
    read: list[tuple[Path, str, Scores]] = []
    files: list[ScoreFile] = []
    for path in named or sorted(folder.glob("*.parquet")):
        try:
            read.append((path, sha256(path) if path.is_file() else "", Scores.read(path)))
        except EvaluationError as error:
            if named:
                raise
            files.append(ScoreFile(name=path.name, sha256=sha256(path), split=None, used=False, reason=str(error)))
    if not read:
        return None, tuple(files)
    split = _split(read, judged)
    for path, digest, scores in read:
        found = scores.header.split
        reason = None if found == split else f"it scores the {found} split; the report is on {split}"
        used = found == split
        files.append(ScoreFile(name=path.name, sha256=digest, split=found, used=used, reason=reason))
    return union([scores for *_, scores in read if scores.header.split == split]), tuple(files)


def _split(read: Sequence[tuple[Path, str, Scores]], judged: Sequence[str]) -> Split:
    found = {scores.header.split for _, digest, scores in read if digest in judged}
    found = found or {scores.header.split for *_, scores in read}
    return next(split for split in reversed(get_args(Split)) if split in found)


def _ledger(path: Path) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    if not path.is_file():
        return (), ()
    problems = tuple(str(problem) for problem in verify(path.parent).problems)
    try:
        return Ledger(path).entries(), problems
    except LedgerError as error:
        return (), problems or (str(error),)
