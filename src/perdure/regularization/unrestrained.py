"""No restraint."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.regularization.base import Regularizer


@dataclass(frozen=True)
class Unrestrained(Regularizer):
    """Plain training: no penalty, no change of any step."""

    name = "unrestrained"

    needs_importance = False
