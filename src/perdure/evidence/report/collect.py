"""How does a workspace become a report? Each part by functions that all of Perdure uses, or the reason why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from perdure import __version__
from perdure.errors import EvaluationError, PerdureError
from perdure.evaluation import Scores, TrainTestMatrix, summary, train_test_matrix
from perdure.evidence.bill import Bill, bill_of_materials, differences, installed
from perdure.evidence.report.changes import (
    Line,
    both_scored,
    case_changes,
    domain_changes,
    metric_of,
    structure_changes,
    structure_distances,
)
from perdure.evidence.report.clouds import clouds_of
from perdure.evidence.report.content import MatrixFacts, Report
from perdure.evidence.report.facts import (
    candidates_of,
    curves_of,
    facts_of,
    layers_of,
    line_of,
    lineage_of,
    parent_of,
)
from perdure.evidence.report.limits import limits_of
from perdure.evidence.report.pictures import Pictures, pictures_of, worst_cases
from perdure.evidence.report.record import record_of
from perdure.evidence.report.workspace import UNNAMED, without_names
from perdure.evidence.text import forgotten_sentences, left_out
from perdure.release import Release

if TYPE_CHECKING:
    from perdure.data import FolderDomain
    from perdure.evidence.gate.verdict import Verdict
    from perdure.evidence.ledger.ledger import Entry
    from perdure.evidence.report.workspace import Found, Workspace

VOLUMES = 9_000_000
"""Bytes that volumes may take in a page, so that all of it stays under 15 MB."""

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Collected:
    """A report and what of it are pictures.

    Args:
        report: all of it that is words and numbers.
        bill: the bill of materials, as its file holds it.
        matrix: the train-test matrix that is drawn; None where there is none.
        pictures: of the worst cases.
    """

    report: Report
    bill: bytes
    matrix: TrainTestMatrix | None
    pictures: tuple[Pictures, ...]


def collect(
    workspace: Workspace,
    *,
    release: str | None = None,
    title: str | None = None,
    domains: Sequence[FolderDomain] = (),
    cases: int = 3,
    with_subjects: bool = True,
    trusted: Sequence[str] = (),
    pins: Mapping[str, str] | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Collected:
    """Gathers a report.

    Args:
        workspace: what it is of.
        release: which release; see `Workspace.candidate`.
        title: the heading.
        domains: prepared under the releases' contract, to run both releases on; none leaves pictures and features out.
        cases: how many of each domain are shown in pictures.
        with_subjects: whether subjects and cases are named.
        trusted: modules that may be imported to build the network.
        pins: version by library that should be installed; see `evidence.bill.pinned`.
        device: where networks run.
        progress: told how many of how many cases in pictures are done.

    Raises:
        EvaluationError: if there is no such release, or the data do not fit it.
        ReleaseError: if a release cannot be opened.
    """
    found = workspace.candidate(release)
    missing = _Missing(with_subjects)
    workspace = workspace if with_subjects else without_names(workspace)
    line, scores = line_of(found), workspace.scores
    before = parent_of(workspace, found)
    after = missing.of("layers", lambda: Release.open(found.path, trusted))
    parent = None if before is None else missing.of("layers", lambda: Release.open(before.path, trusted))
    matrix = missing.of("matrix", lambda: _matrix(scores, found))
    compared = missing.of("domains", lambda: _compared(scores, found, line), can_name=False)
    cases_of_all = case_changes(compared, line) if compared else ()
    pictures = _pictures(missing, cases_of_all, domains, parent, after, cases, device, progress)
    split = scores.header.split if scores else None
    created = datetime.now(UTC).replace(microsecond=0)
    bill = bill_of_materials(created)
    report = Report(
        title=title or f"Update report: {found.path.name}",
        created=created,
        version=__version__,
        workspace=workspace.folder.absolute().name,
        task=found.identity.contract.task,
        metric="dice" if found.identity.contract.task == "segmentation" else "kappa",
        split=split,
        candidate=facts_of(found),
        parent=next((one for one in lineage_of(workspace) if one.id == found.parent), None),
        lineage=lineage_of(workspace),
        refused=dict(workspace.refused),
        score_files=workspace.score_files,
        verdict=missing.given(
            "verdict",
            workspace.verdict if with_subjects else _without_subjects(workspace.verdict),
            "no verdict of a gate is in the workspace; perdure gate makes one from a plan and scores.",
        ),
        verdict_notes=tuple(_notes(workspace, found)),
        ledger=missing.given(
            "ledger", workspace.entries, "; ".join(workspace.ledger_problems) or "no ledger is in the workspace."
        ),
        ledger_problems=workspace.ledger_problems,
        matrix=None if matrix is None else _matrix_facts(matrix),
        changes=domain_changes(compared, line) if compared else (),
        structures=structure_changes(compared, line) if compared else (),
        distances=structure_distances(compared, line) if compared else (),
        worst_domain=None if matrix is None else matrix.worst_domain(),
        cases=case_changes(compared, line, with_subjects=with_subjects) if compared else (),
        shown=tuple(one.facts for one in pictures),
        curves=missing.given(
            "training",
            curves_of(workspace, found),
            "no release of this line was trained here; an adopted one brings no history.",
        ),
        layers=None if after is None else layers_of(after, parent),
        clouds=missing.of("features", lambda: clouds_of(domains, split, parent, after, device)) or (),
        candidates=missing.given(
            "candidates",
            candidates_of(workspace, found, scores),
            "no update of this parent to this domain was scored together with it.",
        ),
        groups=tuple(sorted(scores.header.groups)) if scores else (),
        bill=Bill(
            components=len(installed()),
            sha256=hashlib.sha256(bill).hexdigest(),
            release=differences(found.identity.versions),
            pins=None if pins is None else differences(pins),
        ),
        missing=missing.reasons,
    )
    report = report.model_copy(update={"limits": limits_of(report)})
    report = report.model_copy(update={"record": record_of(report)})
    return Collected(report, bill, matrix, pictures)


class _Missing:
    """Why parts of a report are not there; no words of errors where subjects, whom these may name, stay out."""

    def __init__(self, with_subjects: bool) -> None:
        self.reasons: dict[str, str] = {}
        self._with_subjects = with_subjects

    def of(self, part: str, make: Callable[[], _T], *, can_name: bool = True) -> _T | None:
        """A part, or None and the reason; `can_name` says whether the words of an error may name a subject."""
        try:
            return make()
        except PerdureError as error:
            self.reasons[part] = str(error) if self._with_subjects or not can_name else UNNAMED
            return None

    def given(self, part: str, value: _T, reason: str) -> _T:
        """A part; the reason is kept where it is empty."""
        if not value:
            self.reasons[part] = reason
        return value


def _without_subjects(verdict: Verdict | None) -> Verdict | None:
    if verdict is None:
        return None
    criteria = tuple(one.model_copy(update={"subject": None}) for one in verdict.criteria)
    return verdict.model_copy(update={"criteria": criteria})


def _matrix(scores: Scores | None, found: Found) -> TrainTestMatrix:
    if scores is None:
        raise EvaluationError("no score file is in the workspace; perdure evaluate writes one.")
    return train_test_matrix(scores, metric_of(scores), last=found.id)


def _compared(scores: Scores | None, found: Found, line: Line) -> Scores:
    """The scores, where they hold the candidate and its parent."""
    if scores is None:
        raise EvaluationError("no score file is in the workspace; perdure evaluate writes one.")
    if found.parent is None:
        raise EvaluationError("the release has no parent, so that nothing changed.")
    if not both_scored(scores, line):
        raise EvaluationError(
            "the score files do not hold both the release and its parent; evaluate both on the same cases."
        )
    return scores


def _notes(workspace: Workspace, found: Found) -> list[str]:
    """What speaks against taking the verdict for this release and these scores."""
    verdict = workspace.verdict
    if verdict is None:
        return []
    notes = []
    if verdict.candidate.id != found.id:
        notes.append(f"The verdict is about another release, {verdict.candidate.name} ({verdict.candidate.id[:12]}).")
    used = {file.sha256 for file in workspace.score_files if file.used}
    if not set(verdict.scores) <= used:
        notes.append("The verdict rests on score files that are not those of this report, or that were changed since.")
    elif used - set(verdict.scores):
        notes.append("This report also uses score files that the verdict did not see.")
    if not workspace.entries:
        notes.append("There is no ledger here that can be read: nothing shows that a gate gave this verdict.")
    elif not any(_gave(entry, workspace.verdict_sha256, verdict.candidate.id) for entry in workspace.entries):
        notes.append("The ledger of this workspace has no entry of a gate that gave this verdict, byte for byte.")
    return notes


def _gave(entry: Entry, digest: str | None, release: str) -> bool:
    """Whether an entry is that of the gate that wrote a file about a release."""
    is_of = entry.action == "gated" and entry.release == release
    return is_of and digest is not None and entry.details.get("sha256") == digest


def _matrix_facts(matrix: TrainTestMatrix) -> MatrixFacts:
    def rows(values: Any) -> tuple[tuple[float | None, ...], ...]:
        return tuple(tuple(None if np.isnan(cell) else float(cell) for cell in row) for row in values)

    return MatrixFacts(
        releases=tuple(one.id for one in matrix.releases),
        domains=matrix.domains,
        unseen=matrix.unseen,
        values=rows(matrix.mean),
        unseen_values=rows(matrix.unseen_mean),
        change=rows(matrix.change),
        sentences=forgotten_sentences(matrix),
        left_out=left_out(matrix),
        summary=summary(matrix),
    )


def _pictures(
    missing: _Missing,
    cases: Sequence[Any],
    domains: Sequence[FolderDomain],
    parent: Release | None,
    after: Release | None,
    most: int,
    device: str,
    progress: Callable[[int, int], None],
) -> tuple[Pictures, ...]:
    if not domains:
        missing.reasons["pictures"] = "it takes the data: give their folder with --data."
        return ()
    if parent is None or after is None or not cases:
        missing.reasons["pictures"] = "it takes the release, its parent and scores of both."
        return ()
    names = {one.number: (one.subject, one.case) for one in cases}
    chosen = worst_cases(cases, names, domains, most)
    missing.given("pictures", chosen, "no scored case is in the data folder; salted ids of another site name none.")
    return pictures_of(chosen, names, parent, after, room=VOLUMES, device=device, progress=progress)
