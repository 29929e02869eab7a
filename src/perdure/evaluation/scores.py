"""The tidy table of scores, and the file that it lives in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import (
    AwareDatetime,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from perdure.errors import EvaluationError, Problem
from perdure.evaluation.parquet import parquet_of, read_parquet
from perdure.evaluation.rows import DISTANCES, IDENTITY, METRICS, SCHEMA
from perdure.release.folder import replace_file
from perdure.types import Split, Task, Value

_KEY = "perdure.scores"


class ScoredRelease(Value):
    """One release in the header of a score file.

    Args:
        id: what tells it apart from all others (the hash that its children name as parent).
        name: what people call it.
        domain: the domain that it learnt last.
        parent: the id of the release it was updated from; None for the first.
    """

    id: str
    name: str
    domain: str
    parent: str | None = None


class Header(Value):
    """What the rows of a score file are about.

    Args:
        format: the version of the file format.
        task: `segmentation` or `classification`.
        ordinal: whether the classes are grades in order; then kappa has linear weights.
        split: the split that was scored.
        releases: parents before children.
        domains: the domains that were scored, in the order in which they are shown.
        structures: the classes in the order of the network's output; for segmentation the first is background.
        created: when the scores were computed.
        groups: by column of the manifest and domain, what stands there for each subject; for subgroups. Old files have
            none.
        unit: of the surface distances; None where they were not scored, and then the file says nothing of it, as before
            there were any.
    """

    format: Literal[1] = 1
    task: Task
    ordinal: bool = False
    split: Split
    releases: tuple[ScoredRelease, ...] = Field(min_length=1)
    domains: tuple[str, ...] = Field(min_length=1)
    structures: tuple[str, ...] = Field(min_length=2)
    created: AwareDatetime
    groups: dict[str, dict[str, dict[str, str]]] = Field(default_factory=dict)
    unit: Literal["mm", "pixels"] | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        if self.unit is None:
            fields.pop("unit", None)
        return fields

    @model_validator(mode="after")
    def _is_consistent(self) -> Header:
        ids = [release.id for release in self.releases]
        for field, names in (("release ids", ids), ("domains", self.domains), ("structures", self.structures)):
            if len(set(names)) != len(names):
                raise ValueError(f"{field} must differ from each other; got {', '.join(names)}")
        for place, release in enumerate(self.releases):
            if release.parent in ids[place:]:
                raise ValueError(f"releases must stand after their parents; {release.name!r} does not")
        return self


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one or several releases on one or several domains.

    Args:
        header: what the rows are about.
        table: one row a score, columns as in `SCHEMA`; null where a score could not be computed.
        source: the file or place that messages name.

    Raises:
        EvaluationError: if table and header do not fit.
    """

    header: Header
    table: pl.DataFrame
    source: str = "scores"

    def __post_init__(self) -> None:
        _check_columns(self)
        _check_names(self)
        _check_shape_of_rows(self)
        _check_values(self)

    @classmethod
    def read(cls, path: Path) -> Scores:
        """Reads a score file and checks every row of it.

        Raises:
            EvaluationError: if the file is missing, damaged, of another format, or holds something unexpected.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EvaluationError(_told(path, "file", f"none ({error.strerror})", "name a score file")) from error
        return cls.parsed(content, str(path))

    @classmethod
    def parsed(cls, content: bytes, source: str) -> Scores:
        """The scores that the content of a score file holds; every row is checked.

        Raises:
            EvaluationError: if it is damaged, of another format, or holds something unexpected.
        """
        allowed = "it must be a Parquet file that `perdure evaluate` wrote; evaluate again"
        if content.startswith(b"{"):
            allowed = "signed scores of another site are read by `perdure evaluate --remote`"
        try:
            metadata, table = read_parquet(content)
        except ValueError as error:
            raise EvaluationError(_told(source, "file", f"damage ({error})", allowed)) from error
        if _KEY not in metadata:
            raise EvaluationError(_told(source, f"metadata {_KEY!r}", "none", allowed))
        try:
            header = Header.model_validate_json(metadata[_KEY])
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'header'}: {e['msg']}" for e in error.errors())
            raise EvaluationError(_told(source, f"metadata {_KEY!r}", found, allowed)) from error
        return cls(header, table, source)

    def content(self) -> bytes:
        """What a score file holds: Parquet, the header in its metadata."""
        return parquet_of(self.table, {_KEY: self.header.model_dump_json()})

    def write(self, path: Path) -> None:
        """Writes one score file; a crash leaves the old file or the new one."""
        replace_file(path, self.content())


def union(parts: Sequence[Scores]) -> Scores:
    """All scores of several files as one; what stands in two of them must be the same in both.

    Raises:
        EvaluationError: if the files are about different things, or contradict each other.
    """
    if not parts:
        raise EvaluationError("No scores to join; name at least one score file.")
    first = parts[0]
    releases: dict[str, ScoredRelease] = {}
    for part in parts:
        for field in ("task", "ordinal", "split", "structures"):
            found, expected = getattr(part.header, field), getattr(first.header, field)
            if found != expected:
                allowed = f"must be {expected!r} as in {first.source}; only like scores can be joined"
                raise EvaluationError(_told(part.source, field, repr(found), allowed))
        for release in part.header.releases:
            if releases.setdefault(release.id, release) != release:
                allowed = f"must be {releases[release.id]!r} as in the files before"
                raise EvaluationError(_told(part.source, f"release {release.id}", repr(release), allowed))
    table = pl.concat([part.table for part in parts]).unique(maintain_order=True)
    source = ", ".join(part.source for part in parts)
    twice = table.filter(table.select(IDENTITY).is_duplicated())
    if not twice.is_empty():
        allowed = "a release has one score there; evaluate again, or leave one file out"
        raise EvaluationError(_told(source, _row(twice), "different values in different files", allowed))
    header = Header(
        task=first.header.task,
        ordinal=first.header.ordinal,
        split=first.header.split,
        releases=parents_first(tuple(releases.values())),
        domains=tuple(dict.fromkeys(domain for part in parts for domain in part.header.domains)),
        structures=first.header.structures,
        created=max(part.header.created for part in parts),
        groups=joined_groups(parts),
        unit=_joined_unit(parts),
    )
    return Scores(header, table, source)


def joined_groups(parts: Sequence[Scores]) -> dict[str, dict[str, dict[str, str]]]:
    """The groups of several files as one.

    Raises:
        EvaluationError: if a subject has one value in one file and another in another.
    """
    joined: dict[str, dict[str, dict[str, str]]] = {}
    for part in parts:
        for column, domains in part.header.groups.items():
            for domain, subjects in domains.items():
                known = joined.setdefault(column, {}).setdefault(domain, {})
                for subject, value in subjects.items():
                    if known.setdefault(subject, value) != value:
                        field, allowed = f"groups.{column}", f"must be {known[subject]!r} as in the files before"
                        raise EvaluationError(_told(part.source, f"{field}, subject {subject}", repr(value), allowed))
    return joined


def _joined_unit(parts: Sequence[Scores]) -> Literal["mm", "pixels"] | None:
    """The unit of the surface distances, of those files that have some."""
    having = [part for part in parts if part.header.unit is not None]
    for part in having:
        if part.header.unit != having[0].header.unit:
            allowed = f"must be {having[0].header.unit!r} as in {having[0].source}; only like scores can be joined"
            raise EvaluationError(_told(part.source, "unit", repr(part.header.unit), allowed))
    return having[0].header.unit if having else None


def parents_first(releases: Sequence[ScoredRelease]) -> tuple[ScoredRelease, ...]:
    """The releases with every parent before its children, otherwise in the order given."""
    left = list(releases)
    ordered: list[ScoredRelease] = []
    while left:
        waiting = {release.id for release in left}
        ready = next(release for release in left if release.parent not in waiting)
        left.remove(ready)
        ordered.append(ready)
    return tuple(ordered)


def mean_scores(scores: Scores, metric: str) -> dict[tuple[str, str], float | None]:
    """A metric by release and domain: its mean over cases of a subject, subjects, then structures but background."""
    rows = scores.table.filter(pl.col("metric") == metric)
    if METRICS[metric].level == "structure":
        rows = rows.filter(pl.col("structure") != scores.header.structures[0])
        for group in (["release", "domain", "structure", "subject"], ["release", "domain", "structure"]):
            rows = rows.group_by(group, maintain_order=True).agg(pl.col("value").mean())
        rows = rows.group_by("release", "domain", maintain_order=True).agg(pl.col("value").mean())
    return {
        (release, domain): value for release, domain, value in rows.select("release", "domain", "value").iter_rows()
    }


def one_sided(scores: Scores) -> dict[tuple[str, str], int]:
    """By release and domain, how many structures of cases have no distance because truth or prediction lacks them.

    Their Dice is 0, and no mean of distances counts them: a release that misses what is hard looks nearer by it.
    """
    rows = scores.table.filter(pl.col("structure") != scores.header.structures[0])
    lacking = rows.filter((pl.col("metric") == DISTANCES[0]) & pl.col("value").is_null())
    there = rows.filter((pl.col("metric") == "dice") & pl.col("value").is_not_null())
    found = lacking.join(there, on=[name for name in IDENTITY if name != "metric"], how="semi")
    counts = found.group_by("release", "domain", maintain_order=True).len()
    return {(release, domain): count for release, domain, count in counts.iter_rows()}


def _told(file: Path | str, field: str, found: str, allowed: str) -> str:
    return str(Problem(str(file), field, found, allowed))


def _row(rows: pl.DataFrame) -> str:
    """The first of the rows in words, for messages."""
    row = rows.row(0, named=True)
    return "row " + ", ".join(f"{name} {row[name]!r}" for name in IDENTITY if row[name] is not None)


def _check_columns(scores: Scores) -> None:
    found = dict(scores.table.schema)
    if found != SCHEMA:
        wanted = ", ".join(f"{name} ({kind.__name__})" for name, kind in SCHEMA.items())
        stands = ", ".join(f"{name} ({kind})" for name, kind in found.items())
        raise EvaluationError(_told(scores.source, "columns", stands or "none", f"must be {wanted}"))


def _check_names(scores: Scores) -> None:
    header = scores.header
    names: dict[str, list[str | None]] = {
        "release": [release.id for release in header.releases],
        "domain": list(header.domains),
        "structure": [*header.structures, None],
        "metric": [
            name
            for name, metric in METRICS.items()
            if metric.task == header.task and (header.unit is not None or name not in DISTANCES)
        ],
    }
    for column, allowed in names.items():
        strange = scores.table.filter(~pl.col(column).is_in(allowed, nulls_equal=True))
        if not strange.is_empty():
            known = ", ".join(str(name) for name in allowed if name is not None)
            found = repr(strange[column][0])
            raise EvaluationError(_told(scores.source, f"column {column!r}", found, f"must be one of: {known}"))


def _check_shape_of_rows(scores: Scores) -> None:
    level = pl.col("metric").replace_strict({name: metric.level for name, metric in METRICS.items()})
    has_case = pl.col("subject").is_not_null() & pl.col("case").is_not_null()
    has_neither = pl.col("subject").is_null() & pl.col("case").is_null()
    fits = (
        pl.when(level == "structure")
        .then(has_case & pl.col("structure").is_not_null())
        .when(level == "case")
        .then(has_case & pl.col("structure").is_null())
        .otherwise(has_neither & pl.col("structure").is_null())
    )
    wrong = scores.table.filter(~fits)
    if not wrong.is_empty():
        kind = METRICS[wrong["metric"][0]].level
        allowed = f"a {wrong['metric'][0]} belongs to a {kind}: fill exactly the columns that say which"
        raise EvaluationError(_told(scores.source, _row(wrong), "columns filled otherwise", allowed))
    twice = scores.table.filter(scores.table.select(IDENTITY).is_duplicated())
    if not twice.is_empty():
        raise EvaluationError(_told(scores.source, _row(twice), "it more than once", "every row stands once"))
    group = ["release", "domain", "subject", "case", "metric"]
    sizes = scores.table.filter(level == "structure").group_by(group, maintain_order=True).len()
    partial = sizes.filter(pl.col("len") != len(scores.header.structures))
    if not partial.is_empty():
        found = f"{partial['len'][0]} structures"
        allowed = f"a case has all {len(scores.header.structures)}, null where one could not be scored"
        raise EvaluationError(_told(scores.source, _row(partial.with_columns(structure=None)), found, allowed))


def _check_values(scores: Scores) -> None:
    low = pl.col("metric").replace_strict({name: float(metric.low) for name, metric in METRICS.items()})
    limits = {name: float(metric.high) for name, metric in METRICS.items()}
    limits["prediction"] = limits["truth"] = float(len(scores.header.structures) - 1)
    is_class = pl.col("metric").is_in(["prediction", "truth"])
    value = pl.col("value")
    fits = value.is_finite() & (value >= low) & (value <= pl.col("metric").replace_strict(limits))
    fits &= ~is_class | (value == value.floor())
    wrong = scores.table.filter(~fits)  # a comparison with null is null, and null rows are not wrong
    if not wrong.is_empty():
        metric = wrong["metric"][0]
        whole = "a class index" if metric in ("prediction", "truth") else "a number"
        allowed = f"must be {whole} from {METRICS[metric].low:g} to {limits[metric]:g}, or null where there is none"
        raise EvaluationError(_told(scores.source, _row(wrong), str(wrong["value"][0]), allowed))
