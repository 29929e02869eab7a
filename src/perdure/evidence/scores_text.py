"""Scores in words, tables and JSON for the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from perdure.errors import EvaluationError
from perdure.evaluation import DISTANCES, Scores, TrainTestMatrix, mean_scores, one_sided, summary, train_test_matrix
from perdure.evidence.text import (
    forgotten_sentences,
    matrix_table,
    measures_table,
    metric_title,
    number,
    with_no_update,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

METRICS = {"segmentation": ("dice",), "classification": ("kappa", "accuracy", "auc")}
"""What is shown of each task; the first is what measures are given of. Distances besides, where they were scored."""


def scores_renderables(scores: Scores) -> list[RenderableType]:
    """What each release scores on each domain; of each whole lineage also the matrix and what was forgotten."""
    matrices, reasons = _matrices(scores)
    shown: list[RenderableType] = []
    if not matrices or reasons or scores.header.task == "classification":
        shown += [_means(scores, metric) for metric in METRICS[scores.header.task]]
    shown += [Text(f"No train-test matrix of {name}: {why}") for name, why in reasons.items()]
    shown += story_renderables(matrices) if matrices else []
    return [*shown, *_distance_renderables(scores)]


def scores_record(scores: Scores) -> dict[str, Any]:
    """The same as plain JSON values; `no_matrix` says of which line of releases there is none, and why.

    Rows of distances have their unit, and how many structures of cases are in no mean because only truth or only
    prediction has them.
    """
    names = {release.id: release.name for release in scores.header.releases}
    rows = [
        {"release": release, "name": names[release], "domain": domain, "metric": metric, "value": value}
        for metric in METRICS[scores.header.task]
        for (release, domain), value in mean_scores(scores, metric).items()
    ]
    lacking = one_sided(scores)
    rows += [
        {
            "release": release,
            "name": names[release],
            "domain": domain,
            "metric": metric,
            "value": value,
            "unit": scores.header.unit,
            "one_sided": lacking.get((release, domain), 0),
        }
        for metric in _distances(scores)
        for (release, domain), value in mean_scores(scores, metric).items()
    ]
    matrices, reasons = _matrices(scores)
    return {
        "split": scores.header.split,
        "scores": rows,
        "matrices": {name: matrix_record(matrix) for name, matrix in matrices.items()},
        "no_matrix": reasons,
    }


def matrix_record(matrix: TrainTestMatrix) -> dict[str, Any]:
    """A train-test matrix and its measures as plain JSON values; NaN becomes null."""
    values = [[None if cell != cell else cell for cell in row] for row in matrix.mean.tolist()]
    return {
        "metric": matrix.metric,
        "domains": list(matrix.domains),
        "R": values,
        "measures": summary(matrix).model_dump(mode="json"),
    }


def story_renderables(matrices: Mapping[str, TrainTestMatrix]) -> list[RenderableType]:
    """One matrix a method with what it forgot, and all measures beside those of no update."""
    shown: list[RenderableType] = []
    for name, matrix in matrices.items():
        title = f"{name}: {metric_title(matrix.metric)} on each domain, after learning each"
        shown += [matrix_table(matrix, title=title), Text("\n".join(forgotten_sentences(matrix))), ""]
    return [*shown, measures_table(with_no_update(matrices))]


def _matrices(scores: Scores) -> tuple[dict[str, TrainTestMatrix], dict[str, str]]:
    """By the last release of each line its matrix of the first metric, or why it has none."""
    releases = scores.header.releases
    last = [release for release in releases if release.id not in {other.parent for other in releases}]
    names = [release.name for release in last]
    matrices, reasons = {}, {}
    for release in last:
        name = release.name if names.count(release.name) == 1 else f"{release.name} ({release.id[:8]})"
        if release.parent is None:
            reasons[name] = "it has no parent, so nothing was forgotten yet."
            continue
        try:
            matrices[name] = train_test_matrix(scores, METRICS[scores.header.task][0], last=release.id)
        except EvaluationError as error:
            reasons[name] = str(error)
    return matrices, reasons


def _distances(scores: Scores) -> tuple[str, ...]:
    return () if scores.header.unit is None else DISTANCES


def _distance_renderables(scores: Scores) -> list[RenderableType]:
    tables: list[RenderableType] = [_means(scores, metric) for metric in _distances(scores)]
    words = "Smaller is better."
    if one_sided(scores):
        words += (
            " In brackets: structures of cases that only truth or only prediction has. They have no distance and are "
            "in no mean; their Dice is 0."
        )
    return [*tables, Text(words)] if tables else []


def _means(scores: Scores, metric: str) -> Table:
    is_distance = metric in DISTANCES
    unit, lacking = (f" in {scores.header.unit}", one_sided(scores)) if is_distance else ("", {})
    title = Text(f"{metric_title(metric)}{unit} on the {scores.header.split} split")
    table = Table("release", title=title, title_justify="left", box=SIMPLE_HEAD)
    for domain in scores.header.domains:
        table.add_column(Text(f"on {domain}"), justify="right", min_width=6)
    found = mean_scores(scores, metric)
    for release in scores.header.releases:
        places = [(release.id, domain) for domain in scores.header.domains]
        cells = [number(found.get(place)) + (f" ({lacking[place]})" if place in lacking else "") for place in places]
        table.add_row(Text(release.name), *cells)
    return table
