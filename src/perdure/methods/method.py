"""A method is data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from perdure.importance import Importance, Scaling
from perdure.importance.base import check_choice
from perdure.regularization import Regularizer
from perdure.types import Granularity, Statistics

Data: TypeAlias = Literal["target", "cumulative"]


@dataclass(frozen=True)
class Method:
    """How a model is updated: importance, regularizer, granularity, batch-norm policy, and what it trains on.

    Args:
        name: the published name, as on the command line.
        source: citation key of the publication, or who wrote it.
        summary: one line on what it does.
        importance: how much each parameter matters; None where nothing is measured.
        regularizer: what importance does to a step.
        scaling: how raw importance becomes weights.
        granularity: whether weights are kept for each parameter, kernel or filter.
        batch_norm: whose statistics batch norm uses in training and afterwards: `target` (those of the new domain) or
            `original` (those that the release carries; they do not change by a bit).
        data: `target` trains on the new domain alone, `cumulative` also on all earlier ones (an upper bound that
            needs the old data).
    """

    name: str
    source: str
    summary: str
    importance: Importance | None
    regularizer: Regularizer
    scaling: Scaling = field(default_factory=Scaling)
    granularity: Granularity = "parameter"
    batch_norm: Statistics = "target"
    data: Data = "target"

    def __post_init__(self) -> None:
        check_choice("granularity", self.granularity, Granularity)
        check_choice("batch_norm", self.batch_norm, Statistics)
        check_choice("data", self.data, Data)

    def record(self) -> dict[str, Any]:
        """The method as plain JSON values, for a release and the evidence."""
        record = asdict(self)
        for part in ("importance", "regularizer"):
            value = getattr(self, part)
            record[part] = None if value is None else {"class": type(value).__name__, **record[part]}
        return record
