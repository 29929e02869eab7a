"""Did any earlier domain lose more than the plan allows, and did the new one gain enough?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from perdure.evaluation import PairedTest, grade_error_test, holm, paired_test
from perdure.evaluation.noninferiority import Comparison, compare_kappas, compare_means
from perdure.evaluation.pairs import UnpairedError, paired_changes, paired_grades
from perdure.evidence.gate.verdict import Criterion, Outcome
from perdure.evidence.text import metric_title, number

if TYPE_CHECKING:
    from perdure.evaluation import ScoredRelease
    from perdure.evidence.gate.judged import Judged

Question = Literal["non-inferiority", "gain", "drift"]


@dataclass(frozen=True)
class _Compared:
    """One question and what the scores say of it, before the rule for many criteria.

    Args:
        kind: which question.
        domain: of which domain.
        structure: of which structure; None for the mean, or for kappa.
        bound: minus the margin, or the smallest gain.
        found: the comparison; None where the scores cannot be compared.
        paired: Wilcoxon's test beside it.
        note: why they cannot be compared, or what was left out.
        alike: the name of the other release, where it predicts the domain with the very tensors of the candidate.
    """

    kind: Question
    domain: str
    structure: str | None
    bound: float
    found: Comparison | None = None
    paired: PairedTest | None = None
    note: str = ""
    alike: str = ""

    @property
    def name(self) -> str:
        """Tells it from all others; a name with a space in it stands in quotes, so that two cannot look the same."""
        return " ".join([self.kind, *(named(part) for part in (self.domain, self.structure) if part is not None)])


def comparisons(judged: Judged) -> tuple[Criterion, ...]:
    """Every criterion that is an inference from subjects to others, after the plan's rule for many of them."""
    compared = list(_compared(judged))
    correct = holm if judged.plan.plan.multiplicity == "holm" else dict
    above = correct({one.name: None if one.found is None else one.found.p_above for one in compared})
    below = correct({one.name: None if one.found is None else one.found.p_below for one in compared})
    return tuple(_criterion(one, above[one.name], below[one.name], judged) for one in compared)


def _compared(judged: Judged) -> Iterator[_Compared]:
    plan = judged.plan.plan
    for domain in plan.earlier:
        for structure in plan.non_inferiority.chosen(domain, judged.foreground):
            bound = -plan.non_inferiority.of(domain, structure)
            yield _compare(judged, "non-inferiority", domain, structure, bound, judged.parent)
    for structure in plan.gain.chosen(judged.foreground):
        yield _compare(judged, "gain", judged.domain, structure, plan.gain.minimum, judged.parent)
    for domain in plan.earlier:
        for structure in plan.drift.chosen(domain, judged.foreground):
            yield _compare(
                judged, "drift", domain, structure, -plan.drift.of(domain, structure), _start(judged, domain)
            )


def _start(judged: Judged, domain: str) -> ScoredRelease | None:
    """What drift on a domain is counted from: the release that had just learnt it, or the first of the line."""
    wanted = judged.had_learnt(domain)
    return next((release for release in judged.scores.header.releases if release.id == wanted), None)


def _compare(
    judged: Judged, kind: Question, domain: str, structure: str | None, bound: float, other: ScoredRelease | None
) -> _Compared:
    if other is None:
        line = () if judged.identity is None else judged.identity.lineage
        learnt = domain in {one.domain for one in line[1:]} - {one.domain for one in line[:1]}
        start = f"the release that had just learnt {domain}" if learnt else "the first release of the line"
        who = start if kind == "drift" else "the parent of the candidate"
        return _Compared(kind, domain, structure, bound, note=f"{who} is not in the scores")
    if structure is not None and structure not in judged.scores.header.structures:
        return _Compared(kind, domain, structure, bound, note="the scores have no structure of this name")
    plan = judged.plan.plan
    margins = {"non-inferiority": plan.non_inferiority, "drift": plan.drift}.get(kind)
    try:
        if judged.scores.header.task == "segmentation":
            largest = None if margins is None else margins.largest_loss
            found, paired, note = _by_dice(judged, domain, structure, bound, other, largest)
        else:
            found, paired, note = _by_kappa(judged, domain, bound, other)
    except UnpairedError as error:
        return _Compared(kind, domain, structure, bound, note=str(error))
    alike = other.name if other.id in judged.alike.get(domain, ()) else ""
    return _Compared(kind, domain, structure, bound, found, paired, note, alike)


def _by_dice(
    judged: Judged, domain: str, structure: str | None, bound: float, other: ScoredRelease, largest: float | None
) -> tuple[Comparison, PairedTest, str]:
    plan = judged.plan.plan
    structures = judged.foreground if structure is None else (structure,)
    changes = paired_changes(judged.scores, other.id, judged.candidate.id, domain, structures)
    level = plan.each_level
    found = compare_means(changes.change, threshold=bound, level=level, wanted=plan.power, largest_loss=largest)
    lost = -min(changes.change.values())
    more = "" if largest is None or lost <= largest else (
        f"a subject lost {number(lost)}, more than the {number(largest)} that the plan holds possible, so that 1 is"
    )  # fmt: skip
    after = {subject: changes.before[subject] + change for subject, change in changes.change.items()}
    paired = paired_test(changes.before, after, level=level)
    invented = f"{changes.invented} drawn where there is none" if changes.invented else ""
    absent = f"{changes.absent} scores left out, absent from truth and prediction" if changes.absent else ""
    return found, paired, "; ".join(part for part in (more, invented, absent) if part)


