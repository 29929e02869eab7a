"""Fine-tuning at a matched learning rate."""

from __future__ import annotations

from perdure.importance import MAS
from perdure.methods.method import Method
from perdure.regularization import Unrestrained
from perdure.types import Granularity, Statistics


def finetune_lr_matched(granularity: Granularity = "filter", batch_norm: Statistics = "target") -> Method:
    """Fine-tuning at the mean rate that MAS-LR leaves: what of its effect is only a lower learning rate (control).

    The learning rate is multiplied by the mean of 1 - importance over all parameters.
    """
    return Method(
        name="finetune-lr-matched",
        source="control",
        summary="fine-tuning at the mean learning rate that mas-lr leaves (control)",
        importance=MAS(),
        regularizer=Unrestrained(),
        granularity=granularity,
        rate="matched",
        batch_norm=batch_norm,
    )
