"""Do scores that other sites signed fit ours, so that together they fill one train-test matrix?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from perdure.errors import EvaluationError, Problem
from perdure.evaluation import ScoredRelease, Scores, union

if TYPE_CHECKING:
    from perdure.evidence.remote.sealing import Sealed
    from perdure.types import Split


def joined(own: Scores | None, remote: Sequence[Sealed], releases: Sequence[ScoredRelease], split: Split) -> Scores:
    """All scores as one; a release goes by our own name for it, whatever the other site calls its folder.

    Args:
        own: computed here; None where nothing was.
        remote: of other sites, each with a good signature. A domain may be spread over several files.
        releases: those that are compared; each has to be scored on every remote domain.
        split: that is compared.

    Raises:
        EvaluationError: if a file is about another release, split or task, if two files about one domain come from
            other cases or another salt, or if a domain is scored here too, or not for every release.
    """
    _check_releases(remote, releases, split)
    _check_cases(remote)
    for sealed in remote:
        for domain in sealed.scores.header.domains:
            if own is not None and domain in own.header.domains:
                allowed = "scored from --data as well; leave one of them out (--domain)"
                raise _refused(sealed, f"domain {domain!r}", "one that is here too", allowed)
    _check_pairs(remote, releases)
    names = {release.id: release for release in releases}
    parts = [*([] if own is None else [own]), *(_renamed(sealed.scores, names) for sealed in remote)]
    scores = union(parts)
    # the oldest part counts: a plan that was declared later does not cover it
    created = min(part.header.created for part in parts)
    learnt = [release.domain for release in scores.header.releases]
    order = {name: place for place, name in reversed([*enumerate([*learnt, *scores.header.domains])])}
    domains = tuple(sorted(scores.header.domains, key=order.__getitem__))
    return replace(scores, header=scores.header.model_copy(update={"created": created, "domains": domains}))


def _check_releases(remote: Sequence[Sealed], releases: Sequence[ScoredRelease], split: Split) -> None:
    known = {release.id for release in releases}
    for sealed in remote:
        header = sealed.scores.header
        if header.split != split:
            raise _refused(sealed, "split", header.split, f"must be {split!r}, see --split")
        for release in header.releases:
            if release.id not in known:
                allowed = "none of --release has this id; the site must score the very releases that are compared"
                raise _refused(sealed, "release", f"{release.name} ({release.id})", allowed)


def _check_cases(remote: Sequence[Sealed]) -> None:
    first: dict[str, Sealed] = {}
    for sealed in remote:
        for domain, cases in sealed.statement.cases.items():
            other = first.setdefault(domain, sealed)
            if sealed.statement.salt != other.statement.salt:
                allowed = (
                    f"must be that of {other.scores.source}; else no case is paired. The site must score them again"
                )
                raise _refused(sealed, "salt", "another one", allowed)
            if cases != other.statement.cases[domain]:
                allowed = f"must be those of {other.scores.source}; the site must score all releases on the same cases"
                raise _refused(sealed, f"cases of domain {domain!r}", "other ones", allowed)


def _check_pairs(remote: Sequence[Sealed], releases: Sequence[ScoredRelease]) -> None:
    """Every release has the same cases in a domain."""
    for domain in dict.fromkeys(name for sealed in remote for name in sealed.scores.header.domains):
        about = [sealed for sealed in remote if domain in sealed.scores.header.domains]
        table = pl.concat([sealed.scores.table for sealed in about]).filter(pl.col("domain") == domain)
        first: set[tuple[str, ...]] | None = None
        for release in releases:
            rows = table.filter(pl.col("release") == release.id).select("subject", "case").drop_nulls()
            cases = set(rows.iter_rows())
            if not cases:
                allowed = "every release has to be scored on it; ask the site to name all of them with --release"
                raise _refused(about[0], f"domain {domain!r}", f"no score of {release.name} ({release.id})", allowed)
            first = cases if first is None else first
            if cases != first:
                allowed = f"must be those of {releases[0].name}; ask the site to score all releases on the same cases"
                raise _refused(about[0], f"cases of {release.name} in domain {domain!r}", "other ones", allowed)


def _renamed(scores: Scores, names: dict[str, ScoredRelease]) -> Scores:
    ours = tuple(names[release.id] for release in scores.header.releases)
    return replace(scores, header=scores.header.model_copy(update={"releases": ours}))


def _refused(sealed: Sealed, field: str, found: str, allowed: str) -> EvaluationError:
    return EvaluationError(str(Problem(sealed.scores.source, field, found, allowed)))
