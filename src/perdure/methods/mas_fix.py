"""MAS-Fix."""

from __future__ import annotations

from perdure.methods.authors import mas_importance
from perdure.methods.method import Method, Source
from perdure.regularization import Freezing
from perdure.types import Granularity, Statistics


def mas_fix(
    fraction: float = 0.25,
    granularity: Granularity = "kernel",
    batch_norm: Statistics = "target",
    recipe: Source = "paper",
) -> Method:
    """Freezes the kernels that matter most to each domain, up to a share of the network a domain.

    Source: Özgün et al. 2020, section 2.2; kernel level and a share of 0.25 as chosen there.

    Args:
        fraction: the share, in (0, 1].
        granularity: see `Method`.
        batch_norm: see `Method`.
        recipe: `authors` ranks the scaled importance of all domains so far instead of the newest domain's raw one, and
            multiplies gradients by the mask, so that momentum and decay still move what is frozen.
    """
    return Method(
        name="mas-fix",
        source="ozgun2020importance",
        summary="freezes the kernels that matter most to the earlier domains",
        importance=mas_importance(recipe),
        regularizer=Freezing(fraction) if recipe == "paper" else Freezing(fraction, hold="gradient", rank="average"),
        granularity=granularity,
        batch_norm=batch_norm,
        recipe=recipe,
    )
