"""What did the gate decide, by which criteria, and why?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import AwareDatetime, Field, FiniteFloat, ValidationError, model_validator

from perdure.errors import EvaluationError, Problem
from perdure.evaluation import PairedTest, ScoredRelease
from perdure.release.folder import replace_file
from perdure.types import Value

Outcome: TypeAlias = Literal["met", "violated", "undecided", "outside plan"]
Decision: TypeAlias = Literal["ACCEPT", "REJECT", "INCONCLUSIVE", "OUTSIDE PLAN"]
Kind: TypeAlias = Literal[
    "non-inferiority",
    "gain",
    "floor",
    "worst case",
    "subgroup",
    "drift",
    "modification",
    "data",
    "looks",
    "plan",
]


class Criterion(Value):
    """One thing that the plan asks for, and whether it is so.

    Args:
        name: tells it apart from all others of a verdict, for example `non-inferiority siteA hippocampus`.
        kind: what it is about.
        domain: the domain it is about; None where it is about none.
        structure: the structure; None for the mean over structures, or where it is about none.
        subgroup: the subgroup, as `column=value`.
        subject: whose value it is, where it is that of the worst one; no reason names a subject.
        outcome: `met`, `violated`, `undecided` or `outside plan`.
        reason: one sentence with the figures.
        estimate: the change (candidate less the release it is compared with), or the value that a floor is about.
        low: the lower end of the interval of `estimate`.
        high: the upper end.
        bound: what `estimate` is held against: minus the margin, the smallest gain, or the floor.
        level: the interval has confidence 1 - `level`; either end is a one-sided bound at `level` / 2.
        p: one-sided, of the hypothesis that the criterion does not hold; at most `level` / 2 where it is met.
        adjusted_p: `p` after the plan's rule for many criteria (Holm); the same where the rule changes nothing.
        n: how many subjects it rests on.
        needed: how many subjects would do, if they are like those seen; None where that is not known.
        paired: Wilcoxon's test of the same subjects, to be read beside the interval; it decides nothing.
    """

    name: str
    kind: Kind
    domain: str | None = None
    structure: str | None = None
    subgroup: str | None = None
    subject: str | None = None
    outcome: Outcome
    reason: str
    estimate: FiniteFloat | None = None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    bound: FiniteFloat | None = None
    level: FiniteFloat | None = None
    p: FiniteFloat | None = None
    adjusted_p: FiniteFloat | None = None
    n: int | None = None
    needed: int | None = None
    paired: PairedTest | None = None


class PlanReference(Value):
    """Which plan was followed.

    Args:
        name: as the plan has it.
        sha256: of the bytes of the plan file.
    """

    name: str
    sha256: str


class Verdict(Value):
    """What the gate says of one candidate.

    Args:
        format: of the file.
        verdict: the decision.
        plan: by which plan.
        candidate: the release that was judged.
        parent: the release that it was updated from; None where the scores do not have it.
        first: the first release of its line; None where the scores do not have it.
        criteria: every criterion of the plan.
        scores: SHA-256 of each score file.
        created: when.
    """

    format: Literal[1] = 1
    verdict: Decision
    plan: PlanReference
    candidate: ScoredRelease
    parent: ScoredRelease | None
    first: ScoredRelease | None
    criteria: tuple[Criterion, ...] = Field(min_length=1)
    scores: tuple[str, ...]
    created: AwareDatetime

    @model_validator(mode="after")
    def _follows_from_its_criteria(self) -> Verdict:
        names = [criterion.name for criterion in self.criteria]
        if len(set(names)) != len(names):
            raise ValueError("criteria must have different names")
        if self.verdict != (follows := decision(criterion.outcome for criterion in self.criteria)):
            raise ValueError(f"from these criteria follows {follows}, not {self.verdict}")
        return self

    @classmethod
    def read(cls, path: Path) -> Verdict:
        """Reads what `write` wrote.

        Raises:
            EvaluationError: if the file is missing, damaged, or its decision does not follow from its criteria.
        """
        allowed = "name a verdict that `perdure gate` wrote"
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            found = f"none ({error.strerror})"
            raise EvaluationError(str(Problem(str(path), "file", found, allowed))) from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "file"
            raise EvaluationError(str(Problem(str(path), field, first["msg"], allowed))) from error

    def write(self, path: Path) -> None:
        """Writes JSON; a crash leaves the old file or the new one."""
        replace_file(path, (self.model_dump_json(indent=2) + "\n").encode())


def decision(outcomes: Iterable[Outcome]) -> Decision:
    """What follows from the outcomes of all criteria: the gravest of them, and nothing from none.

    Raises:
        ValueError: if there is no criterion; nothing was shown, so nothing can be accepted.
    """
    found = set(outcomes)
    if not found:
        raise ValueError("there is no criterion, so nothing was shown")
    if "outside plan" in found:
        return "OUTSIDE PLAN"
    if "violated" in found:
        return "REJECT"
    return "INCONCLUSIVE" if "undecided" in found else "ACCEPT"
