"""Domain-specific batch norm."""

from __future__ import annotations

from perdure.methods.method import Method
from perdure.regularization import Unrestrained


def dsbn(rate: float = 16.0) -> Method:
    """Gives the new domain a batch norm of its own and moves nothing else: earlier domains keep their outputs.

    Source: Karani et al. 2018, "A Lifelong Learning Approach to Brain MR Segmentation Across Scanners and Protocols".

    Decided here: γ and β train at 16 times the recipe's rate, see docs/decisions/0020-the-default-of-an-update.md.

    Args:
        rate: the recipe's learning rate is multiplied by this.
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
