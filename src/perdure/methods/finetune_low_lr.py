"""Fine-tuning at a low learning rate."""

from __future__ import annotations

from perdure.methods.method import Method
from perdure.regularization import Unrestrained
from perdure.types import Statistics


def finetune_low_lr(rate: float = 0.1, batch_norm: Statistics = "target") -> Method:
    """Fine-tuning at a fraction of the learning rate: the control that many published gains must beat.

    Args:
        rate: times the recipe's learning rate.
        batch_norm: see `Method`.
    """
    return Method(
        name="finetune-low-lr",
        source="control",
        summary="fine-tuning at a tenth of the learning rate (control)",
        regularizer=Unrestrained(),
        rate=rate,
        batch_norm=batch_norm,
    )
