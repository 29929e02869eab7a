"""What did the update do to each domain, each structure and each case? Candidate minus parent, on the same cases.

By the functions that the gate judges by. Intervals here are at 95 %; those of a gate's criteria are at the level of its
plan, and wider where the plan divides it among several looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from perdure.errors import EvaluationError
from perdure.evaluation import DISTANCES, PairedTest, Scores, grade_error_test, holm, mean_scores, paired_test
from perdure.evaluation.matrix import defined_mean, subject_scores
from perdure.evaluation.noninferiority import Comparison, compare_kappas, compare_means
from perdure.evaluation.pairs import paired_cases, paired_changes, paired_grades
from perdure.evidence.report.content import CaseChange, Change, Distance, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

_CASE = ["subject", "case"]
_NOTHING = 0.0
"""What changes are held against: no change at all. Margins are the gate's."""


@dataclass(frozen=True)
class Line:
    """The releases that are compared.

    Args:
        candidate: the id of the release that the report is about.
        parent: the id of what it was updated from.
        learnt: by domain of the line, the oldest first, the id of the release that learnt it last.
    """

    candidate: str
    parent: str
    learnt: Mapping[str, str]

    def role(self, domain: str) -> Role:
        """What a domain is to the candidate."""
        if self.learnt.get(domain) == self.candidate:
            return "new"
        return "earlier" if domain in self.learnt else "never learnt"


def metric_of(scores: Scores) -> str:
    """What changes are of: Dice, or of classes kappa."""
    return "dice" if scores.header.task == "segmentation" else "kappa"


def ordered_domains(scores: Scores, line: Line) -> tuple[str, ...]:
    """The scored domains: those of the line in the order of learning, then the others."""
    scored = scores.header.domains
    return (*(d for d in line.learnt if d in scored), *(d for d in scored if d not in line.learnt))


def both_scored(scores: Scores, line: Line) -> bool:
    """Whether the scores hold both releases."""
    return {line.parent, line.candidate} <= {release.id for release in scores.header.releases}


def domain_changes(scores: Scores, line: Line) -> tuple[Change, ...]:
    """The change of every scored domain, with Wilcoxon's p corrected for their number (Holm)."""
    means = mean_scores(scores, metric_of(scores))
    changes = []
    for domain in ordered_domains(scores, line):
        facts: dict[str, Any] = {
            "domain": domain,
            "role": line.role(domain),
            "before": means.get((line.parent, domain)),
            "after": means.get((line.candidate, domain)),
        }
        try:
            facts |= _compared(scores, domain, line.parent, line.candidate, scores.header.structures[1:])
            facts["since"] = _since(scores, domain, line)
        except EvaluationError as error:
            facts["reason"] = str(error)
        changes.append(Change(**facts))
    corrected = holm({one.domain: None if one.test is None else one.test.p for one in changes})
    return tuple(one.model_copy(update={"p": corrected[one.domain]}) for one in changes)


def structure_changes(scores: Scores, line: Line) -> tuple[Change, ...]:
    """The same for each structure of each domain of a segmentation, as far as the two can be compared.

    Their p is left out: among many structures some reach a small one by chance.
    """
    if scores.header.task != "segmentation":
        return ()
    changes = []
    for domain in ordered_domains(scores, line):
        means = [_structure_means(scores, domain, release) for release in (line.parent, line.candidate)]
        for structure in scores.header.structures[1:]:
            facts: dict[str, Any] = {
                "domain": domain,
                "structure": structure,
                "role": line.role(domain),
                "before": means[0].get(structure),
                "after": means[1].get(structure),
            }
            try:
                facts["interval"] = _compared(scores, domain, line.parent, line.candidate, (structure,))["interval"]
            except EvaluationError as error:
                facts["reason"] = str(error)
            changes.append(Change(**facts))
    return tuple(changes)


def structure_distances(scores: Scores, line: Line) -> tuple[Distance, ...]:
    """The surface distances of each structure of each domain, where they were scored; nothing is tested of them."""
    unit = scores.header.unit
    if unit is None:
        return ()
    found = []
    for domain in ordered_domains(scores, line):
        for metric in DISTANCES:
            before, after = (_structure_means(scores, domain, one, metric) for one in (line.parent, line.candidate))
            found += [
                Distance(
                    domain=domain,
                    structure=structure,
                    role=line.role(domain),
                    metric=metric,
                    unit=unit,
                    before=before.get(structure),
                    after=after.get(structure),
                )
                for structure in scores.header.structures[1:]
                if structure in before or structure in after
            ]
    return tuple(found)


