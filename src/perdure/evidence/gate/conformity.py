"""Was the update one that the plan allows, and was the plan fixed before anybody saw a score?

None of these criteria is a matter of chance: each is met, outside the plan, or undecided where the record is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from perdure.evidence.gate.verdict import Criterion, Outcome
from perdure.evidence.ledger.recording import case_ids
from perdure.evidence.ledger.workspace import made

if TYPE_CHECKING:
    from perdure.evidence.gate.judged import HashedScores, Judged
    from perdure.evidence.gate.plan import Modifications, Range
    from perdure.evidence.ledger.ledger import Entry
    from perdure.release import Identity

METRIC = {"dice": "segmentation", "kappa": "classification"}

_NO_RELEASE = "the release folder of the candidate is not in the workspace, so nobody can tell how it was made"


def conformity(judged: Judged) -> tuple[Criterion, ...]:
    """Every criterion that is no matter of chance."""
    return (*_plan(judged), *_modifications(judged), *_data(judged), *_looks(judged))


def _plan(judged: Judged) -> Iterator[Criterion]:
    plan, header = judged.plan.plan, judged.scores.header
    yield _declared(judged)
    is_test = header.split == "test"
    yield _is("plan", "split", is_test, f"the scores are of the {header.split} split; the plan is about test")
    fits = METRIC[plan.metric] == header.task
    yield _is("plan", "metric", fits, f"the plan is about {plan.metric}, the scores are of a {header.task}")
    unnamed = sorted(set(_earlier(judged)) - set(plan.earlier))
    said = f"not named as earlier: {', '.join(unnamed)}" if unnamed else "every domain learnt before is named"
    yield _is("plan", "earlier domains", not unnamed, said)
    if plan.first is not None:
        found = None if judged.identity is None else (*(one.id for one in judged.identity.lineage), "")[0]
        first = judged.first.id if judged.first is not None else found
        if first is None:
            yield _criterion("plan", "first release", "undecided", "nobody can tell which release the line began with")
        else:
            said = f"the line began with {first[:12] or 'the candidate'}; the plan says {plan.first[:12]}"
            yield _is("plan", "first release", first == plan.first, said)


def _declared(judged: Judged) -> Criterion:
    """Whether this very file was in force at the candidate's first look, written before the update and any score."""
    name = "declared"
    declared = [entry for entry in judged.entries if entry.action == "declared"]
    ours = [entry for entry in declared if entry.details.get("plan") == judged.plan.sha256]
    if not declared:
        said = "no plan was ever declared in the ledger; run `perdure gate --plan ... --declare` before the update"
        return _criterion("plan", name, "outside plan", said)
    looks = [entry.number for entry in _test_looks(judged) if entry.release == judged.candidate.id]
    first_look = min(looks, default=None)
    before = [entry for entry in declared if first_look is None or entry.number < first_look]
    if not before:
        said = "the candidate had been scored on a test split before any plan was declared"
        return _criterion("plan", name, "outside plan", said)
    in_force = before[-1]
    if in_force.details.get("plan") != judged.plan.sha256:
        found = f"{in_force.details.get('name')}, SHA-256 {str(in_force.details.get('plan'))[:12]}"
        later = "; this one was declared after the scores existed" if ours else ""
        said = f"this file (SHA-256 {judged.plan.sha256[:12]}) is not the plan in force, {found}{later}"
        return _criterion("plan", name, "outside plan", f"{said}; it was edited, or is another")
    update = made(judged.entries).get(judged.candidate.id)
    if update is not None and update.number < in_force.number and update.details.get("found") is not True:
        said = f"declared {_day(in_force.time)}, after the candidate was made {_day(update.time)}"
        return _criterion("plan", name, "outside plan", f"{said}; a plan is to be written before the update")
    if said := _replaced(judged, declared, in_force):
        return _criterion("plan", name, "outside plan", said)
    early = [file for file in judged.files if _has(judged, file) and file.scores.header.created < in_force.time]
    if early:
        said = f"{early[0].scores.source} was scored {_day(early[0].scores.header.created)}, before the plan was"
        return _criterion("plan", name, "outside plan", f"{said} declared {_day(in_force.time)}")
    return _criterion("plan", name, "met", f"declared {_day(in_force.time)}, before the first look")


