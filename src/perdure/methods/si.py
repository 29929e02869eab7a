"""Synaptic intelligence."""

from __future__ import annotations

from perdure.importance import SI
from perdure.methods.method import Method
from perdure.regularization import SurrogateLoss
from perdure.types import Statistics


def si(strength: float = 0.1, batch_norm: Statistics = "target") -> Method:
    """Synaptic intelligence: a quadratic weighted by what each parameter did for the loss along its path.

    Source: Zenke et al. 2017. It is gathered while the base release trains: `perdure train --measure si`.

    Decided here: importance is clipped, scaled to [0, 1] and averaged over domains, as for MAS; the paper takes it raw
    and adds it up.

    Args:
        strength: stands where the paper has c, but its values do not carry over, because of the scaling.
        batch_norm: see `Method`.
    """
    return Method(
        name="si",
        source="zenke2017continual",
        summary="pulls parameters back by what they did for the loss while it was learnt",
        importance=SI(),
        regularizer=SurrogateLoss(strength, "none"),
        batch_norm=batch_norm,
    )
