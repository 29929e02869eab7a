"""Is an update needed? What the shift of new scans suggests.

The limits were chosen on few data (docs/check.md says which, and how often the advice was right elsewhere). They are
settings of this version, not of nature.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from perdure.evaluation.shift import FEWEST_SUBJECTS
from perdure.types import Task, Value

if TYPE_CHECKING:
    from perdure.evaluation.shift_of_scans import Shift, Shifts

State: TypeAlias = Literal["in contract", "shifted", "out of scope", "not comparable"]
Suggestion: TypeAlias = Literal["nothing", "recalibrate", "update", "do not use", "label and evaluate"]

LEVEL = 0.05
STRONG = 0.5
"""Distance from which scans count as shifted whatever intensities are; and from which a segmentation is suggested to
be updated, not recalibrated."""
CERTAIN = 1.0
"""Distance from which scans count as shifted whatever the test says: where activations explode they differ so much from
subject to subject that no test can tell."""
ALIKE = 0.07
"""Kolmogorov-Smirnov distance of intensities below which layers may be off by their lag alone."""
MOST_REFUSED = 0.5
"""Share of scans that may break the contract before the whole set is out of scope."""


def mild(subjects: int) -> float:
    r"""Distance of layers, in old deviations, from which scans count as shifted if chance is ruled out.

    .. math:: 0.15 + \frac{0.4}{\sqrt n}

    n subjects of the same site are off together by more than their own spread says, the fewer the more.
    """
    return 0.15 + 0.4 / math.sqrt(subjects)


def other_intensities(subjects: int) -> float:
    r"""Kolmogorov-Smirnov distance of intensities from which they count as others, for a network without batch norm.

    .. math:: 0.06 + \frac{0.4}{\sqrt n}
    """
    return 0.06 + 0.4 / math.sqrt(subjects)


_MANY = 100


class Advice(Value):
    """What `perdure check` says.

    Args:
        state: `in contract`, `shifted`, `out of scope`, or `not comparable` where the release keeps nothing that scans
            could be compared with.
        suggestion: what to do.
        reasons: why, a sentence each, with the figures.
        like: the learnt domain that the scans are nearest to; None if none could be compared.
    """

    state: State
    suggestion: Suggestion
    reasons: tuple[str, ...]
    like: str | None


def advice(shifts: Shifts, task: Task, *, level: float = LEVEL) -> Advice:
    """What the shift of new scans suggests.

    Args:
        shifts: of the scans.
        task: of the release. Statistics alone are suggested for a segmentation only: they follow how a scan looks, and
            not who is in it.
        level: that p is held against after correction for the number of layers, in (0, 1).
    """
    refused, total = len(shifts.refused), shifts.scans + len(shifts.refused)
    reasons = [f"{refused} of {total} scans do not follow the contract."] if refused else []
    if not shifts.domains or refused > MOST_REFUSED * total:
        return Advice(state="out of scope", suggestion="do not use", reasons=tuple(reasons), like=None)
    if shifts.unnamed:
        reasons.append(
            f"Nobody says whose scans {shifts.unnamed} of these files are: each counts as a subject of its own, and "
            "chance is ruled out too soon where some are of one. Name subjects in manifest.csv."
        )
    nearest = shifts.domains[0]
    if nearest.distance is None and nearest.intensities is None:
        reasons.append("Nothing can be compared: no batch norm, and no intensities are kept.")
        return Advice(state="not comparable", suggestion="label and evaluate", reasons=tuple(reasons), like=None)
    is_shifted, far = _judged(nearest, shifts.subjects, level, reasons)
    if not is_shifted:
        if shifts.subjects < FEWEST_SUBJECTS:
            reasons.append(f"Of {shifts.subjects} subject(s) this means little: nothing could be tested.")
        return Advice(state="in contract", suggestion="nothing", reasons=tuple(reasons), like=nearest.like)
    by_statistics = task == "segmentation" and bool(nearest.layers) and far < STRONG
    suggestion: Suggestion = "recalibrate" if by_statistics else "update"
    return Advice(state="shifted", suggestion=suggestion, reasons=tuple(reasons), like=nearest.like)


def _judged(shift: Shift, subjects: int, level: float, reasons: list[str]) -> tuple[bool, float]:
    """Whether scans count as shifted, and how far; adds the reasons.

    Running statistics lag behind weights that move fast, so that layers alone can look shifted on the release's own
    site. Where intensities are alike to a hair, layers count only if they are strongly shifted.
    """
    ks = shift.intensities
    if shift.distance is None:
        assert ks is not None
        return _compared(ks.distance, other_intensities(subjects), shift.like, reasons), ks.distance
    alike = ks is not None and not _compared(ks.distance, ALIKE, shift.like, reasons)
    far = shift.distance
    what = f"Layers are {far:.2f} old deviations from {shift.like}"
    if far < mild(subjects):
        reasons.append(f"{what}, below {mild(subjects):.2f}.")
        if far >= mild(_MANY):
            reasons.append(f"Of {_MANY} subjects this would count as shifted: {subjects} are few, check more scans.")
        return False, far
    tested = "" if shift.p is None else f"; p {shift.p:.2g}"
    few = f"; {subjects} subject(s) are too few for a test" if shift.p is None else ""
    reasons.append(f"{what}, above {mild(subjects):.2f}{tested}{few}.")
    if far < CERTAIN and shift.p is not None and shift.p > level:
        reasons.append("Chance is not ruled out.")
        return False, far
    return far >= STRONG or not alike, far


def _compared(distance: float, limit: float, like: str, reasons: list[str]) -> bool:
    """Whether intensities are others; adds the reason."""
    side = "above" if distance >= limit else "below"
    reasons.append(f"Intensities are {distance:.2f} (Kolmogorov-Smirnov) from {like}, {side} {limit:.2f}.")
    return distance >= limit
