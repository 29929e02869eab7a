"""Fine-tuning."""

from __future__ import annotations

from perdure.methods.method import Method
from perdure.regularization import Unrestrained
from perdure.types import Statistics


def finetune(batch_norm: Statistics = "target") -> Method:
    """Trains on the new domain as if there were no other: the lower bound.

    Source: Özgün et al. 2020, Table 1; Gupta et al. 2020, section 3.2 (λ = 0).
    """
    return Method(
        name="finetune",
        source="ozgun2020importance",
        summary="trains on the new domain, nothing is protected (lower bound)",
        regularizer=Unrestrained(),
        batch_norm=batch_norm,
    )
