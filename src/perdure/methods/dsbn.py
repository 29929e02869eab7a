"""Domain-specific batch norm."""

from __future__ import annotations

from perdure.methods.method import Method
from perdure.regularization import Unrestrained

RATES = (16.0, 4.0, 64.0, 256.0)
"""The first is taken where there is no validation sample to choose by."""


def dsbn(rate: float | tuple[float, ...] = RATES) -> Method:
    """Gives the new domain a batch norm of its own and moves nothing else: earlier domains keep their outputs.

    Source: Karani et al. 2018, "A Lifelong Learning Approach to Brain MR Segmentation Across Scanners and Protocols".

    Decided here: γ and β train at 4 to 256 times the recipe's rate, whichever has the lowest loss on the new domain's
    validation samples, see docs/decisions/0020-the-default-of-an-update.md.

    Args:
        rate: the recipe's learning rate is multiplied by this; several are each trained with, see `Method`.
    """
    return Method(
        name="dsbn",
        source="karani2018lifelong",
        summary="gives each domain a batch norm of its own and moves nothing else",
        regularizer=Unrestrained(),
        trainable="batch-norm",
        batch_norm="per-domain",
        rate=rate,
    )
