"""Where nothing can have changed the gate says so, and drift is counted from where a domain was learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gate_workspace import CANDIDATE, FIRST, PARENT, PLAN, Gated, dice_scores, identity, ordinary, plan_of
from perdure.evaluation import ScoredRelease
from perdure.evidence.gate.gate import gate
from perdure.evidence.gate.judged import HashedScores
from perdure.evidence.gate.verdict import Criterion, Verdict


def judged(gated: Gated, alike: dict[str, frozenset[str]]) -> Verdict:
    files = [HashedScores(gated.scores, "f" * 64)]
    return gate(plan_of(gated.plan), files, gated.ledger, identity=gated.identity, alike=alike)


def of(verdict: Verdict, kind: str, domain: str) -> list[Criterion]:
    return [one for one in verdict.criteria if (one.kind, one.domain) == (kind, domain)]


def unchanged(subjects: int) -> dict[tuple[str, str], np.ndarray]:
    values = ordinary(subjects)
    values[CANDIDATE, "A"] = values[PARENT, "A"]
    return values


def test_a_domain_that_is_predicted_with_the_same_tensors_is_decided_however_few_subjects_there_are(
    tmp_path: Path,
) -> None:
    found = of(judged(Gated(tmp_path, dice_scores(unchanged(3))), {"A": frozenset({PARENT})}), "non-inferiority", "A")
    assert found
    assert {one.outcome for one in found} == {"met"}
    assert all("parent and the candidate predict A with the very same tensors" in one.reason for one in found)


def test_without_that_proof_three_subjects_decide_nothing(tmp_path: Path) -> None:
    found = of(judged(Gated(tmp_path, dice_scores(unchanged(3))), {}), "non-inferiority", "A")
    assert {one.outcome for one in found} == {"undecided"}


def test_scores_that_differ_although_the_tensors_do_not_are_not_believed(tmp_path: Path) -> None:
    values = unchanged(12)
    values[CANDIDATE, "A"] = values[PARENT, "A"] + 0.001
    found = of(judged(Gated(tmp_path, dice_scores(values)), {"A": frozenset({PARENT})}), "non-inferiority", "A")
    assert {one.outcome for one in found} == {"undecided"}
    assert all("and yet the scores differ" in one.reason for one in found)


def test_drift_is_counted_from_the_release_that_had_just_learnt_the_domain(tmp_path: Path) -> None:
    """The parent learnt C; against the first release, which had not, C has gained all the same."""
    values = ordinary()
    for release, score in ((FIRST, 0.2), (PARENT, 0.8), (CANDIDATE, 0.6)):
        values[release, "C"] = np.full((12, 2), score) + np.linspace(0, 0.01, 24).reshape(12, 2)
    releases = (
        ScoredRelease(id=FIRST, name="first", domain="A"),
        ScoredRelease(id=PARENT, name="parent", domain="C", parent=FIRST),
        ScoredRelease(id=CANDIDATE, name="candidate", domain="B", parent=PARENT),
    )
    line = identity(domains=("A", "C", "B"))
    line.lineage[1].domain = "C"
    scores = dice_scores(values, releases=releases, domains=("A", "B", "C"))
    gated = Gated(tmp_path, scores, {**PLAN, "earlier": ["A", "C"]}, line)
    found = of(judged(gated, {}), "drift", "C")
    assert found
    assert all(one.estimate is not None and abs(one.estimate + 0.2) < 0.02 for one in found)
    assert "met" not in {one.outcome for one in found}
