"""Small workspaces: a base release and an update of it, with their ledger, and scores of both."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

import fakes
from perdure.evaluation import Header, Scores, segmentation_rows
from perdure.evaluation.evaluate import scored
from perdure.evidence.gate.verdict import Criterion, Outcome, PlanReference, Verdict
from perdure.evidence.ledger.ledger import Ledger
from perdure.evidence.ledger.recording import record_release
from perdure.release import Ancestor, Release


def saved(folder: Path, parent: Release | None = None, threshold: float = 0.5) -> Release:
    """A release on the disk, of one weight: one that learnt domain `a`, or an update of it that learnt `b` too."""
    learnt = ("a",) if parent is None else (*(seen.domain for seen in parent.identity.domains), "b")
    made = fakes.release(fakes.Threshold([threshold]), fakes.picture_contract(), name=folder.name, learnt=learnt)
    identity = made.identity
    if parent is not None:
        ancestor = Ancestor(id=parent.id, name=parent.name, domain="a", method=parent.identity.method["name"])
        identity = identity.model_copy(update={"origin": "updated", "lineage": (*parent.lineage, ancestor)})
    return Release(made.model, made.memory, identity, "").save(folder)


def workspace(folder: Path) -> tuple[Release, Release]:
    """`base` and `candidate` in a folder, and the ledger that `train` and `update` would have written."""
    base = saved(folder / "base")
    record_release(folder / "base", base.identity)
    candidate = saved(folder / "candidate", base, 0.6)
    record_release(folder / "candidate", candidate.identity)
    return base, candidate


def scores_of(*releases: Release, domains: tuple[str, ...] = ("a",), split: str = "test", seed: int = 0) -> Scores:
    """Dice of five subjects, two cases each, in each domain; noise that depends on the seed."""
    rng = np.random.default_rng(seed)
    names = ("background", "disc")
    header = Header.model_validate(
        {
            "task": "segmentation",
            "split": split,
            "releases": tuple(scored(release) for release in releases),
            "domains": domains,
            "structures": names,
            "created": datetime(2026, 1, 1, tzinfo=UTC),
        }
    )
    rows = [
        segmentation_rows(release.id, domain, f"{domain}-{i // 2}", f"{domain}-{i}", names, rng.uniform(0.5, 1, 2))
        for release in releases
        for domain in domains
        for i in range(10)
    ]
    return Scores(header, pl.concat(rows))


DECISIONS: dict[Outcome, str] = {
    "met": "ACCEPT", "violated": "REJECT", "undecided": "INCONCLUSIVE", "outside plan": "OUTSIDE PLAN"
}  # fmt: skip


def gated(
    folder: Path, candidate: Release, outcome: Outcome = "met", *, is_recorded: bool = True, **details: str
) -> Path:
    """A verdict in the workspace, as the gate leaves it."""
    verdict = Verdict.model_validate(
        {
            "verdict": DECISIONS[outcome],
            "plan": PlanReference(name="plan", sha256="a" * 64),
            "candidate": scored(candidate),
            "parent": None,
            "first": None,
            "criteria": (Criterion(name="floor a", kind="floor", outcome=outcome, reason="Said."),),
            "scores": ("b" * 64, "c" * 64),
            "created": datetime(2026, 1, 1, tzinfo=UTC),
        }
    )
    verdict.write(folder / "verdict.json")
    if is_recorded:
        Ledger.beside(folder / "base").append(
            "gated",
            candidate.id,
            plan="a" * 64,
            verdict=verdict.verdict,
            scores=["c" * 64, "b" * 64],
            sha256=hashlib.sha256((folder / "verdict.json").read_bytes()).hexdigest(),
            **details,
        )
    return folder / "verdict.json"
