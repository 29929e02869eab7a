"""May this candidate replace its parent, by the plan that was fixed beforehand?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.evidence.gate.comparisons import comparisons
from perdure.evidence.gate.conformity import conformity
from perdure.evidence.gate.floors import floors
from perdure.evidence.gate.judged import HashedScores, judged
from perdure.evidence.gate.verdict import PlanReference, Verdict, decision
from perdure.evidence.ledger.workspace import release_folders
from perdure.release import Identity, read_identity
from perdure.release.folder import sha256

if TYPE_CHECKING:
    from perdure.evidence.gate.plan import PlanFile
    from perdure.evidence.ledger.ledger import Entry, Ledger


def gate(
    plan: PlanFile,
    scores: Sequence[HashedScores],
    ledger: Ledger,
    *,
    candidate: str | None = None,
    identity: Identity | None = None,
    alike: Mapping[str, frozenset[str]] | None = None,
) -> Verdict:
    """Holds a candidate against every criterion of a plan.

    A criterion is met where the bound of its interval lies within the margin, violated where the opposite bound lies
    beyond it or a floor is broken, and undecided otherwise, also where anything it needs is missing. Any criterion
    outside the plan makes the verdict OUTSIDE PLAN; else any that is violated REJECT; else any that is undecided
    INCONCLUSIVE. So nothing that could not be computed can lead to ACCEPT.

    Args:
        plan: what was declared.
        scores: files that together have the candidate, its parent and the first release of the line.
        ledger: of the workspace.
        candidate: name or id; without it, the only release that no other was updated from.
        identity: what the candidate's folder says of it, see `identity_of`; without it, how it was made is undecided.
        alike: by domain the releases that predict it with the candidate's own tensors, see `predicting_alike`.

    Raises:
        EvaluationError: if the files contradict each other, or it is not clear which release is the candidate.
        LedgerError: if the ledger is not as it was written.
    """
    case = judged(plan, scores, ledger.entries(), candidate=candidate, identity=identity, alike=alike)
    criteria = (*conformity(case), *comparisons(case), *floors(case))
    return Verdict(
        verdict=decision(criterion.outcome for criterion in criteria),
        plan=PlanReference(name=plan.plan.name, sha256=plan.sha256),
        candidate=case.candidate,
        parent=case.parent,
        first=case.first,
        criteria=criteria,
        scores=tuple(file.sha256 for file in case.files),
        created=datetime.now(UTC),
    )


def identity_of(release: str, workspace: Path) -> Identity | None:
    """What the folder of a release says of it, found by its id; None where it is not in the workspace.

    Raises:
        ReleaseError: if a file of the release is not what was written.
    """
    folder = _folder_of(release, workspace)
    return None if folder is None else read_identity(folder)


def predicting_alike(identity: Identity | None, workspace: Path) -> dict[str, frozenset[str]]:
    """By domain that the candidate learnt, the ancestors in the workspace that predict it with the same tensors.

    Raises:
        ReleaseError: if a file of a release is not what was written.
    """
    from perdure.release.sameness import predicts_alike

    if identity is None or (own := _folder_of(identity.id, workspace)) is None:
        return {}
    line = [(one.id, _folder_of(one.id, workspace)) for one in identity.lineage]
    return {
        seen.domain: frozenset(
            release for release, folder in line if folder is not None and predicts_alike(folder, own, seen.domain)
        )
        for seen in identity.domains
    }


def _folder_of(release: str, workspace: Path) -> Path | None:
    from perdure.release.release import IDENTITY

    for folder in release_folders(workspace):
        named = f'"{release}"' in (folder / IDENTITY).read_text(encoding="utf-8", errors="replace")
        if named and read_identity(folder).id == release:
            return folder
    return None


def declare(plan: PlanFile, ledger: Ledger) -> tuple[Entry, bool]:
    """Records a plan, unless it is in force already; the entry, and whether it is new.

    Raises:
        LedgerError: if the ledger is not as it was written.
    """
    with ledger.locked():
        declared = [entry for entry in ledger.entries() if entry.action == "declared"]
        if declared and declared[-1].details.get("plan") == plan.sha256:
            return declared[-1], False
        entry = ledger.append("declared", plan=plan.sha256, name=plan.plan.name, **_file(plan.path, ledger))
    return entry, True


def record(verdict: Verdict, out: Path, ledger: Ledger) -> Entry:
    """Records a verdict that was written to a file.

    Raises:
        LedgerError: if the ledger is not as it was written.
    """
    return ledger.append(
        "gated",
        verdict.candidate.id,
        plan=verdict.plan.sha256,
        verdict=verdict.verdict,
        scores=list(verdict.scores),
        sha256=sha256(out),
        **_file(out, ledger),
    )


def _file(path: Path, ledger: Ledger) -> dict[str, str]:
    """The name of a file, where it stands in the workspace."""
    return {"file": path.name} if path.absolute().parent == ledger.path.absolute().parent else {}
