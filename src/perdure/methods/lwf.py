"""Learning without forgetting."""

from __future__ import annotations

from perdure.methods.method import Method
from perdure.regularization import Distillation
from perdure.types import Statistics


def lwf(strength: float = 1.0, temperature: float = 2.0, batch_norm: Statistics = "target") -> Method:
    """Learning without forgetting: keeps the parent release's answers on the new domain's images.

    Source: Li and Hoiem 2017.

    Args:
        strength: λ of `Distillation`.
        temperature: T of `Distillation`.
        batch_norm: see `Method`.
    """
    return Method(
        name="lwf",
        source="li2017learning",
        summary="keeps the parent release's answers on the new images (distillation)",
        regularizer=Distillation(strength, temperature),
        batch_norm=batch_norm,
    )
