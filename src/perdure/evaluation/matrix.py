"""The train-test matrix: what every release of one lineage scores on every domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from perdure.errors import EvaluationError
from perdure.evaluation.rows import METRICS
from perdure.types import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.evaluation.scores import Header, ScoredRelease, Scores


class Loss(Value):
    """How much one domain (or one structure of it) lost after it was learnt.

    Args:
        domain: which domain.
        structure: which structure; None for the domain as a whole.
        release: the name of the release after which it is measured.
        before: the score right after the domain was learnt.
        after: the score of that later release.
        loss: before minus after; negative where the domain gained.
    """

    domain: str
    structure: str | None = None
    release: str
    before: float
    after: float
    loss: float


@dataclass(frozen=True, eq=False)
class SubjectScores:
    """One domain's scores, subject by subject, for paired comparisons between releases.

    Args:
        subjects: their names, sorted.
        values: `(releases, subjects, structures)`, a mean over each subject's cases, NaN where there is none.
    """

    subjects: tuple[str, ...]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrainTestMatrix:
    """R[i, j]: the score on domain j after learning domain i, both in the order of learning.

    Source: Özgün et al. 2020, section 2.3 and Fig. 2a.

    Args:
        metric: the metric by its name in the scores, for example `dice`.
        releases: one a row.
        domains: those that were learnt, one a row and column.
        structures: the structures that are scored one by one, background excluded; none for kappa, accuracy and AUC.
        values: R for each structure `(domains, domains, structures)`, or `(domains, domains, 1)` without structures. A
            mean over each subject's cases, then over subjects; what could not be scored is NaN and skipped.
        unseen: scored domains that no release learnt.
        unseen_values: the same for them `(domains, unseen, structures)`.
        per_subject: by domain, learnt or not; empty for kappa, accuracy and AUC.
    """

    metric: str
    releases: tuple[ScoredRelease, ...]
    domains: tuple[str, ...]
    structures: tuple[str, ...]
    values: NDArray[np.float64]
    unseen: tuple[str, ...]
    unseen_values: NDArray[np.float64]
    per_subject: Mapping[str, SubjectScores]

    @property
    def mean(self) -> NDArray[np.float64]:
        """R as one number a cell `(domains, domains)`: the mean over structures."""
        return defined_mean(self.values, axis=-1)

    @property
    def unseen_mean(self) -> NDArray[np.float64]:
        """The same for domains that were never learnt `(domains, unseen)`."""
        return defined_mean(self.unseen_values, axis=-1)

    @property
    def change(self) -> NDArray[np.float64]:
        """R[i, j] - R[j, j] for the domains learnt before i `(domains, domains)`; NaN elsewhere."""
        return np.where(_is_earlier(self.mean), self.mean - np.diagonal(self.mean), np.nan)

    @property
    def left_out(self) -> int:
        """How many values of a subject and structure could not be scored and are in no mean, over all releases."""
        return sum(int(np.isnan(scores.values).sum()) for scores in self.per_subject.values())

    def no_update(self) -> TrainTestMatrix:
        """The control that every method is held against: the first release, left as it is at every stage."""
        stages = len(self.domains)
        return replace(
            self,
            releases=(self.releases[0],) * stages,
            values=np.repeat(self.values[:1], stages, axis=0),
            unseen_values=np.repeat(self.unseen_values[:1], stages, axis=0),
            per_subject={
                name: SubjectScores(scores.subjects, np.repeat(scores.values[:1], stages, axis=0))
                for name, scores in self.per_subject.items()
            },
        )

    def worst_domain(self, *, over_all_stages: bool = False) -> Loss | None:
        """The earlier domain that lost most, by the mean over structures.

        Args:
            over_all_stages: compares every later release, not only the last one.

        Returns:
            The largest loss (negative where even the worst one gained); None where there is no earlier domain.
        """
        return self._worst(self.mean[..., None], (None,), over_all_stages)

    def worst_structure(self, *, over_all_stages: bool = False) -> Loss | None:
        """The structure of an earlier domain that lost most; see `worst_domain`. None without structures."""
        return self._worst(self.values, self.structures, over_all_stages) if self.structures else None

    def _worst(self, R: NDArray[np.float64], structures: tuple[str | None, ...], over_all_stages: bool) -> Loss | None:
        learnt = np.diagonal(R).T  # (domains, structures)
        loss = np.where(_is_earlier(R)[..., None], learnt - R, np.nan)
        first = 0 if over_all_stages else len(R) - 1
        if np.isnan(loss[first:]).all():
            return None
        i, j, k = np.unravel_index(np.nanargmax(loss[first:]), loss[first:].shape)
        i = i + first
        return Loss(
            domain=self.domains[j],
            structure=structures[k],
            release=self.releases[i].name,
            before=float(learnt[j, k]),
            after=float(R[i, j, k]),
            loss=float(loss[i, j, k]),
        )


def train_test_matrix(scores: Scores, metric: str, *, last: str | None = None) -> TrainTestMatrix:
    """Arranges the scores of one lineage.

    Args:
        scores: releases from the first one on, each scored on the same cases of all domains.
        metric: `dice`, `kappa`, `accuracy` or `auc`.
        last: the id of the release whose lineage is meant; needed only where the scores hold several.

    Raises:
        EvaluationError: if a release, a domain or a case is missing, or the lineage is not one line of domains.
    """
    kind = METRICS.get(metric)
    if kind is not None and kind.better == "smaller":
        raise EvaluationError(
            f"{scores.source}: no train-test matrix of {metric!r}: it is a distance, smaller is better and there is no "
            "largest one, and what is kept, gained or lost is measured of scores of which larger is better; use dice."
        )
    if kind is None or kind.task != scores.header.task or kind.level == "case" or metric == "probability":
        raise EvaluationError(
            f"{scores.source}: no train-test matrix of {metric!r} for {scores.header.task}; "
            f"use {'dice' if scores.header.task == 'segmentation' else 'kappa, accuracy or auc'}."
        )
    releases = _lineage(scores, last)
    learnt = tuple(release.domain for release in releases)
    unseen = tuple(domain for domain in scores.header.domains if domain not in learnt)
    structures = scores.header.structures[1:] if kind.level == "structure" else ()
    table = scores.table.filter(pl.col("metric") == metric)
    _check_cells(scores, table, metric, releases, learnt + unseen)
    if structures:
        per_subject = {domain: _per_subject(table, releases, domain, structures) for domain in learnt + unseen}
        columns = {domain: defined_mean(one.values, axis=1) for domain, one in per_subject.items()}
    else:
        per_subject = {}
        columns = {domain: _of_domain(table, releases, domain) for domain in learnt + unseen}
    empty = np.empty((len(releases), 0, max(1, len(structures))))
    return TrainTestMatrix(
        metric=metric,
        releases=releases,
        domains=learnt,
        structures=structures,
        values=np.stack([columns[domain] for domain in learnt], axis=1),
        unseen=unseen,
        unseen_values=np.stack([columns[domain] for domain in unseen], axis=1) if unseen else empty,
        per_subject=per_subject,
    )


def subject_scores(
    scores: Scores, releases: tuple[ScoredRelease, ...], domain: str, metric: str = "dice"
) -> SubjectScores:
    """The scores of several releases on one domain, subject by subject and structure by structure.

    Args:
        scores: of a segmentation.
        releases: in the order of the first axis; all scored on the same cases of the domain.
        domain: which.
        metric: Dice, or a distance.
    """
    table = scores.table.filter(pl.col("metric") == metric)
    return _per_subject(table, releases, domain, scores.header.structures[1:])


def defined_mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The mean of what is not NaN; NaN, without a warning, where nothing is."""
    defined = ~np.isnan(values)
    total = np.where(defined, values, 0.0).sum(axis=axis)
    count = defined.sum(axis=axis)
    return np.asarray(np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0))


