"""Weight decay."""

from __future__ import annotations

from perdure.methods.method import Method
from perdure.regularization import Unrestrained
from perdure.types import Statistics


def l2(weight_decay: float = 1e-4, batch_norm: Statistics = "target") -> Method:
    """Fine-tuning with weight decay, as a baseline of continual learning.

    Source: Özgün et al. 2020, Table 1 ("Regularization ℓ2"). Train the base release with it too
    (`--weight-decay 1e-4`), as the paper does.

    Open in the paper, decided here: 1e-4; the paper gives no value.

    Args:
        weight_decay: coupled under SGD and Adam, decoupled under AdamW.
        batch_norm: see `Method`.
    """
    return Method(
        name="l2",
        source="ozgun2020importance",
        summary="fine-tuning with weight decay (baseline)",
        regularizer=Unrestrained(),
        weight_decay=weight_decay,
        batch_norm=batch_norm,
    )
