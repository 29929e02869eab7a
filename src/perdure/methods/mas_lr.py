"""MAS-LR."""

from __future__ import annotations

from perdure.methods.authors import FLOOR, mas_importance
from perdure.methods.method import Method, Source
from perdure.regularization import LearningRate
from perdure.types import Granularity, Statistics


def mas_lr(granularity: Granularity = "filter", batch_norm: Statistics = "target", recipe: Source = "paper") -> Method:
    """Slows each filter down by its importance: Eq. 1, clipped and scaled to [0, 1], then Eq. 3.

    Source: Özgün et al. 2020, section 2.2; filter level as chosen there on validation sets.

    Open in the paper, decided here: batch norm is not mentioned; `target`, as a network is usually trained.

    Args:
        granularity: see `Method`.
        batch_norm: see `Method`.
        recipe: `authors` takes 5th and 95th percentiles and a logarithm before [0, 1], and never goes below a rate of
            1e-7.
    """
    return Method(
        name="mas-lr",
        source="ozgun2020importance",
        summary="slows each filter down by its importance to the earlier domains",
        importance=mas_importance(recipe),
        regularizer=LearningRate(floor=FLOOR if recipe == "authors" else 0.0),
        granularity=granularity,
        batch_norm=batch_norm,
        recipe=recipe,
    )