def _replaced(judged: Judged, declared: Sequence[Entry], in_force: Entry) -> str:
    """What is wrong if the plan took the place of another whose scores were known by then; empty where nothing is."""
    plan = judged.plan.plan
    line = {judged.candidate.id, *judged.ancestors, *_descendants(judged)}
    for look in _test_looks(judged):
        if look.release in line or look.details.get("domain") not in (*plan.earlier, *plan.modifications.domains):
            continue
        before = [e for e in declared if e.number < look.number < in_force.number and _sha256(e) != _sha256(in_force)]
        if before:
            return (
                f"release {str(look.release)[:12]} was scored on the test split of {look.details.get('domain')} under "
                f"another plan, {_plan_name(before[-1])}, before this one, {_plan_name(in_force)}, was declared; "
                "whoever wrote it may have known those scores"
            )
    return ""


def _test_looks(judged: Judged) -> Iterator[Entry]:
    return (e for e in judged.entries if e.action == "looked" and e.details.get("split") == "test")


def _descendants(judged: Judged) -> frozenset[str]:
    """The releases that the ledger says were updated from the candidate, or from one that was."""
    parents = {who: entry.details.get("parent") for who, entry in made(judged.entries).items()}
    found: set[str] = set()
    while more := {who for who, of in parents.items() if of in (judged.candidate.id, *found)} - found:
        found |= more
    return frozenset(found)


def _sha256(declared: Entry) -> str:
    return str(declared.details.get("plan"))


def _plan_name(declared: Entry) -> str:
    return f"{declared.details.get('name')} (SHA-256 {_sha256(declared)[:12]})"


def _has(judged: Judged, file: HashedScores) -> bool:
    return judged.candidate.id in {release.id for release in file.scores.header.releases}


def _earlier(judged: Judged) -> tuple[str, ...]:
    """The domains that the candidate had learnt before its update, as far as they are known."""
    if judged.identity is not None:
        return tuple(seen.domain for seen in judged.identity.domains[:-1])
    return tuple(one.domain for one in judged.scores.header.releases if one.id in judged.ancestors)


def _modifications(judged: Judged) -> Iterator[Criterion]:
    allowed, identity = judged.plan.plan.modifications, judged.identity
    domain = judged.domain
    said = f"updated to {domain}; allowed {_or(allowed.domains)}"
    yield _is("modification", "domain", domain in allowed.domains, said)
    if not judged.is_update:
        yield _criterion("modification", "update", "outside plan", "the candidate has no parent; it is no update")
    if identity is None:
        for what in ("method", "batch norm", "strength", *sorted(_places(allowed))):
            yield _criterion("modification", what, "undecided", _NO_RELEASE)
        return
    method, batch_norm = identity.method.get("name"), identity.method.get("batch_norm")
    yield _is("modification", "method", method in allowed.methods, f"by {method}; allowed {_or(allowed.methods)}")
    yield _is(
        "modification",
        "batch norm",
        batch_norm in allowed.batch_norm,
        f"batch norm {batch_norm}; allowed {_or(allowed.batch_norm)}",
    )
    yield _strength(identity, allowed.strength.get(str(method)))
    for place, values in allowed.settings.get(str(method), {}).items():
        yield _setting(identity, place, values)


def _places(allowed: Modifications) -> set[str]:
    return {place for places in allowed.settings.values() for place in places}


def _setting(identity: Identity, place: str, allowed: Range | tuple[str | bool | int | float, ...]) -> Criterion:
    """Whether a setting of the method or the recipe is one that the plan allows."""
    root, *way = place.split(".")
    found: Any = getattr(identity, root)
    for step in way:
        found = found.get(step) if isinstance(found, Mapping) else None
    if isinstance(allowed, tuple):
        # true is no 1 here
        holds = any(type(found) is type(value) and found == value for value in allowed)
        said = f"{place} {found!r}; allowed {_or(tuple(map(repr, allowed)))}"
        return _is("modification", place, holds, said)
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    said = f"{place} {found!r}{'' if is_number else ' is no number'}; allowed {allowed.said()}"
    return _is("modification", place, is_number and allowed.holds(found), said)


def _strength(identity: Identity, bounds: Range | None) -> Criterion:
    if bounds is None:
        return _criterion("modification", "strength", "met", "the plan sets no bounds for this method")
    regularizer = identity.method.get("regularizer")
    strength = regularizer.get("strength") if isinstance(regularizer, dict) else None
    if isinstance(strength, bool) or not isinstance(strength, int | float):
        said = f"strength {strength!r} is no number; allowed {bounds.said()}"
        return _criterion("modification", "strength", "outside plan", said)
    return _is("modification", "strength", bounds.holds(strength), f"strength {strength:g}; allowed {bounds.said()}")


