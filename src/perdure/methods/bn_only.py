"""Batch norm only."""

from __future__ import annotations

from perdure.methods.method import Method
from perdure.regularization import Unrestrained
from perdure.types import Statistics


def bn_only(batch_norm: Statistics = "target") -> Method:
    """Trains γ and β of batch norm alone; everything else is frozen, the classifier too.

    Source: Gupta et al. 2020, section 2.2; Karani et al. 2018 (there one set a domain: `batch_norm="per-domain"`).
    """
    return Method(
        name="bn-only",
        source="gupta2020unreasonable",
        summary="trains batch norm alone",
        regularizer=Unrestrained(),
        trainable="batch-norm",
        batch_norm=batch_norm,
    )
