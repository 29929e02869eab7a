"""MAS."""

from __future__ import annotations

from perdure.methods.authors import mas_importance
from perdure.methods.method import Method, Source
from perdure.regularization import SurrogateLoss
from perdure.regularization.surrogate_loss import Norm
from perdure.types import Granularity, Statistics


def mas(
    strength: float = 2.85e-3,
    norm: Norm = "none",
    granularity: Granularity = "parameter",
    batch_norm: Statistics = "target",
    recipe: Source = "paper",
) -> Method:
    """MAS with its surrogate loss: Eq. 1, clipped and scaled, then Eq. 2 divided by the number of parameters.

    Source: Özgün et al. 2020, section 2.1, Eqs. 1 and 2; one anchor, the newest.

    Open in the paper, decided here: what acts is λ / P. The paper's 1e4 over QuickNAT's 3.5 million parameters is
    2.85e-3, and that carries over to other networks; 1e4 does not.

    Args:
        strength: λ / P, or λ with `norm="parameters"`.
        norm: see `SurrogateLoss`.
        granularity: the paper saw no gain from averaging here.
        batch_norm: see `Method`.
        recipe: `authors` measures importance as their code does.
    """
    return Method(
        name="mas",
        source="ozgun2020importance",
        summary="pulls important parameters back to where they were (surrogate loss)",
        importance=mas_importance(recipe),
        regularizer=SurrogateLoss(strength, norm),
        granularity=granularity,
        batch_norm=batch_norm,
        recipe=recipe,
    )
