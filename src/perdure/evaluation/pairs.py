"""Which scores of two releases belong together, and what became of each subject?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from perdure.errors import EvaluationError
from perdure.evaluation.studentized import ROUNDING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.evaluation.scores import Scores


class UnpairedError(EvaluationError):
    """Scores of two releases cannot be compared; the message says why, for the reason of a criterion."""


@dataclass(frozen=True)
class Changes:
    """What became of each subject's Dice.

    Args:
        before: by subject, the mean over structures of the mean over cases.
        change: by subject, after less before, likewise.
        absent: how many scores are missing on both sides, because truth and prediction agree that there is nothing.
        invented: how many structures the later release drew where there is none, and the earlier did not.
    """

    before: dict[str, float]
    change: dict[str, float]
    absent: int
    invented: int


@dataclass(frozen=True)
class Grades:
    """What two releases said of the same cases, `(cases,)` each.

    Args:
        truth: class indices.
        before: predicted ones.
        after: those of the later release.
        subjects: whose each case is.
        is_unchanged: whether all probabilities are the very same, bit for bit.
    """

    truth: NDArray[Any]
    before: NDArray[Any]
    after: NDArray[Any]
    subjects: tuple[str, ...]
    is_unchanged: bool


def paired_changes(scores: Scores, before: str, after: str, domain: str, structures: Collection[str]) -> Changes:
    """The change of Dice of each subject: mean over its cases, then over structures.

    A structure that is absent from truth and both predictions is left out (decision 0012). Where the earlier release
    drew nothing, rightly, and the later one something, the change is -1: inventing a structure is a loss. Where it is
    the other way round nothing is counted: to stop inventing makes up for no loss elsewhere.

    Args:
        scores: of a segmentation.
        before: id of the earlier release.
        after: id of the later one.
        domain: which.
        structures: one or several.

    Raises:
        UnpairedError: if a release, a structure or a case has no scores on one side, or they contradict each other.
    """
    pairs, absent, invented = paired_cases(scores, before, after, domain, structures)
    for group in (["subject", "structure"], ["subject"]):
        pairs = pairs.group_by(group, maintain_order=True).agg(pl.col("before").mean(), pl.col("change").mean())
    change = pl.when(pl.col("change").abs() <= ROUNDING).then(0.0).otherwise(pl.col("change"))
    pairs = pairs.with_columns(change=change).sort("subject")
    return Changes(
        before=dict(pairs.select("subject", "before").iter_rows()),
        change=dict(pairs.select("subject", "change").iter_rows()),
        absent=absent,
        invented=invented,
    )


def paired_cases(
    scores: Scores, before: str, after: str, domain: str, structures: Collection[str]
) -> tuple[pl.DataFrame, int, int]:
    """The Dice of each case and structure before and after, by the rules of `paired_changes`.

    Returns:
        Columns subject, case, structure, before, after and change, without what counts nowhere; how many scores are
        absent, and how many structures were invented (there before is 1).

    Raises:
        UnpairedError: as `paired_changes`.
    """
    rows = scores.table.filter(
        (pl.col("domain") == domain) & (pl.col("metric") == "dice") & pl.col("structure").is_in(list(structures))
    )
    joined = _joined(rows, before, after, domain, ["subject", "case", "structure"])
    old, new = pl.col("before"), pl.col("after")
    invented, stopped = old.is_null() & (new == 0), (old == 0) & new.is_null()
    has_one = old.is_null() != new.is_null()
    if not joined.filter(has_one & ~(invented | stopped).fill_null(value=False)).is_empty():
        raise UnpairedError(f"on {domain}, one release found a structure in a truth that has none for the other")
    absent = joined.filter(old.is_null() & new.is_null()).height
    pairs = joined.with_columns(before=pl.when(invented).then(1.0).otherwise(old)).drop_nulls(["before", "after"])
    if pairs.is_empty():
        raise UnpairedError(f"absent from all cases of {domain}, in truth and prediction")
    return pairs.with_columns(change=new - old), absent, joined.filter(invented).height


def paired_grades(scores: Scores, before: str, after: str, domain: str) -> Grades:
    """Truth and both predictions of each case.

    Args:
        scores: of a classification.
        before: id of the earlier release.
        after: id of the later one; the same for one release alone.
        domain: which.

    Raises:
        UnpairedError: if a release or a case has no scores on one side, one is missing, or the truths differ.
    """
    rows = scores.table.filter((pl.col("domain") == domain) & pl.col("metric").is_in(["truth", "prediction"]))
    joined = _joined(rows, before, after, domain, ["subject", "case", "metric"])
    if joined["before"].null_count() or joined["after"].null_count():
        raise UnpairedError(f"on {domain}, a case has no truth or no prediction")
    truth = joined.filter(pl.col("metric") == "truth").sort("subject", "case")
    predicted = joined.filter(pl.col("metric") == "prediction").sort("subject", "case")
    if not truth.select("subject", "case").equals(predicted.select("subject", "case")):
        raise UnpairedError(f"on {domain}, a case has no truth or no prediction")
    if (truth["before"] != truth["after"]).any():
        raise UnpairedError(f"on {domain}, the truth of a case is not the same for both releases")
    likely = scores.table.filter((pl.col("domain") == domain) & (pl.col("metric") == "probability"))
    return Grades(
        truth=_whole(truth["before"]),
        before=_whole(predicted["before"]),
        after=_whole(predicted["after"]),
        subjects=tuple(truth["subject"].to_list()),
        is_unchanged=_is_same(likely, before, after),
    )


def _joined(rows: pl.DataFrame, before: str, after: str, domain: str, keys: Sequence[str]) -> pl.DataFrame:
    """The values of both releases side by side, one row a key."""
    sides = []
    for name, release in (("before", before), ("after", after)):
        side = rows.filter(pl.col("release") == release).select(*keys, pl.col("value").alias(name))
        if side.is_empty():
            what = "it" if rows.is_empty() else f"release {release[:12]}"
            raise UnpairedError(f"the scores do not have {what} on {domain}")
        sides.append(side)
    joined = sides[0].join(sides[1], on=list(keys), how="inner")
    if not joined.height == sides[0].height == sides[1].height:
        raise UnpairedError(f"on {domain}, the releases were not scored on the same cases")
    return joined


def _is_same(rows: pl.DataFrame, before: str, after: str) -> bool:
    keys = ["subject", "case", "structure"]
    one, other = (
        rows.filter(pl.col("release") == release).select(*keys, "value").sort(keys) for release in (before, after)
    )
    return not one.is_empty() and not one["value"].null_count() and one.equals(other)


def _whole(values: pl.Series) -> NDArray[np.int64]:
    return values.to_numpy().astype(np.int64)
