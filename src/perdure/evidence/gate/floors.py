"""Did any subject, structure, subgroup or domain that was seen fall too low, or lose too much?

These are observations: a floor that is broken is broken, one that holds says nothing of subjects that were not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from perdure.evaluation import confusion, kappa
from perdure.evaluation.pairs import UnpairedError, paired_changes, paired_grades
from perdure.evidence.gate.comparisons import named
from perdure.evidence.gate.verdict import Criterion
from perdure.evidence.text import metric_title, number

if TYPE_CHECKING:
    from perdure.evidence.gate.judged import Judged
    from perdure.evidence.gate.plan import Subgroup

Kind = Literal["floor", "worst case", "subgroup"]


class Seen(NamedTuple):
    """A value, from how many subjects it is, of whom in words, and the subject where it is one."""

    value: float
    n: int
    whose: str
    subject: str | None = None


def floors(judged: Judged) -> tuple[Criterion, ...]:
    """Every criterion about what was seen."""
    return (*_floors(judged), *_subgroups(judged))


def _floors(judged: Judged) -> Iterator[Criterion]:
    plan = judged.plan.plan
    wanted = plan.floors
    for domain in _domains(judged):
        if wanted.domain is not None:
            yield _held(judged, "floor", f"floor {named(domain)}", domain, wanted.domain, lambda d: _mean(judged, d))
        if wanted.structure is not None:
            name = f"worst structure {named(domain)}"
            yield _held(judged, "worst case", name, domain, wanted.structure, lambda d: _structure(judged, d))
        if wanted.subject is not None:
            name = f"worst subject {named(domain)}"
            yield _held(judged, "worst case", name, domain, wanted.subject, lambda d: _subject(judged, d))
    for domain in plan.earlier:
        if wanted.structure_loss is not None:
            name = f"worst structure's loss {named(domain)}"
            value_of = partial(_structure, judged, loss=True)
            yield _held(judged, "worst case", name, domain, -wanted.structure_loss, value_of, loss=True)
        if wanted.subject_loss is not None:
            name = f"worst subject's loss {named(domain)}"
            value_of = partial(_subject, judged, loss=True)
            yield _held(judged, "worst case", name, domain, -wanted.subject_loss, value_of, loss=True)


def _subgroups(judged: Judged) -> Iterator[Criterion]:
    for one in judged.plan.plan.subgroups:
        for domain in one.domains or _domains(judged):
            of = judged.scores.header.groups.get(one.column, {}).get(domain, {})
            values = sorted(set(of.values())) if one.value is None else [one.value]
            for value in values or ["(any)"]:
                yield from _subgroup(judged, one, domain, value, {who for who, has in of.items() if has == value})


def _subgroup(judged: Judged, one: Subgroup, domain: str, value: str, members: Collection[str]) -> Iterator[Criterion]:
    subgroup = f"{named(one.column)}={named(value)}"
    name = f"{named(domain)} {subgroup}"

    def enough(seen: Callable[[str], Seen]) -> Callable[[str], Seen]:
        def checked(where: str) -> Seen:
            if not members:
                raise UnpairedError(
                    f"no subject of {where} is known to have {subgroup}; evaluate with --group {one.column}"
                )
            found = seen(where)
            if found.n < one.subjects:
                raise UnpairedError(f"{found.n} subjects of {where} have {subgroup}; the plan asks for {one.subjects}")
            return found

        return checked

    if one.floor is not None:
        value_of = enough(lambda d: _mean(judged, d, members))
        yield _held(judged, "subgroup", f"subgroup {name}", domain, one.floor, value_of, subgroup)
    if one.loss is not None and domain in judged.plan.plan.earlier:
        value_of = enough(lambda d: _mean(judged, d, members, loss=True))
        yield _held(judged, "subgroup", f"subgroup's loss {name}", domain, -one.loss, value_of, subgroup, loss=True)


def _held(
    judged: Judged,
    kind: Kind,
    name: str,
    domain: str,
    bound: float,
    value_of: Callable[[str], Seen],
    subgroup: str | None = None,
    *,
    loss: bool = False,
) -> Criterion:
    """The criterion that a value is at least the bound; minus a loss is a value too."""
    about = {"name": name, "kind": kind, "domain": domain, "subgroup": subgroup, "bound": bound}
    try:
        value, n, whose, subject = value_of(domain)
    except UnpairedError as error:
        return Criterion.model_validate({**about, "outcome": "undecided", "reason": f"Not computed: {error}."})
    if np.isnan(value):
        reason = "Not computed: kappa is not defined, truth and prediction hold one class."
        return Criterion.model_validate({**about, "outcome": "undecided", "reason": reason, "n": n})
    metric = metric_title(judged.plan.plan.metric)
    is_met = value >= bound
    what = f"{metric} changed by {number(value, signed=True)}" if loss else f"{metric} {number(value)}"
    limit = f"the largest loss is {number(-bound)}" if loss else f"the floor is {number(bound)}"
    reason = f"{what} {whose}; {limit}{'' if is_met else ', which is broken'}."
    outcome = "met" if is_met else "violated"
    found = {"outcome": outcome, "reason": reason, "estimate": value, "n": n, "subject": subject}
    return Criterion.model_validate({**about, **found})


def _mean(judged: Judged, domain: str, members: Collection[str] | None = None, *, loss: bool = False) -> Seen:
    """The mean over subjects, or kappa, of the candidate; or what it changed since the parent."""
    if judged.scores.header.task == "classification":
        return _kappa(judged, domain, members, loss=loss)
    values = {who: value for who, value in _by_subject(judged, domain, loss=loss).items() if _is_in(who, members)}
    if not values:
        raise UnpairedError(f"none of these subjects has a score on {domain}")
    return Seen(float(np.mean(list(values.values()))), len(values), f"in {_people(len(values))}")


def _kappa(judged: Judged, domain: str, members: Collection[str] | None, *, loss: bool) -> Seen:
    candidate, header = judged.candidate.id, judged.scores.header
    grades = paired_grades(judged.scores, _parent(judged) if loss else candidate, candidate, domain)
    chosen = np.array([_is_in(who, members) for who in grades.subjects])
    if not chosen.any():
        raise UnpairedError(f"none of these subjects has a score on {domain}")
    classes, weights = len(header.structures), "linear" if header.ordinal else "none"
    after, before = (
        float(kappa(confusion(grades.truth[chosen], side[chosen], classes), weights))  # type: ignore[arg-type]
        for side in (grades.after, grades.before)
    )
    n = len({who for who, is_one in zip(grades.subjects, chosen, strict=True) if is_one})
    return Seen(after - before if loss else after, n, f"in {_people(n)}")


def _structure(judged: Judged, domain: str, *, loss: bool = False) -> Seen:
    """The structure that fares worst; where one cannot be computed, nobody knows which that is."""
    found = {}
    for structure in _structures(judged):
        values = _by_subject(judged, domain, [structure], loss=loss)
        found[structure] = float(np.mean(list(values.values()))), len(values)
    worst = min(found, key=lambda name: found[name][0])
    value, n = found[worst]
    return Seen(value, n, f"in {worst}, the worst of {len(found)} structures, {_people(n)}")


def _subject(judged: Judged, domain: str, *, loss: bool = False) -> Seen:
    """The subject that fares worst."""
    values = _by_subject(judged, domain, loss=loss)
    worst = min(values, key=values.__getitem__)
    return Seen(values[worst], len(values), f"in the worst of {_people(len(values))}", worst)


def _by_subject(
    judged: Judged, domain: str, structures: Collection[str] | None = None, *, loss: bool
) -> Mapping[str, float]:
    """By subject the mean over structures of the candidate, or its change since the parent."""
    candidate = judged.candidate.id
    parent = _parent(judged) if loss else candidate
    changes = paired_changes(judged.scores, parent, candidate, domain, structures or _structures(judged))
    return changes.change if loss else changes.before


def _structures(judged: Judged) -> tuple[str, ...]:
    wanted = judged.plan.plan.floors.structures
    chosen = judged.foreground if wanted == "each" else wanted
    if strange := [name for name in chosen if name not in judged.scores.header.structures]:
        raise UnpairedError(f"the scores have no structure {', '.join(strange)}")
    return chosen


def _parent(judged: Judged) -> str:
    if judged.parent is None:
        raise UnpairedError("the parent of the candidate is not in the scores")
    return judged.parent.id


def _domains(judged: Judged) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*judged.plan.plan.earlier, judged.domain]))


def _is_in(subject: str, members: Collection[str] | None) -> bool:
    return members is None or subject in members


def _people(n: int) -> str:
    return f"{n} subject{'' if n == 1 else 's'}"
