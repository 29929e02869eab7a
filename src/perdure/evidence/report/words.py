"""How is an interval of a change written?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.evidence.text import number

if TYPE_CHECKING:
    from perdure.evaluation.noninferiority import Comparison


def interval_said(one: Comparison) -> str:
    """As `−0.012 [−0.030, +0.004] (95 %, 8 subjects)`, or why there is none."""
    if one.estimate is None:
        return f"not computed ({one.reason})"
    estimate = number(one.estimate, signed=True)
    if one.low is None or one.high is None:
        return f"{estimate} (no interval: {one.reason})"
    ends = f"[{number(one.low, signed=True)}, {number(one.high, signed=True)}]"
    return f"{estimate} {ends} ({100 - 100 * one.level:g} %, {one.n} subjects)"
