"""Scores in words, tables and JSON for the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from perdure.errors import EvaluationError
from perdure.evaluation import Scores, TrainTestMatrix, summary, train_test_matrix
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
"""What is shown of each task; the first is what measures are given of."""


def scores_renderables(scores: Scores) -> list[RenderableType]:
    """What each release scores on each domain; of a whole lineage also the matrix and what was forgotten."""
    means: list[RenderableType] = [_means(scores, metric) for metric in METRICS[scores.header.task]]
    matrix, why_not = _matrix(scores)
    if matrix is None:
        return [*means, Text(f"No train-test matrix: {why_not}")]
    story = story_renderables({matrix.releases[-1].name: matrix})
    return [*means, *story] if scores.header.task == "classification" else story


def scores_record(scores: Scores) -> dict[str, Any]:
    """The same as plain JSON values; where there is no matrix, `matrix` is null and `no_matrix` says why."""
    names = {release.id: release.name for release in scores.header.releases}
    rows = [
        {"release": release, "name": names[release], "domain": domain, "metric": metric, "value": value}
        for metric in METRICS[scores.header.task]
        for (release, domain), value in _mean_values(scores, metric).items()
    ]
    matrix, why_not = _matrix(scores)
    return {
        "split": scores.header.split,
        "scores": rows,
        "matrix": None if matrix is None else matrix_record(matrix),
        "no_matrix": why_not,
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


def _matrix(scores: Scores) -> tuple[TrainTestMatrix | None, str | None]:
    """The matrix of the first metric, or why there is none."""
    if len(scores.header.releases) == 1:
        return None, "one release was scored. Name every release since the first one to see what was forgotten."
    try:
        return train_test_matrix(scores, METRICS[scores.header.task][0]), None
    except EvaluationError as error:
        return None, str(error)


def _mean_values(scores: Scores, metric: str) -> dict[tuple[str, str], float | None]:
    """By release and domain: over each subject's cases, over subjects, then over structures without background."""
    rows = scores.table.filter(pl.col("metric") == metric)
    if metric == "dice":
        rows = rows.filter(pl.col("structure") != scores.header.structures[0])
        for group in (["release", "domain", "structure", "subject"], ["release", "domain", "structure"]):
            rows = rows.group_by(group, maintain_order=True).agg(pl.col("value").mean())
        rows = rows.group_by("release", "domain", maintain_order=True).agg(pl.col("value").mean())
    return {
        (release, domain): value for release, domain, value in rows.select("release", "domain", "value").iter_rows()
    }


def _means(scores: Scores, metric: str) -> Table:
    title = Text(f"{metric_title(metric)} on the {scores.header.split} split")
    table = Table("release", title=title, title_justify="left", box=SIMPLE_HEAD)
    for domain in scores.header.domains:
        table.add_column(Text(f"on {domain}"), justify="right", min_width=6)
    found = _mean_values(scores, metric)
    for release in scores.header.releases:
        cells = [number(found.get((release.id, domain))) for domain in scores.header.domains]
        table.add_row(Text(release.name), *cells)
    return table