def _is_earlier(R: NDArray[np.float64]) -> NDArray[np.bool_]:
    """True where column j was learnt before row i."""
    return np.tri(len(R), k=-1, dtype=np.bool_)


def _lineage(scores: Scores, last: str | None) -> tuple[ScoredRelease, ...]:
    header = scores.header
    by_id = {release.id: release for release in header.releases}
    release = by_id.get(last) if last is not None else _only_end(header, scores.source)
    if release is None:
        raise EvaluationError(f"{scores.source}: release {last!r} was not scored; scored are: {', '.join(by_id)}.")
    line = [release]
    while release.parent is not None:
        parent = by_id.get(release.parent)
        if parent is None:
            raise EvaluationError(
                f"{scores.source}: release {release.name!r} was updated from {release.parent!r}, which was not "
                "scored. Evaluate every release since the first one; what was forgotten is not known without them."
            )
        line.append(parent)
        release = parent
    learnt = [release.domain for release in reversed(line)]
    twice = sorted({domain for domain in learnt if learnt.count(domain) > 1})
    if twice:
        raise EvaluationError(
            f"{scores.source}: domain {twice[0]!r} was learnt more than once ({' -> '.join(learnt)}); a train-test "
            "matrix needs each domain once. Compare the releases two by two instead."
        )
    missing = [domain for domain in learnt if domain not in header.domains]
    if missing:
        raise EvaluationError(
            f"{scores.source}: domain {missing[0]!r} was learnt but not scored; evaluate the releases on it too."
        )
    return tuple(reversed(line))