def _data(judged: Judged) -> Iterator[Criterion]:
    amounts = judged.plan.plan.data
    for what, bounds in (("subjects", amounts.subjects), ("cases", amounts.cases)):
        if bounds is None:
            continue
        if judged.identity is None:
            yield _criterion("data", what, "undecided", _NO_RELEASE)
            continue
        counts = judged.identity.domains[-1].counts
        found = (counts.subjects if what == "subjects" else counts.cases).get("train", 0)
        said = f"trained on {found} {what} of {judged.domain}; allowed {bounds.said()}"
        yield _is("data", what, bounds.holds(found), said)


def _looks(judged: Judged) -> Iterator[Criterion]:
    """How often each test split was looked at: once for each candidate and each set of cases that it was scored on.

    A release that is scored again on the same cases gives the same numbers. On other cases it gives others, so that
    whoever leaves some out, or adds some, has looked once more.
    """
    at_most = judged.plan.plan.looks.at_most
    hashes = {file.sha256 for file in judged.files}
    recorded = {entry.details.get("scores") for entry in judged.entries if entry.action in ("evaluated", "looked")}
    strange = [file.scores.source for file in judged.files if file.sha256 not in recorded]
    said = f"not recorded in the ledger, so nobody knows where they are from: {', '.join(strange)}"
    if strange:
        yield _criterion("looks", "score files", "undecided", said)
    else:
        yield _criterion("looks", "score files", "met", "the ledger has every score file, byte for byte")
    domains = dict.fromkeys([*judged.plan.plan.earlier, judged.domain])
    line = judged.ancestors | _descendants(judged)
    for domain in domains:
        looks = [
            entry
            for entry in _test_looks(judged)
            if entry.details.get("domain") == domain
            and entry.release not in line
            # scored beside its own updates, the candidate is no candidate any more
            and (
                entry.release != judged.candidate.id
                or entry.number < _first_update_of(judged)
                or entry.details.get("scores") in hashes
            )
        ]
        found, candidates = _counted(looks), len({entry.release for entry in looks})
        left_out = _left_out(judged, domain)
        if found > at_most:
            said = f"{candidates} candidates were scored on the test split of {domain}; the plan allows {at_most}"
            if found > candidates:
                said = f"{found} looks at the test split of {domain}, each at a candidate or at other cases; the plan "
                said += f"allows {at_most}"
            yield _criterion("looks", domain, "outside plan", said, domain)
        elif not any(e.release == judged.candidate.id and e.details.get("scores") in hashes for e in looks):
            said = f"no look at the test split of {domain} is recorded for these score files; evaluate in the workspace"
            yield _criterion("looks", domain, "undecided", said, domain)
        elif left_out:
            yield _criterion("looks", domain, "undecided", left_out, domain)
        else:
            said = f"{found} of {at_most} looks at the test split of {domain}"
            yield _criterion("looks", domain, "met", said, domain)


def _first_update_of(judged: Judged) -> float:
    """The number of the entry that the first update of the candidate was made by; infinite where there is none."""
    of = [e.number for e in made(judged.entries).values() if e.details.get("parent") == judged.candidate.id]
    return min(of, default=math.inf)


def _counted(looks: Sequence[Entry]) -> int:
    """How many looks: a candidate counts once for each set of cases; without a digest of them, once."""
    sets: dict[str | None, set[object]] = {}
    for entry in looks:
        sets.setdefault(entry.release, set()).update({entry.details.get("case_set")} - {None})
    return sum(max(1, len(found)) for found in sets.values())


def _left_out(judged: Judged, domain: str) -> str:
    """What is wrong if fewer test cases were scored than there were when the domain was learnt."""
    seen = () if judged.identity is None else judged.identity.domains
    there = next((one.counts.cases.get("test", 0) for one in seen if one.domain == domain), 0)
    scored = len(case_ids(judged.scores, judged.candidate.id, domain))
    if scored >= there:
        return ""
    return (
        f"{scored} test cases of {domain} were scored, and there were {there} when it was learnt; those left out may "
        "be the ones that lost. Score all of them"
    )


def _is(
    kind: Literal["plan", "modification", "data"],
    what: str,
    holds: bool,
    said: str,
) -> Criterion:
    return _criterion(kind, what, "met" if holds else "outside plan", said)


def _criterion(
    kind: Literal["plan", "modification", "data", "looks"],
    what: str,
    outcome: Outcome,
    said: str,
    domain: str | None = None,
) -> Criterion:
    reason = f"{said[0].upper()}{said[1:]}."
    return Criterion(name=f"{kind} {what}", kind=kind, domain=domain, outcome=outcome, reason=reason)


def _or(names: tuple[str, ...]) -> str:
    return " or ".join(names)


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"
