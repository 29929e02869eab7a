"""How do the scores on both domains go with the strength that restrains an update?"""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np

from perdure.benchmark.outcomes import RowOutcome, SequenceOutcome, signs
from perdure.types import Value

STRENGTH = "strength"


class Series(Value):
    """Updates that differ in nothing but their strength.

    Args:
        name: of the rows, without the strength, and with the signs of what other rows do not have.
        rows: their labels.
        domains: the first two of the sequence.
        split: what was scored: `val` where strengths are candidates of one row.
        strengths: in rising order.
        old: by strength, the mean over seeds of the score on the first domain after the update.
        new: the same on the second.
        before: both before the update.
    """

    name: str
    rows: tuple[str, ...]
    domains: tuple[str, str]
    split: Literal["train", "val", "test"]
    strengths: tuple[float, ...]
    old: tuple[float, ...]
    new: tuple[float, ...]
    before: tuple[float, float]


def series_of(outcome: SequenceOutcome) -> tuple[Series, ...]:
    """Every series of one sequence: of rows with a strength of their own, then of what single rows searched."""
    return (*_of_rows(outcome), *_of_candidates(outcome))


def _of_rows(outcome: SequenceOutcome) -> list[Series]:
    groups: dict[str, list[RowOutcome]] = {}
    for row in outcome.rows:
        if _is_number(row.row.set.get(STRENGTH)) and row.matrices:
            groups.setdefault(_but_strength(row), []).append(row)
    found = []
    for rows in groups.values():
        rows.sort(key=lambda row: _strength(row))
        after = np.array([row.mean[1, :2] for row in rows])
        before = rows[0].mean[0, :2]
        if len(rows) > 1 and np.isfinite([*after.ravel(), *before]).all():
            found.append(
                Series(
                    name=_name(rows),
                    rows=tuple(row.label for row in rows),
                    domains=(outcome.domains[0], outcome.domains[1]),
                    split=outcome.record.header.split,
                    strengths=tuple(_strength(row) for row in rows),
                    old=tuple(after[:, 0].tolist()),
                    new=tuple(after[:, 1].tolist()),
                    before=(float(before[0]), float(before[1])),
                )
            )
    return found


def _of_candidates(outcome: SequenceOutcome) -> list[Series]:
    found = []
    names = {row.label: row.marked for row in outcome.rows}
    for choice in outcome.record.header.choices:
        if choice.sequence != outcome.name:
            continue
        pairs = [
            (_number(one.settings[STRENGTH]), one.old, one.new)
            for one in choice.candidates
            if list(one.settings) == [STRENGTH] and _is_number(one.settings[STRENGTH]) and one.old and one.new
        ]
        pairs.sort()
        if len(pairs) > 1:
            found.append(
                Series(
                    name=names[choice.label],
                    rows=(choice.label,),
                    domains=(outcome.domains[0], outcome.domains[1]),
                    split="val",
                    strengths=tuple(strength for strength, _, _ in pairs),
                    old=tuple(old[1] for _, old, _ in pairs),
                    new=tuple(new[1] for _, _, new in pairs),
                    before=(pairs[0][1][0], pairs[0][2][0]),
                )
            )
    return found


def _but_strength(row: RowOutcome) -> str:
    """All that a row says, but its strength."""
    one = row.row
    own = {name: value for name, value in one.set.items() if name != STRENGTH}
    return json.dumps([one.method["name"], one.base, own, one.update, one.retain], sort_keys=True)


def _strength(row: RowOutcome) -> float:
    return _number(row.row.set[STRENGTH])


def _number(value: Any) -> float:
    return float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(rows: list[RowOutcome]) -> str:
    """The method with its settings, but the strength."""
    first = rows[0].row
    settings = [f"{name} {value}" for name, value in {**first.set, **first.update}.items() if name != STRENGTH]
    return ", ".join([str(first.method["name"]) + signs(first), *settings])
