"""A small workspace for the gate, made from the numbers that a test wants."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from perdure.evaluation import Header, ScoredRelease, Scores, classification_rows, segmentation_rows
from perdure.evidence.gate.gate import gate
from perdure.evidence.gate.judged import HashedScores
from perdure.evidence.gate.plan import ChangePlan, PlanFile
from perdure.evidence.gate.verdict import Criterion, Verdict
from perdure.evidence.ledger.ledger import Ledger

FIRST, PARENT, CANDIDATE = "1" * 64, "2" * 64, "3" * 64
STRUCTURES = ("background", "organ", "lesion")
GRADES = ("a", "b", "c", "d")

PLAN: dict[str, Any] = {
    "format": 1,
    "name": "plan",
    "metric": "dice",
    "earlier": ["A"],
    "modifications": {"methods": ["mas-lr"], "domains": ["B"], "batch_norm": ["original"]},
    "non_inferiority": {"margin": 0.05},
    "drift": {"margin": 0.08},
    "gain": {"minimum": 0.02},
}
KAPPA_PLAN = {
    **PLAN,
    "metric": "kappa",
    "non_inferiority": {"margin": 0.3, "structures": "mean"},
    "drift": {"margin": 0.3, "structures": "mean"},
    "gain": {"minimum": -0.5},
}


def mild_plan(method: str, batch_norm: str) -> str:
    """The text of a plan for an update from domain a to b by which no change is too large."""
    return f"""format = 1
name = "plan"
metric = "dice"
earlier = ["a"]
[modifications]
methods = ["{method}"]
domains = ["b"]
batch_norm = ["{batch_norm}"]
[non_inferiority]
margin = 0.9
[drift]
margin = 0.9
[gain]
minimum = -0.9
"""


def plan_of(content: Mapping[str, Any]) -> PlanFile:
    text = json.dumps(content)
    return PlanFile(
        ChangePlan.model_validate_json(text, strict=True), hashlib.sha256(text.encode()).hexdigest(), Path("PLAN.toml")
    )


def identity(
    method: str = "mas-lr",
    batch_norm: str = "original",
    domains: Sequence[str] = ("A", "B"),
    strength: object = None,
    subjects: int = 8,
    lineage: Sequence[str] = (FIRST, PARENT),
    test: int = 0,
) -> Any:
    """What the gate reads of an `Identity`."""
    counts = SimpleNamespace(subjects={"train": subjects}, cases={"train": subjects, "test": test})
    return SimpleNamespace(
        id=CANDIDATE,
        lineage=tuple(SimpleNamespace(id=one, domain="A") for one in lineage),
        domains=tuple(SimpleNamespace(domain=name, counts=counts) for name in domains),
        method={"name": method, "batch_norm": batch_norm, "regularizer": {"strength": strength}},
    )


def releases(*, domain: str = "B") -> tuple[ScoredRelease, ...]:
    return (
        ScoredRelease(id=FIRST, name="first", domain="A"),
        ScoredRelease(id=PARENT, name="parent", domain="A", parent=FIRST),
        ScoredRelease(id=CANDIDATE, name="candidate", domain=domain, parent=PARENT),
    )


def dice_scores(
    values: Mapping[tuple[str, str], np.ndarray], names: Sequence[str] = STRUCTURES, **header: Any
) -> Scores:
    """Scores from Dice `(subjects, structures)` by release and domain; NaN is absent in truth and prediction."""
    rows = [
        segmentation_rows(release, domain, f"{domain}{s}", f"case-{domain}{s}", names, np.concatenate([[1.0], of]))
        for (release, domain), table in values.items()
        for s, of in enumerate(np.asarray(table, float))
    ]
    return Scores(_header("segmentation", names, **header), pl.concat(rows))


def kappa_scores(
    truth: Mapping[str, np.ndarray], predicted: Mapping[tuple[str, str], np.ndarray], sure: float = 0.9, **header: Any
) -> Scores:
    """Scores from grades, one case a subject."""
    rows = []
    for (release, domain), grades in predicted.items():
        for s, grade in enumerate(grades):
            probability = np.full(len(GRADES), (1 - sure) / (len(GRADES) - 1))
            probability[grade] = sure
            rows.append(
                classification_rows(
                    release, domain, f"{domain}{s}", f"case-{domain}{s}", GRADES, probability, int(truth[domain][s])
                )
            )
    return Scores(_header("classification", GRADES, ordinal=True, **header), pl.concat(rows))


def _header(task: str, structures: Sequence[str], **more: Any) -> Header:
    return Header.model_validate(
        {
            "task": task,
            "split": "test",
            "releases": releases(),
            "domains": ("A", "B"),
            "structures": tuple(structures),
            "created": datetime.now(UTC),
            **more,
        }
    )


def ordinary(n: int = 12, seed: int = 0) -> dict[tuple[str, str], np.ndarray]:
    """Dice of three releases that keep A and gain on B: what the plan accepts."""
    rng = np.random.default_rng(seed)
    first = {domain: rng.normal(0.8, 0.03, (n, 2)) for domain in "AB"}
    values = {(FIRST, domain): first[domain] for domain in "AB"}
    for release, gain in ((PARENT, 0.0), (CANDIDATE, 0.1)):
        for domain in "AB":
            change = rng.normal(0, 0.01, (n, 2)) + (gain if domain == "B" else 0)
            values[release, domain] = np.clip(values[FIRST, domain] + change, 0, 1)
    return values


@dataclass
class Gated:
    """One gate, with everything about it open to be made otherwise.

    Args:
        folder: for the ledger.
        plan: the content of PLAN.toml.
        scores: what is judged.
        identity: what the candidate's folder says.
        declared: whether the plan is declared before the scores are recorded.
        recorded: whether the scores are.
    """

    folder: Path
    scores: Scores
    plan: Mapping[str, Any] = field(default_factory=lambda: PLAN)
    identity: Any = field(default_factory=identity)
    declared: bool = True
    recorded: bool = True

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.folder / "ledger.jsonl")
        if self.declared:
            self.declare(self.plan)
        created = {"created": datetime.now(UTC)}
        self.scores = Scores(self.scores.header.model_copy(update=created), self.scores.table)
        if self.recorded:
            self.look(CANDIDATE)

    def declare(self, plan: Mapping[str, Any]) -> None:
        self.ledger.append("declared", plan=plan_of(plan).sha256, name="plan")

    def look(self, release: str, digest: str = "f" * 64, **more: str) -> None:
        for domain in ("A", "B"):
            self.ledger.append("looked", release, domain=domain, split="test", scores=digest, cases=1, **more)

    def verdict(self, **more: Any) -> Verdict:
        plan = plan_of(self.plan)
        return gate(plan, [HashedScores(self.scores, "f" * 64)], self.ledger, identity=self.identity, **more)


def the(verdict: Verdict, name: str) -> Criterion:
    found = [criterion for criterion in verdict.criteria if criterion.name == name]
    assert found, [criterion.name for criterion in verdict.criteria]
    return found[0]
