"""What does a report say? All of it as values: the page, the PDF and the JSON are drawn from these alone."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import AwareDatetime, Field

from perdure.evaluation import Loss, PairedTest, Summary
from perdure.evaluation.noninferiority import Comparison
from perdure.evidence.bill import Bill
from perdure.evidence.gate.verdict import Verdict
from perdure.evidence.ledger.ledger import Entry
from perdure.types import Split, Task, Value

Role: TypeAlias = Literal["earlier", "new", "never learnt"]
"""What a domain is to the candidate: learnt before this update, by it, or by no release of the line."""


class ReleaseFacts(Value):
    """One release of the workspace, or an ancestor that is not there.

    Args:
        id: its id.
        name: its folder's name, or what its children call it.
        parent: the id of its parent; None for a base release.
        domain: the domain that it learnt last.
        method: how it was made.
        created: UTC, ISO 8601; None of an ancestor that is not there.
        is_here: whether its folder is in the workspace, each file with the hash that it was written with.
        identity: its `release.json`; None of an ancestor that is not there.
    """

    id: str
    name: str
    parent: str | None
    domain: str
    method: str
    created: str | None = None
    is_here: bool
    identity: dict[str, Any] | None = None


class ScoreFile(Value):
    """One score file of the workspace.

    Args:
        name: of the file.
        sha256: of its bytes.
        split: that was scored; None where it could not be read.
        used: whether the report rests on it.
        reason: why not.
    """

    name: str
    sha256: str
    split: Split | None
    used: bool
    reason: str | None = None


class Change(Value):
    """What the update did to one domain, or to one structure of it: candidate minus parent.

    Args:
        domain: which.
        structure: which; None for the domain as a whole.
        role: what the domain is to the candidate.
        before: the parent's score; None where there is none.
        after: the candidate's.
        interval: of the change, over subjects, always 95 %, by the gate's own function; None where the two cannot be
            compared.
        test: Wilcoxon's signed-rank test over subjects: of Dice; of classes, of grades off (there a fall is better).
        p: of the test, corrected for the number of domains (Holm).
        since: the candidate minus the release that had just learnt the domain; None where that one is the parent.
        note: what was left out.
        reason: why something of this is missing.
    """

    domain: str
    structure: str | None = None
    role: Role
    before: float | None
    after: float | None
    interval: Comparison | None = None
    test: PairedTest | None = None
    p: float | None = None
    since: Comparison | None = None
    note: str | None = None
    reason: str | None = None

    @property
    def change(self) -> float | None:
        """The estimate of the interval; see `evaluation.pairs.paired_changes` for what counts."""
        return None if self.interval is None else self.interval.estimate


class Distance(Value):
    """How far apart the surfaces of one structure lie on one domain: means over the cases that have them on both sides.

    Args:
        domain: which.
        structure: which.
        role: what the domain is to the candidate.
        metric: `hd95` or `assd`; smaller is better.
        unit: of both numbers.
        before: the parent's; None where there is none.
        after: the candidate's.
    """

    domain: str
    structure: str
    role: Role
    metric: str
    unit: Literal["mm", "pixels"]
    before: float | None
    after: float | None


class CaseChange(Value):
    """What the update did to one case.

    Args:
        number: its place in the order of the report, from 1: what got worse most comes first.
        domain: where it is from.
        role: what that domain is to the candidate.
        subject: whose it is; None where subjects are left out of the report.
        case: its id in the score file; None likewise.
        before: the parent's score: mean Dice over the structures that count, see `evaluation.pairs.paired_changes`; of
            classes the probability of the true class.
        after: the candidate's.
        change: after minus before.
        structure: of a segmentation the structure that changed for the worse most.
        structure_change: by how much.
        truth: of a classification the true class.
        was: the class that the parent gave.
        now: the class that the candidate gives.
    """

    number: int
    domain: str
    role: Role
    subject: str | None
    case: str | None
    before: float
    after: float
    change: float
    structure: str | None = None
    structure_change: float | None = None
    truth: str | None = None
    was: str | None = None
    now: str | None = None


class ShownCase(Value):
    """A case that the page shows in pictures.

    Args:
        number: of its `CaseChange`.
        dice: of a segmentation, by structure: the parent's and the candidate's Dice, computed from what is shown.
        view: the plane of a volume's picture.
        slice: its index on the volume's own grid.
        step: every so many voxels stand in the viewer; None where it is not in the viewer.
        reason: why it is not.
    """

    number: int
    dice: dict[str, tuple[float | None, float | None]]
    view: str | None = None
    slice: int | None = None
    step: int | None = None
    reason: str | None = None


class MatrixFacts(Value):
    """A train-test matrix and its measures.

    Args:
        releases: ids, one a row.
        domains: one a row and column, in the order of learning.
        unseen: scored domains that were never learnt.
        values: R[i, j].
        unseen_values: the same for domains never learnt.
        change: R[i, j] - R[j, j] below the diagonal.
        sentences: what became of each domain.
        left_out: how many scores are in no mean, in words.
        summary: all measures.
    """

    releases: tuple[str, ...]
    domains: tuple[str, ...]
    unseen: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    unseen_values: tuple[tuple[float | None, ...], ...]
    change: tuple[tuple[float | None, ...], ...]
    sentences: tuple[str, ...]
    left_out: str | None
    summary: Summary


class Curve(Value):
    """How one release was trained.

    Args:
        release: its name.
        epochs: counted from 1.
        loss: of the training samples.
        validation_loss: of the validation samples; None where there are none.
        penalty: of the regularizer.
    """

    release: str
    epochs: tuple[int, ...]
    loss: tuple[float | None, ...]
    validation_loss: tuple[float | None, ...]
    penalty: tuple[float | None, ...]


class Layer(Value):
    """One layer of the candidate.

    Args:
        name: of the layer.
        parameters: how many.
        importance: the mean scaled importance that the update went by; None where it carries none.
        moved: how far it moved from the parent, over the length of the parent's weights; None where that is 0.
        frozen: the share of its parameters that no later update may move; None where nothing is frozen.
    """

    name: str
    parameters: int
    importance: float | None
    moved: float | None
    frozen: float | None = None


class Layers(Value):
    """Importance by layer and the budget that is left.

    Args:
        measure: the key of the measure of importance; None where the memory has none.
        layers: in the order of the network.
        budget: what is frozen for good and what is left, in words.
    """

    measure: str | None
    layers: tuple[Layer, ...]
    budget: str


class Cloud(Value):
    """What one release sees in the cases of all domains, in two dimensions.

    Args:
        release: its name.
        kind: `PCA` or `UMAP`.
        shares: of the variance that each component explains; none for UMAP.
        points: one a case.
        domains: of each case.
        classes: of each case.
        names: of all classes, in the order of the network's output.
    """

    release: str
    kind: Literal["PCA", "UMAP"]
    shares: tuple[float, ...]
    points: tuple[tuple[float, float], ...]
    domains: tuple[str, ...]
    classes: tuple[str, ...]
    names: tuple[str, ...]


class Candidate(Value):
    """One of several updates of the same parent to the same domain.

    Args:
        release: its name.
        method: how it was made.
        strength: the setting that holds it back, in words; None where it has none.
        worst: the change of the earlier domain that lost most, against the parent.
        worst_domain: which.
        gain: the change on the new domain.
        is_chosen: whether the report is about it.
    """

    release: str
    method: str
    strength: str | None
    worst: float
    worst_domain: str
    gain: float
    is_chosen: bool


class RecordField(Value):
    """One field that a change control record asks for.

    Args:
        name: of the field.
        found: what Perdure knows of it; None where nothing is recorded.
        missing: what is not recorded, and who has to add it.
        section: the part of the report that holds it.
    """

    name: str
    found: str | None
    missing: str | None = None
    section: str | None = None


class Report(Value):
    """All that a report says. `missing` names every part that could not be given, and why.

    Args:
        format: the version of this layout.
        title: the heading.
        created: when it was made.
        version: of Perdure.
        workspace: the name of the folder.
        task: what the releases do.
        metric: what scores are; see `evaluation.METRICS`.
        split: that was scored; None without scores.
        candidate: the release that the report is about.
        parent: what it was updated from; None of a base release.
        lineage: every release of the workspace and their ancestors.
        refused: folders that are no whole release, and why.
        score_files: all of them.
        verdict: of the gate.
        verdict_notes: what speaks against taking the verdict for this candidate and these scores.
        ledger: its entries.
        ledger_problems: where its chain is broken.
        matrix: of the candidate's line.
        changes: one a domain.
        structures: one a domain and structure.
        distances: one a domain, metric and structure, where surface distances were scored.
        worst_domain: the earlier domain that lost most since it was learnt; see `TrainTestMatrix.worst_domain`.
        cases: what got worse most comes first.
        shown: the cases in pictures.
        curves: one a release of the line, the first one first.
        layers: of the candidate.
        clouds: before and after.
        candidates: of the same parent and domain, the candidate among them.
        record: what a change control record asks for.
        limits: of what was shown.
        groups: columns of the manifest that the scores hold for subjects; see `evaluation.scores.Header`.
        bill: the bill of materials beside the report.
        missing: by part of the report the reason why it is not there.
    """

    format: Literal[1] = 1
    title: str
    created: AwareDatetime
    version: str
    workspace: str
    task: Task
    metric: str
    split: Split | None
    candidate: ReleaseFacts
    parent: ReleaseFacts | None
    lineage: tuple[ReleaseFacts, ...]
    refused: dict[str, str] = Field(default_factory=dict)
    score_files: tuple[ScoreFile, ...] = ()
    verdict: Verdict | None = None
    verdict_notes: tuple[str, ...] = ()
    ledger: tuple[Entry, ...] = ()
    ledger_problems: tuple[str, ...] = ()
    matrix: MatrixFacts | None = None
    changes: tuple[Change, ...] = ()
    structures: tuple[Change, ...] = ()
    distances: tuple[Distance, ...] = ()
    worst_domain: Loss | None = None
    cases: tuple[CaseChange, ...] = ()
    shown: tuple[ShownCase, ...] = ()
    curves: tuple[Curve, ...] = ()
    layers: Layers | None = None
    clouds: tuple[Cloud, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    record: tuple[RecordField, ...] = ()
    limits: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    bill: Bill
    missing: dict[str, str] = Field(default_factory=dict)
