"""MAS-LR."""

from __future__ import annotations

from perdure.importance import MAS
from perdure.methods.method import Method
from perdure.regularization import LearningRate
from perdure.types import Granularity, Statistics


def mas_lr(granularity: Granularity = "filter", batch_norm: Statistics = "target") -> Method:
    """Slows each filter down by its importance: Eq. 1, clipped and scaled to [0, 1], then Eq. 3.

    Source: Özgün et al. 2020, section 2.2; filter level as chosen there on validation sets.

    Open in the paper, decided here: batch norm is not mentioned; `target`, as a network is usually trained.
    """
    return Method(
        name="mas-lr",
        source="ozgun2020importance",
        summary="slows each filter down by its importance to the earlier domains",
        importance=MAS(),
        regularizer=LearningRate(),
        granularity=granularity,
        batch_norm=batch_norm,
    )
