"""MAS-LR with dropout."""

from __future__ import annotations

from perdure.importance import MAS
from perdure.methods.method import Method
from perdure.regularization import LearningRate
from perdure.types import Granularity, Statistics


def mas_lr_dropout(granularity: Granularity = "filter", batch_norm: Statistics = "target") -> Method:
    """MAS-LR on a network that has had dropout from its first domain on.

    Source: Özgün et al. 2020, Table 1 ("MAS-LR-Dropout"). Train the base release with `--dropout 0.2`.
    """
    return Method(
        name="mas-lr-dropout",
        source="ozgun2020importance",
        summary="mas-lr on a network with dropout",
        importance=MAS(),
        regularizer=LearningRate(),
        granularity=granularity,
        batch_norm=batch_norm,
        needs_dropout=True,
    )
