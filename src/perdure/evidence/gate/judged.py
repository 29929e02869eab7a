"""What a gate looks at: score files with their hashes, the candidate, and the releases it is compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.errors import EvaluationError, Problem
from perdure.evaluation import ScoredRelease, Scores, union

if TYPE_CHECKING:
    from perdure.evidence.gate.plan import PlanFile
    from perdure.evidence.ledger.ledger import Entry
    from perdure.release import Identity


@dataclass(frozen=True)
class HashedScores:
    """The scores of one file and the hash of its bytes.

    Args:
        scores: every row was checked.
        sha256: of the file.
    """

    scores: Scores
    sha256: str

    @classmethod
    def read(cls, path: Path) -> HashedScores:
        """Reads a score file once, so that what is hashed is what is judged.

        Raises:
            EvaluationError: as `Scores.read`.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            found = f"none ({error.strerror})"
            raise EvaluationError(str(Problem(str(path), "file", found, "name a score file"))) from error
        return cls(Scores.parsed(content, str(path)), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Judged:
    """All that the criteria of a plan are about.

    Args:
        plan: the plan and its hash.
        files: the score files.
        scores: all of them as one.
        candidate: the release that is judged.
        parent: what it was updated from; None where the scores do not have it.
        first: the first release of its line, likewise.
        identity: what the candidate's folder says of it; None where the folder is not here. Where it is, it says which
            release is the parent, which the first, and which domain is new.
        entries: of the ledger.
        alike: by domain the ids of earlier releases that predict it with the very tensors of the candidate.
    """

    plan: PlanFile
    files: tuple[HashedScores, ...]
    scores: Scores
    candidate: ScoredRelease
    parent: ScoredRelease | None
    first: ScoredRelease | None
    identity: Identity | None
    entries: tuple[Entry, ...]
    alike: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def domain(self) -> str:
        """The domain that the candidate learnt last."""
        return self.candidate.domain if self.identity is None else self.identity.domains[-1].domain

    @property
    def is_update(self) -> bool:
        """Whether the candidate has a parent at all."""
        return bool(self.identity.lineage) if self.identity is not None else self.candidate.parent is not None

    @property
    def ancestors(self) -> frozenset[str]:
        """The ids of the releases that the candidate comes from, as far as they are known."""
        known = {release.id: release for release in self.scores.header.releases}
        found = set() if self.identity is None else {one.id for one in self.identity.lineage}
        parent = self.candidate.parent
        while parent is not None and parent not in found:
            found.add(parent)
            parent = known[parent].parent if parent in known else None
        return frozenset(found)

    def had_learnt(self, domain: str) -> str | None:
        """The id of the ancestor that had just learnt a domain; that of the first release where none is known to."""
        known = {release.id: release.domain for release in self.scores.header.releases}
        if self.identity is not None:
            known |= {one.id: one.domain for one in self.identity.lineage}
        found = [release for release in self.ancestors if known.get(release) == domain]
        return found[0] if len(found) == 1 else None if self.first is None else self.first.id

    @property
    def foreground(self) -> tuple[str, ...]:
        """The structures of a segmentation without background; none of a classification."""
        header = self.scores.header
        return header.structures[1:] if header.task == "segmentation" else ()


def judged(
    plan: PlanFile,
    files: Sequence[HashedScores],
    entries: Sequence[Entry],
    *,
    candidate: str | None = None,
    identity: Identity | None = None,
    alike: Mapping[str, frozenset[str]] | None = None,
) -> Judged:
    """Finds the candidate among the scores, and what it is compared with.

    Args:
        plan: to judge by.
        files: score files of one split; together they have the candidate, its parent and the first release.
        entries: of the ledger.
        candidate: name or id; without it, the only release that no other was updated from.
        identity: of the candidate, see `Judged`.
        alike: likewise.

    Raises:
        EvaluationError: if the files contradict each other, or it is not clear which release is the candidate.
    """
    scores = judged_scores(files)
    releases = scores.header.releases
    chosen = candidate_of(scores, candidate)
    known = {release.id: release for release in releases}
    if identity is not None:
        # every file of the release folder was hashed; a score file may say of a release what it likes
        line = [one.id for one in identity.lineage] or [""]
        parent, first = known.get(line[-1]), known.get(line[0])
    else:
        first = parent = known.get(chosen.parent or "")
        while first is not None and first.parent is not None:
            first = known.get(first.parent)
    return Judged(plan, tuple(files), scores, chosen, parent, first, identity, tuple(entries), alike or {})


def judged_scores(files: Sequence[HashedScores]) -> Scores:
    """All score files as one; see `union`."""
    return union([file.scores for file in files])


def candidate_of(scores: Scores, wanted: str | None = None) -> ScoredRelease:
    """The release that is judged.

    Args:
        scores: of it and others.
        wanted: its name or id; without it, the only release that no other was updated from.

    Raises:
        EvaluationError: if there is no such release, or more than one.
    """
    releases = scores.header.releases
    parents = {release.parent for release in releases}
    if wanted is None:
        found = [release for release in releases if release.id not in parents]
    else:
        found = [release for release in releases if wanted in (release.id, release.name)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{release.name} ({release.id[:12]})" for release in found or releases)
    stands = f"{len(found)} that it may be: {names}" if found else f"none of this name among {names}"
    allowed = "name one release by its name or id (--candidate)"
    raise EvaluationError(str(Problem(scores.source, "candidate", stands, allowed)))
