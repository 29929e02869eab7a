"""Dropout."""

from __future__ import annotations

from perdure.methods.method import Method
from perdure.regularization import Unrestrained
from perdure.types import Statistics


def dropout(batch_norm: Statistics = "target") -> Method:
    """Fine-tuning of a network that has had dropout from its first domain on.

    Source: Özgün et al. 2020, Table 1. Dropout belongs to the network: train the base release with `--dropout 0.2`.
    """
    return Method(
        name="dropout",
        source="ozgun2020importance",
        summary="fine-tuning of a network with dropout (baseline)",
        regularizer=Unrestrained(),
        needs_dropout=True,
        batch_norm=batch_norm,
    )