def _only_end(header: Header, source: str) -> ScoredRelease:
    parents = {release.parent for release in header.releases}
    ends = [release for release in header.releases if release.id not in parents]
    if len(ends) != 1:
        names = ", ".join(f"{release.id} ({release.name})" for release in ends)
        raise EvaluationError(f"{source}: the scores hold {len(ends)} lineages; say which one ends in: {names}.")
    return ends[0]


def _check_cells(
    scores: Scores, table: pl.DataFrame, metric: str, releases: tuple[ScoredRelease, ...], domains: tuple[str, ...]
) -> None:
    """Every release must have been scored on every domain, on the same cases."""
    expected: dict[str, set[tuple[str | None, ...]]] = {}
    for domain in domains:
        for release in releases:
            rows = table.filter((pl.col("release") == release.id) & (pl.col("domain") == domain))
            cases = set(rows.select("subject", "case").iter_rows())
            if not cases:
                raise EvaluationError(
                    f"{scores.source}: release {release.name!r} has no {metric} on domain {domain!r}; "
                    "evaluate it there too."
                )
            differing = cases ^ expected.setdefault(domain, cases)
            if differing:
                subject, case = min(differing, key=str)
                raise EvaluationError(
                    f"{scores.source}: releases {releases[0].name!r} and {release.name!r} were scored on different "
                    f"cases of domain {domain!r} (case {case!r} of subject {subject!r} among others); evaluate both on "
                    "the same ones."
                )


def _per_subject(
    table: pl.DataFrame, releases: tuple[ScoredRelease, ...], domain: str, structures: tuple[str, ...]
) -> SubjectScores:
    rows = table.filter((pl.col("domain") == domain) & pl.col("structure").is_in(structures))
    means = rows.group_by("release", "subject", "structure", maintain_order=True).agg(pl.col("value").mean())
    subjects = tuple(sorted(set(rows["subject"])))
    place = {
        "release": {release.id: i for i, release in enumerate(releases)},
        "subject": {subject: s for s, subject in enumerate(subjects)},
        "structure": {structure: k for k, structure in enumerate(structures)},
    }
    values = np.full((len(releases), len(subjects), len(structures)), np.nan)
    for release, subject, structure, value in means.iter_rows():
        if release in place["release"] and value is not None:
            index = place["release"][release], place["subject"][subject], place["structure"][structure]
            values[index] = value
    return SubjectScores(subjects, values)


def _of_domain(table: pl.DataFrame, releases: tuple[ScoredRelease, ...], domain: str) -> NDArray[np.float64]:
    rows = table.filter(pl.col("domain") == domain)
    by_release = dict(rows.select("release", "value").iter_rows())
    values = [by_release[release.id] for release in releases]
    return np.array([np.nan if value is None else value for value in values])[:, None]
