"""All that a finished grid found, in one file: what tables and figures are made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import polars as pl
from pydantic import AwareDatetime, Field, JsonValue, ValidationError

from perdure.benchmark.config import Settings
from perdure.benchmark.selection import Choice
from perdure.errors import EvaluationError, Problem
from perdure.evaluation import SCHEMA, Header, ScoredRelease, Scores
from perdure.evaluation.parquet import parquet_of, read_parquet
from perdure.release.folder import replace_file
from perdure.types import Split, Task, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEYS: dict[str, type[pl.DataType]] = {"sequence": pl.String, "label": pl.String, "seed": pl.Int64, "stage": pl.Int64}
"""The columns that say which release a score is of; `stage` 0 is the base."""
COLUMNS = {**KEYS, **{name: kind for name, kind in SCHEMA.items() if name != "release"}}
_META = "perdure.benchmark"


class Classes(NamedTuple):
    """Truth and prediction of every case `(cases,)`, as class indices, and whose case each is."""

    subject: NDArray[Any]
    case: NDArray[Any]
    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]


class Row(Value):
    """One row of the grid.

    Args:
        label: what tables call it.
        method: as `Method.record` has it, with the settings of the file and the first candidate of each search.
        role: `method` or `control`.
        base: which base release it starts from.
        set: settings of the method in the file.
        update: settings of the recipe in the file.
        retain: in the file.
        chosen: by sequence the settings that selection took.
    """

    label: str
    method: dict[str, JsonValue]
    role: Literal["method", "control"]
    base: str
    set: Settings = Field(default_factory=dict)
    update: Settings = Field(default_factory=dict)
    retain: float | None = None
    chosen: dict[str, Settings] = Field(default_factory=dict)


class Finished(Value):
    """How one final cell ended.

    Args:
        sequence: which sequence.
        label: which row.
        seed: which seed.
        status: `failed` where an error stopped it, `diverged` where training left the numbers, `not run` where it was
            left out or has to wait.
        reason: of those three.
        seconds: that it took; shared work counts for the cell that did it.
    """

    sequence: str
    label: str
    seed: int
    status: Literal["done", "diverged", "failed", "not run"]
    reason: str = ""
    seconds: float | None = None


class RecordHeader(Value):
    """What the rows of a record are about.

    Args:
        format: of the file.
        name: of the benchmark.
        title: one line for people.
        config: the benchmark file, resolved.
        task: `segmentation` or `classification`.
        ordinal: whether the classes are grades in order.
        split: the split that was scored.
        metric: the score that selection and tables go by.
        structures: the classes in the order of the network's output; for segmentation the first is background.
        sequences: by name, the domains in the order of learning.
        seeds: all of them.
        subjects: by domain how many subjects the split has.
        rows: of the grid.
        cells: the final ones.
        choices: what was searched and chosen.
        seconds: by kind of cell, how long all of them took together.
        reads: how often each release was scored on a domain of the split: the number of such scorings, how many of
            them were repeated, and how often other releases were scored in the same folder.
        first_read: when the split was first scored there; empty if never.
        command: that made it.
        created: when.
        versions: of the libraries.
        machine: what kind of machine.
        data: by domain one SHA-256 over its training and validation cases.
        weights: SHA-256 of the file of pretrained weights, if there was one.
    """

    format: Literal[1] = 1
    name: str
    title: str
    config: dict[str, Any]
    task: Task
    ordinal: bool
    split: Split
    metric: str
    structures: tuple[str, ...] = Field(min_length=2)
    sequences: dict[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    subjects: dict[str, int]
    rows: tuple[Row, ...]
    cells: tuple[Finished, ...]
    choices: tuple[Choice, ...] = ()
    seconds: dict[Literal["base", "trial", "final"], float] = Field(default_factory=dict)
    reads: dict[Literal["scored", "repeated", "others"], int]
    first_read: str = ""
    command: str
    created: AwareDatetime
    versions: dict[str, str]
    machine: str
    data: dict[str, str] = Field(default_factory=dict)
    weights: str | None = None


@dataclass(frozen=True, eq=False)
class Record:
    """The scores of a whole grid.

    Args:
        header: what the rows are about.
        table: one row a score, columns as in `COLUMNS`.
    """

    header: RecordHeader
    table: pl.DataFrame

    @classmethod
    def read(cls, path: Path) -> Record:
        """Reads a record.

        Raises:
            EvaluationError: if the file is missing, damaged or something else.
        """
        allowed = "it must be a file that `perdure benchmark` wrote (records.parquet)"
        try:
            content = path.read_bytes()
            metadata, table = read_parquet(content)
            header = RecordHeader.model_validate_json(metadata[_META])
        except OSError as error:
            raise EvaluationError(str(Problem(str(path), "file", f"none ({error.strerror})", allowed))) from error
        except ValidationError as error:
            raise EvaluationError(str(Problem(str(path), "header", str(error), allowed))) from error
        except (ValueError, KeyError) as error:
            raise EvaluationError(str(Problem(str(path), "file", f"damage ({error})", allowed))) from error
        if dict(table.schema) != COLUMNS:
            raise EvaluationError(str(Problem(str(path), "columns", ", ".join(table.columns), allowed)))
        return cls(header, table)

    def write(self, path: Path) -> None:
        """Writes one Parquet file, the header in its metadata; a crash leaves the old file or the new one."""
        metadata = {_META: self.header.model_dump_json()}
        replace_file(path, parquet_of(self.table, metadata, compression="zstd", compression_level=19))

    def scores(self, sequence: str, label: str, seed: int) -> Scores | None:
        """The scores of one final cell, its releases called after their stages; None if it has none."""
        header = self.header
        rows = self._by_cell.get((sequence, label, seed))
        if rows is None:
            return None
        domains = header.sequences[sequence]
        releases = tuple(
            ScoredRelease(id=f"{place}", name=f"{place}", domain=name, parent=f"{place - 1}" if place else None)
            for place, name in enumerate(domains)
        )
        about = Header(
            task=header.task,
            ordinal=header.ordinal,
            split=header.split,
            releases=releases,
            domains=domains,
            structures=header.structures,
            created=header.created,
        )
        table = rows.with_columns(pl.col("stage").cast(pl.String).alias("release")).select(*SCHEMA)
        return Scores(about, table, f"{header.name}: {sequence}, {label}, seed {seed}")

    def classes(self, sequence: str, label: str, seed: int, stage: int, domain: str) -> Classes:
        """Of a classification, truth and prediction of each case of one domain, in the order of subjects and cases.

        Args:
            sequence: which sequence.
            label: which row.
            seed: which seed.
            stage: 0 is the base.
            domain: whose cases.
        """
        return self._classes[sequence, label, seed, stage, domain]

    def score(self, sequence: str, label: str, seed: int, stage: int, domain: str, metric: str) -> float:
        """A score of all cases of a domain together, such as AUC; NaN where there is none."""
        value = self._of_domains.get((sequence, label, seed, stage, domain, metric))
        return math.nan if value is None else value

    @cached_property
    def _by_cell(self) -> dict[tuple[Any, ...], pl.DataFrame]:
        return self.table.partition_by("sequence", "label", "seed", as_dict=True)

    @cached_property
    def _classes(self) -> dict[tuple[Any, ...], Classes]:
        of_cases = self.table.filter(pl.col("metric").is_in(["truth", "prediction"]))
        index = [*KEYS, "domain", "subject", "case"]
        table = of_cases.pivot("metric", index=index, values="value").sort(index)
        table = table.with_columns(pl.col("truth", "prediction").cast(pl.Int64))
        parts = table.partition_by(*KEYS, "domain", as_dict=True)
        return {key: Classes(*(part[name].to_numpy() for name in Classes._fields)) for key, part in parts.items()}

    @cached_property
    def _of_domains(self) -> dict[tuple[Any, ...], float | None]:
        rows = self.table.filter(pl.col("case").is_null()).select(*KEYS, "domain", "metric", "value")
        return {key: value for *names, value in rows.iter_rows() if (key := tuple(names))}


def rows_of(scores: Scores, sequence: str, label: str, seed: int) -> pl.DataFrame:
    """The rows that one final cell adds to a record; probabilities of single cases stay behind."""
    stages = {release.id: place for place, release in enumerate(scores.header.releases)}
    kept = scores.table.filter(pl.col("metric") != "probability")
    return kept.with_columns(
        pl.lit(sequence).alias("sequence"),
        pl.lit(label).alias("label"),
        pl.lit(seed, pl.Int64).alias("seed"),
        pl.col("release").replace_strict(stages, return_dtype=pl.Int64).alias("stage"),
    ).select(*COLUMNS)


def together(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The table of a record, in an order that does not depend on which cell ended first."""
    if not parts:
        return pl.DataFrame(schema=COLUMNS)
    return pl.concat(parts).sort(*KEYS, "domain", "subject", "case", "structure", "metric", nulls_last=True)
