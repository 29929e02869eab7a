"""What the code published with Özgün et al. 2020 does, where it differs from the paper."""

from __future__ import annotations

from perdure.importance import AUTHORS, MAS
from perdure.methods.method import Source

FLOOR = 1e-7
"""The least learning rate of any parameter there."""


def mas_importance(recipe: Source) -> MAS:
    """MAS as the paper has it; or with 5th and 95th percentiles, a logarithm, and domains weighed by their samples."""
    if recipe == "paper":
        return MAS()
    return MAS(scaling=AUTHORS, accumulation="samples")
