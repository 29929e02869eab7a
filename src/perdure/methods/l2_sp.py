"""L2-SP."""

from __future__ import annotations

from perdure.importance import Uniform
from perdure.methods.method import Method
from perdure.regularization import SurrogateLoss
from perdure.types import Statistics


def l2_sp(strength: float = 1e-2, batch_norm: Statistics = "target") -> Method:
    """L2-SP: every parameter is pulled back with the same force; says what measuring importance is worth.

    Source: Li et al. 2018.

    Args:
        strength: of the pull.
        batch_norm: see `Method`.
    """
    return Method(
        name="l2-sp",
        source="li2018explicit",
        summary="pulls every parameter back with the same force (control)",
        importance=Uniform(),
        regularizer=SurrogateLoss(strength, "half"),
        batch_norm=batch_norm,
    )