def _by_kappa(judged: Judged, domain: str, bound: float, other: ScoredRelease) -> tuple[Comparison, PairedTest, str]:
    plan, header = judged.plan.plan, judged.scores.header
    grades = paired_grades(judged.scores, other.id, judged.candidate.id, domain)
    found = compare_kappas(
        grades.truth,
        grades.before,
        grades.after,
        subjects=grades.subjects,
        classes=len(header.structures),
        threshold=bound,
        weights="linear" if header.ordinal else "none",
        is_unchanged=grades.is_unchanged,
        level=plan.each_level,
        wanted=plan.power,
    )
    paired = grade_error_test(grades.truth, grades.before, grades.after, grades.subjects, level=plan.each_level)
    return found, paired, "every probability is the same" if grades.is_unchanged else ""


def _criterion(one: _Compared, above: float | None, below: float | None, judged: Judged) -> Criterion:
    found, level = one.found, judged.plan.plan.each_level
    outcome = _outcome(found, above, below) if not one.alike else _outcome_of_the_same(found)
    return Criterion(
        name=one.name,
        kind=one.kind,
        domain=one.domain,
        structure=one.structure,
        outcome=outcome,
        reason=_reason(one, outcome, judged),
        estimate=None if found is None else found.estimate,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
        bound=one.bound,
        level=level,
        p=None if found is None else found.p_above,
        adjusted_p=above,
        n=None if found is None else found.n,
        needed=found.needed if found is not None and outcome == "undecided" else None,
        paired=one.paired,
    )


def _outcome(found: Comparison | None, above: float | None, below: float | None) -> Outcome:
    """Met or violated only where an interval and a p that may decide are there and agree."""
    if found is None or not found.is_decided or found.low is None or found.high is None:
        return "undecided"
    if above is not None and above <= found.level / 2 and found.low > found.threshold:
        return "met"
    if below is not None and below <= found.level / 2 and found.high < found.threshold:
        return "violated"
    return "undecided"


def _outcome_of_the_same(found: Comparison | None) -> Outcome:
    """Releases that predict a domain alike cannot have lost there; scores that say otherwise are not theirs."""
    return "met" if found is not None and found.estimate == 0 and found.is_same else "undecided"


def _reason(one: _Compared, outcome: Outcome, judged: Judged) -> str:
    found = one.found
    if found is None or found.estimate is None:
        return f"Not computed: {one.note if found is None else found.reason}."
    level = 1 - found.level
    ends = f" [{_signed(found.low)}, {_signed(found.high)}] ({100 * level:g} %)" if found.low is not None else ""
    people = f"{found.n} subject{'' if found.n == 1 else 's'}"
    parts = [f"{metric_title(judged.plan.plan.metric)} changed by {_signed(found.estimate)}{ends} in {people}"]
    if one.alike and outcome == "met":
        same = f"{one.alike} and the candidate predict {one.domain} with the very same tensors: nothing can change"
        return f"{parts[0].replace(ends, '')}; {same}."
    if one.alike:
        parts.append(f"{one.alike} predicts {one.domain} with the very same tensors, and yet the scores differ")
    parts.append(_against(one, outcome, found))
    if found.is_same and found.is_decided:
        share = (found.level / 2) ** (1 / found.n)
        sure = f"{100 - 50 * found.level:g} %"
        parts.append(f"all changed by the same, which at least {share:.0%} of such subjects do ({sure})")
    if one.paired is not None:
        effect = "" if one.paired.effect is None else f", effect {_signed(one.paired.effect)}"
        what = "Wilcoxon" if judged.plan.plan.metric == "dice" else "Wilcoxon of how many grades cases are off"
        parts.append(f"{what} {one.paired.said()}{effect}")
    if one.note:
        parts.append(one.note)
    return "; ".join(parts) + "."


def _against(one: _Compared, outcome: Outcome, found: Comparison) -> str:
    bound = f"the margin of {number(-one.bound)}" if one.kind != "gain" else f"the smallest gain of {number(one.bound)}"
    if outcome == "met":
        return f"within {bound}" if one.kind != "gain" else f"above {bound}"
    if outcome == "violated":
        return f"a loss beyond {bound}" if one.kind != "gain" else f"below {bound}"
    if found.reason is not None:
        return found.reason
    enough = "no number of subjects like these would show it" if found.needed is None else ""
    return f"cannot be told from {bound}; {enough or f'some {found.needed} subjects like these would do'}"


def named(part: str) -> str:
    """A name as it stands in the name of a criterion: in quotes where it could be read as two or as part of another."""
    return repr(part) if set(part) & set(" '\"=") else part


def _signed(value: float | None) -> str:
    return number(value, signed=True)


def undecided_needs(criteria: Sequence[Criterion]) -> int | None:
    """How many subjects would do for all that is undecided; None where that is not known of every one of them."""
    needs = [one.needed for one in criteria if one.outcome == "undecided"]
    return None if not needs or None in needs else max(need for need in needs if need is not None)
