"""What does one row of scores look like?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.evaluation.surface import SurfaceDistances
    from perdure.types import Task

SCHEMA: dict[str, type[pl.DataType]] = {
    "release": pl.String,
    "domain": pl.String,
    "subject": pl.String,
    "case": pl.String,
    "structure": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
}
"""The columns of the table, and nothing else."""

IDENTITY = ("release", "domain", "subject", "case", "structure", "metric")
"""The columns that tell one row from another."""


class Metric(NamedTuple):
    """What a metric's rows look like: its task, what one row is about, the values it may take, and which are good."""

    task: Task
    level: Literal["structure", "case", "domain"]
    low: float
    high: float
    better: Literal["larger", "smaller"] = "larger"


METRICS: dict[str, Metric] = {
    "dice": Metric("segmentation", "structure", 0, 1),
    "hd95": Metric("segmentation", "structure", 0, np.inf, "smaller"),
    "assd": Metric("segmentation", "structure", 0, np.inf, "smaller"),
    "probability": Metric("classification", "structure", 0, 1),
    "prediction": Metric("classification", "case", 0, np.inf),
    "truth": Metric("classification", "case", 0, np.inf),
    "kappa": Metric("classification", "domain", -1, 1),
    "accuracy": Metric("classification", "domain", 0, 1),
    "auc": Metric("classification", "domain", 0, 1),
}
"""The metrics by the names that the table uses."""

DISTANCES = tuple(name for name, metric in METRICS.items() if metric.better == "smaller")
"""The distances among them: in the unit that the header of the scores names, without an upper bound, 0 at best."""


def segmentation_rows(
    release: str,
    domain: str,
    subject: str,
    case: str,
    structures: Sequence[str],
    dice: NDArray[np.float64],
    distances: SurfaceDistances | None = None,
) -> pl.DataFrame:
    """The rows of one segmented case: the Dice of each structure (background included), null where it is NaN.

    With `distances` also those of each structure; null for the background.
    """
    found = {"dice": dice} if distances is None else {"dice": dice, "hd95": distances.hd95, "assd": distances.assd}
    return pl.concat(
        [_rows(release, domain, subject, case, structures, metric, values) for metric, values in found.items()]
    )


def classification_rows(
    release: str, domain: str, subject: str, case: str, classes: Sequence[str], probability: NDArray[Any], truth: int
) -> pl.DataFrame:
    """The rows of one classified case: its probabilities `(classes,)`, the most probable class, and the true one."""
    return pl.concat(
        [
            _rows(release, domain, subject, case, classes, "probability", probability),
            _rows(release, domain, subject, case, [None], "prediction", [float(np.argmax(probability))]),
            _rows(release, domain, subject, case, [None], "truth", [float(truth)]),
        ]
    )


def domain_rows(release: str, domain: str, scores: Mapping[str, float]) -> pl.DataFrame:
    """The rows of one domain's scores as a whole, by metric (see `classification_scores`), null where one is NaN."""
    return pl.concat([_rows(release, domain, None, None, [None], metric, [score]) for metric, score in scores.items()])


def _rows(
    release: str,
    domain: str,
    subject: str | None,
    case: str | None,
    structures: Sequence[str | None],
    metric: str,
    values: Sequence[float] | NDArray[Any],
) -> pl.DataFrame:
    fixed = {"release": release, "domain": domain, "subject": subject, "case": case}
    columns = {name: [text] * len(structures) for name, text in fixed.items()}
    table = pl.DataFrame(
        {**columns, "structure": structures, "metric": [metric] * len(structures), "value": np.asarray(values, float)},
        schema=SCHEMA,
    )
    return table.with_columns(pl.col("value").fill_nan(None))