def case_changes(scores: Scores, line: Line, *, with_subjects: bool = True) -> tuple[CaseChange, ...]:
    """The change of every case that both releases scored; what got worse most comes first.

    Args:
        scores: of both releases.
        line: which they are.
        with_subjects: whether subjects and cases are named.
    """
    of_domain = _segmented if scores.header.task == "segmentation" else _classified
    rows: list[dict[str, Any]] = []
    for domain in ordered_domains(scores, line):
        try:
            found = of_domain(scores, line, domain)
        except EvaluationError:
            continue  # said of the domain
        rows += [{"domain": domain, "role": line.role(domain), **row} for row in found]
    # names decide between equal changes, so that the order is always the same
    rows.sort(key=lambda row: (row["change"], row["domain"], row["subject"], row["case"]))
    hidden = {} if with_subjects else {"subject": None, "case": None}
    return tuple(CaseChange(number=number, **{**row, **hidden}) for number, row in enumerate(rows, 1))


def _compared(scores: Scores, domain: str, before: str, after: str, structures: Sequence[str]) -> dict[str, Any]:
    """Interval, test and a note on what was left out, of one pair of releases on one domain."""
    if scores.header.task == "classification":
        interval, test = _kappas(scores, domain, before, after)
        return {"interval": interval, "test": test}
    changes = paired_changes(scores, before, after, domain, structures)
    later = {subject: changes.before[subject] + change for subject, change in changes.change.items()}
    notes = [f"{changes.absent} scores left out, absent from truth and prediction"] if changes.absent else []
    notes += [f"{changes.invented} drawn where there is none, which counts as a loss of 1"] if changes.invented else []
    return {
        "interval": compare_means(changes.change, threshold=_NOTHING),
        "test": paired_test(changes.before, later),
        "note": "; ".join(notes) or None,
    }


def _kappas(scores: Scores, domain: str, before: str, after: str) -> tuple[Comparison, PairedTest]:
    grades, header = paired_grades(scores, before, after, domain), scores.header
    interval = compare_kappas(
        grades.truth,
        grades.before,
        grades.after,
        subjects=grades.subjects,
        classes=len(header.structures),
        threshold=_NOTHING,
        weights="linear" if header.ordinal else "none",
        is_unchanged=grades.is_unchanged,
    )
    return interval, grade_error_test(grades.truth, grades.before, grades.after, grades.subjects)


def _since(scores: Scores, domain: str, line: Line) -> Comparison | None:
    """The change since the domain was learnt; None where the parent learnt it, or that release was not scored."""
    learnt = line.learnt.get(domain)
    if learnt is None or learnt in (line.parent, line.candidate):
        return None
    try:
        found: Comparison = _compared(scores, domain, learnt, line.candidate, scores.header.structures[1:])["interval"]
    except EvaluationError:
        return None
    return found


def _structure_means(scores: Scores, domain: str, release: str, metric: str = "dice") -> dict[str, float]:
    """What a release scores on each structure, as in the train-test matrix; nothing where it was not scored."""
    own = [one for one in scores.header.releases if one.id == release]
    found = subject_scores(scores, tuple(own), domain, metric)
    if not found.subjects:
        return {}
    means = defined_mean(found.values[0], axis=0)
    named = zip(scores.header.structures[1:], means.tolist(), strict=True)
    return {structure: value for structure, value in named if not np.isnan(value)}


def _segmented(scores: Scores, line: Line, domain: str) -> list[dict[str, Any]]:
    rows = []
    pairs, _, _ = paired_cases(scores, line.parent, line.candidate, domain, scores.header.structures[1:])
    for (subject, case), own in pairs.group_by(_CASE, maintain_order=True):
        worst = own.row(int(own["change"].arg_min() or 0), named=True)
        before, change = (float(own[name].to_numpy().mean()) for name in ("before", "change"))
        rows.append(
            {
                "subject": subject,
                "case": case,
                "before": before,
                "after": before + change,
                "change": change,
                "structure": worst["structure"],
                "structure_change": worst["change"],
            }
        )
    return rows


def _classified(scores: Scores, line: Line, domain: str) -> list[dict[str, Any]]:
    paired_grades(scores, line.parent, line.candidate, domain)  # raises where the two cannot be compared
    names = scores.header.structures
    sides = []
    for release in (line.parent, line.candidate):
        own = scores.table.filter((pl.col("domain") == domain) & (pl.col("release") == release))
        classes = own.filter(pl.col("metric").is_in(["truth", "prediction"]))
        given = {
            row[:2]: row[2:]
            for row in classes.pivot("metric", index=_CASE, values="value")
            .select(*_CASE, "truth", "prediction")
            .iter_rows()
        }
        likely = own.filter(pl.col("metric") == "probability").select(*_CASE, "structure", "value")
        sides.append((given, {row[:3]: row[3] for row in likely.iter_rows()}))
    rows = []
    for case, (truth, was) in sides[0][0].items():
        name = names[int(truth)]
        before, after = (likely[*case, name] for _, likely in sides)
        rows.append(
            {
                "subject": case[0],
                "case": case[1],
                "before": before,
                "after": after,
                "change": after - before,
                "truth": name,
                "was": names[int(was)],
                "now": names[int(sides[1][0][case][1])],
            }
        )
    return rows
