"""Scores releases on domains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from perdure.errors import EvaluationError
from perdure.evaluation.classification import classification_scores
from perdure.evaluation.dice import dice
from perdure.evaluation.prediction import Predictor
from perdure.evaluation.rows import classification_rows, domain_rows, segmentation_rows
from perdure.evaluation.scores import Header, ScoredRelease, Scores, parents_first
from perdure.evaluation.surface import surface_distances

if TYPE_CHECKING:
    from perdure.data import FolderDomain
    from perdure.release import Release
    from perdure.types import Split


def evaluate(
    releases: Sequence[Release],
    domains: Sequence[FolderDomain],
    split: Split = "test",
    *,
    surface_distance: bool = False,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Scores every release on every domain, case by case, on each case's own grid.

    Args:
        releases: of one lineage or several, in any order.
        domains: prepared with the releases' input contract.
        split: which split.
        surface_distance: whether the distances of surfaces are scored as well as Dice, see `surface_distances`: in mm
            of a volume, by the spacing of its own file, and in pixels of a picture.
        device: where the networks run.
        progress: told how many cases of how many are done.

    Raises:
        EvaluationError: if releases and domains do not share one contract, or one of them is there twice; if surfaces
            are asked for in a classification.
        DataError: if a domain has no case in the split.

    Example:
        scores = perdure.evaluation.evaluate([base, candidate], [old_domain, new_domain])
    """
    _check_likeness(releases, domains)
    contract = releases[0].contract
    if surface_distance and contract.task != "segmentation":
        raise EvaluationError(
            f"Surface distances are of the structures of a segmentation; release {releases[0].name!r} is of a "
            f"{contract.task}. Leave them out (--surface-distance)."
        )
    cases = sum(row.split == split for domain in domains for row in domain.rows.values())
    total, done = len(releases) * cases, 0
    tables: list[pl.DataFrame] = []
    for release in releases:
        for domain in domains:
            predictor = Predictor(release, device, domain.name)
            for table in _tables(release.id, predictor, domain, split, surface_distance):
                tables.append(table)
                if table["case"][0] is not None:
                    done += 1
                    progress(done, total)
    header = Header(
        task=contract.task,
        ordinal=contract.ordinal,
        split=split,
        releases=parents_first([scored(release) for release in releases]),
        domains=tuple(domain.name for domain in domains),
        structures=tuple(structure.name for structure in contract.structures),
        created=datetime.now(UTC),
        unit=None if not surface_distance else ("pixels" if contract.spacing is None else "mm"),
    )
    return Scores(header, pl.concat(tables))


def scored(release: Release) -> ScoredRelease:
    """How a release stands in the header of a score file."""
    parent = release.lineage[-1].id if release.lineage else None
    return ScoredRelease(id=release.id, name=release.name, domain=release.identity.domains[-1].domain, parent=parent)


def _check_likeness(releases: Sequence[Release], domains: Sequence[FolderDomain]) -> None:
    """Everything is there once and follows one contract."""
    if not releases or not domains:
        raise EvaluationError("Name at least one release and one domain; there is nothing to score.")
    things = [
        *((f"release {release.name!r}", release.id, release.contract) for release in releases),
        *((f"domain {domain.name!r}", domain.name, domain.contract) for domain in domains),
    ]
    first = things[0]
    for place, (thing, key, contract) in enumerate(things):
        if contract != first[2]:
            raise EvaluationError(
                f"{thing} has another input contract than {first[0]}; their scores cannot be compared."
            )
        if key in (other[1] for other in things[:place]):
            raise EvaluationError(f"{thing} is named twice; name each release and each domain once.")


def _tables(
    release: str, predictor: Predictor, domain: FolderDomain, split: Split, has_distances: bool
) -> Iterator[pl.DataFrame]:
    names = [structure.name for structure in domain.contract.structures]
    if domain.contract.task == "segmentation":
        for case in domain.cases(split):
            both = predictor.classes(case.image, case.grid), case.reference()
            score, distances = dice(*both, len(names)), None
            if has_distances:
                distances = surface_distances(*both, len(names), case.grid.own_spacing)
            yield segmentation_rows(release, domain.name, case.subject, case.id, names, score, distances)
        return
    truth, probability = [], []
    for case in domain.cases(split):
        found = predictor.probabilities(case.image)[0]
        grade = int(case.reference())
        yield classification_rows(release, domain.name, case.subject, case.id, names, found, grade)
        truth.append(grade)
        probability.append(found)
    scores = classification_scores(np.array(truth), np.array(probability), ordinal=domain.contract.ordinal)
    yield domain_rows(release, domain.name, scores)
