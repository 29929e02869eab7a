"""A method is data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from perdure.errors import MethodError, check_choice
from perdure.importance import Importance
from perdure.models import Trainable
from perdure.regularization import Regularizer
from perdure.types import Granularity, Statistics

Data: TypeAlias = Literal["target", "cumulative", "replay", "none"]
Source: TypeAlias = Literal["paper", "authors"]

OURS = "perdure"
"""Who brought a method that Perdure ships."""


@dataclass(frozen=True)
class Method:
    """How a model is updated: importance, regularizer, granularity, batch-norm policy, and what it trains on.

    Args:
        name: the published name, as on the command line.
        source: citation key of the publication, or who wrote it.
        summary: one line on what it does.
        regularizer: what importance does to a step.
        importance: how much each parameter matters, and how that is scaled; None where nothing is measured.
        granularity: whether weights are averaged for each parameter, kernel or filter.
        batch_norm: what batch norm does in training and afterwards, see `perdure.types.Statistics`.
        trainable: which parameters train.
        data: `target` trains on the new domain alone; `cumulative` also on all earlier ones (an upper bound that needs
            the old data); `replay` also on a few cases of earlier ones (which stores patient data); `none` trains on
            nothing.
        rate: the recipe's learning rate is multiplied by this; `matched` by the mean of 1 - importance. Each of several
            is trained with, and the one with the lowest loss on the new domain's validation samples stays.
        weight_decay: replaces the recipe's; None leaves it.
        needs_dropout: whether the network must have dropout.
        recipe: `paper` follows the publication, `authors` the code published with it, where the two differ.
        by: who brought it: `perdure`, the distribution and version that registers it, or the file that composes it.
    """

    name: str
    source: str
    summary: str
    regularizer: Regularizer
    importance: Importance | None = None
    granularity: Granularity = "parameter"
    batch_norm: Statistics = "target"
    trainable: Trainable = "all"
    data: Data = "target"
    rate: float | Literal["matched"] | tuple[float, ...] = 1.0
    weight_decay: float | None = None
    needs_dropout: bool = False
    recipe: Source = "paper"
    by: str = OURS

    def __post_init__(self) -> None:
        check_choice("granularity", self.granularity, Granularity)
        check_choice("batch_norm", self.batch_norm, Statistics)
        check_choice("trainable", self.trainable, Trainable)
        check_choice("data", self.data, Data)
        check_choice("recipe", self.recipe, Source)
        if isinstance(self.rate, list):  # as TOML and JSON have it
            object.__setattr__(self, "rate", tuple(self.rate))
        if self.rate != "matched" and not _are_rates(self.rate if isinstance(self.rate, tuple) else (self.rate,)):
            raise MethodError(f"`rate` must be above 0, several different such, or 'matched'; got {self.rate!r}.")
        if self.weight_decay is not None and not (_is_number(self.weight_decay) and self.weight_decay >= 0):
            raise MethodError(f"`weight_decay` must be at least 0; got {self.weight_decay!r}.")
        if self.batch_norm == "frozen" and self.trainable == "batch-norm":
            raise MethodError(f"Method {self.name!r} trains batch norm alone and freezes it: nothing is left to train.")
        if (self.regularizer.needs_importance or self.rate == "matched") and self.importance is None:
            raise MethodError(f"Method {self.name!r} needs an importance measure; give it one.")
        in_unit_range = self.importance is None or self.importance.scaling.range == "unit"
        if (self.regularizer.needs_unit_range or self.rate == "matched") and not in_unit_range:
            raise MethodError(
                f"Method {self.name!r} takes importance for a share of the step, in [0, 1], and its measure leaves it "
                'raw. Give the measure a scaling with range = "unit" (and outliers = "clip").'
            )

    def record(self) -> dict[str, Any]:
        """The method as plain JSON values, for a release and the evidence."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        importance = None if self.importance is None else self.importance.settings()
        rate = list(self.rate) if isinstance(self.rate, tuple) else self.rate
        return {**plain, "rate": rate, "importance": importance, "regularizer": self.regularizer.settings()}


def said(record: Mapping[str, Any]) -> str:
    """The name of a recorded method, and who brought it where that was not us."""
    name, by = str(record.get("name", "")), record.get("by", OURS)
    return name if by == OURS else f"{name} (by {by})"


def _are_rates(values: tuple[Any, ...]) -> bool:
    return all(_is_number(value) and value > 0 for value in values) and len(values) == len(set(values)) > 0


def _is_number(value: object) -> bool:
    # a file or a command line may say anything
    return isinstance(value, int | float) and not isinstance(value, bool)
