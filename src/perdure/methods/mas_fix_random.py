"""Random freezing."""

from __future__ import annotations

from perdure.importance import MAS
from perdure.methods.method import Method
from perdure.regularization import Freezing
from perdure.types import Granularity, Statistics


def mas_fix_random(
    fraction: float = 0.25, draw: int = 0, granularity: Granularity = "kernel", batch_norm: Statistics = "target"
) -> Method:
    """Freezes as much as MAS-Fix does, drawn at random: what ranking by importance is worth (control).

    Source: the random mask in the code published with Özgün et al. 2020.

    Args:
        fraction: the share, in (0, 1].
        draw: the seed of the draw.
        granularity: see `Method`.
        batch_norm: see `Method`.
    """
    return Method(
        name="mas-fix-random",
        source="control",
        summary="freezes as much as mas-fix, drawn at random (control)",
        importance=MAS(),
        regularizer=Freezing(fraction, random=draw),
        granularity=granularity,
        batch_norm=batch_norm,
    )
