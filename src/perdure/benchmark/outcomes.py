"""What did each row of a grid score in one sequence, over its seeds?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from perdure.benchmark.published import TABLE_1
from perdure.benchmark.record import Finished, Record, Row
from perdure.errors import EvaluationError
from perdure.evaluation import Spread, Summary, TrainTestMatrix, spread_over_seeds, summary, train_test_matrix
from perdure.evaluation.matrix import defined_mean
from perdure.types import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLD, OLD_DATA = "†", "‡"
"""The signs behind the names of rows that are told the domain, and of those that need old data."""


class WorstLoss(Value):
    """The earlier domain that lost most, by its mean over seeds.

    Args:
        domain: which one.
        after: the domain after whose update that is.
        loss: its score right after it was learnt, minus that after the update; negative where even it gained.
    """

    domain: str
    after: str
    loss: Spread


@dataclass(frozen=True, eq=False)
class RowOutcome:
    """One row of the grid in one sequence. Every mean is over the seeds that have a score.

    Args:
        row: which one.
        domains: of the sequence, in the order of learning.
        matrices: by seed.
        lacking: the cells without scores, that diverged or failed.
    """

    row: Row
    domains: tuple[str, ...]
    matrices: Mapping[int, TrainTestMatrix]
    lacking: tuple[Finished, ...]

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.row.label

    @property
    def needs_old_data(self) -> bool:
        """Whether it trains on cases of earlier domains, so that others are not to be held against it."""
        return needs_old_data(self.row)

    @property
    def marked(self) -> str:
        """The label with the signs of what other rows do not have."""
        return marked(self.row)

    @cached_property
    def R(self) -> NDArray[np.float64]:  # noqa: N802 - the symbol of the paper
        """The train-test matrices `(seeds, domains, domains)`."""
        size = len(self.domains)
        return np.array([one.mean for one in self.matrices.values()]).reshape(-1, size, size)

    @property
    def mean(self) -> NDArray[np.float64]:
        """R, the mean over seeds `(domains, domains)`; NaN where no seed has a score."""
        return defined_mean(self.R, axis=0)

    def measure(self, key: str) -> Spread | None:
        """One of the measures by its key in `evaluation.MEASURES`; None where no seed has it."""
        found = [one.measure(key) for one in self._summaries]
        return spread_of([np.nan if one is None else one.value for one in found])

    def sd_over_structures(self, key: str) -> float | None:
        """How far structures differ in a measure: the mean over seeds; None without structures."""
        found = [one.measure(key) for one in self._summaries]
        deviations = [one.sd_over_structures for one in found if one is not None and one.sd_over_structures is not None]
        return float(np.mean(deviations)) if deviations else None

    def score(self, stage: int, domain: int) -> Spread | None:
        """R[stage, domain]; stage 0 is the base, -1 the end."""
        return spread_of(self.R[:, stage, domain].tolist())

    def worst_loss(self, *, over_all_stages: bool = False) -> WorstLoss | None:
        """The largest loss of an earlier domain at the end, or after any update; None where no seed has a score."""
        last = len(self.domains) - 1
        pairs = [(i, j) for i in range(1 if over_all_stages else last, last + 1) for j in range(i)]
        found = {(i, j): spread_of((self.R[:, j, j] - self.R[:, i, j]).tolist()) for i, j in pairs}
        losses = {pair: spread for pair, spread in found.items() if spread is not None}
        if not losses:
            return None
        i, j = max(losses, key=lambda pair: losses[pair].mean)
        return WorstLoss(domain=self.domains[j], after=self.domains[i], loss=losses[i, j])

    def losses_by_seed(self, domain: str) -> list[float]:
        """What a domain lost by the end, one number a seed."""
        j = self.domains.index(domain)
        return [float(value) for value in self.R[:, j, j] - self.R[:, -1, j]]

    @cached_property
    def _summaries(self) -> list[Summary]:
        return [summary(one) for one in self.matrices.values()]


@dataclass(frozen=True, eq=False)
class SequenceOutcome:
    """All rows in one sequence, in the order of tables.

    Args:
        record: that it is of.
        name: of the sequence.
        rows: those of Table 1 of Özgün et al. 2020, controls, all others.
    """

    record: Record
    name: str
    rows: tuple[RowOutcome, ...]

    @property
    def domains(self) -> tuple[str, ...]:
        """In the order of learning."""
        return self.record.header.sequences[self.name]

    def row(self, name: str) -> RowOutcome | None:
        """The row with this label, or else the first of this method."""
        by_label = {one.label: one for one in reversed(self.rows)}
        by_method = {str(one.row.method["name"]): one for one in reversed(self.rows)}
        return by_label.get(name) or by_method.get(name)


def outcomes(record: Record) -> tuple[SequenceOutcome, ...]:
    """What every row of a record scored, one outcome a sequence."""
    return tuple(
        SequenceOutcome(record, name, tuple(_row(record, name, row) for row in ordered(record.header.rows)))
        for name in record.header.sequences
    )


def needs_old_data(row: Row) -> bool:
    """Whether a row trains on cases of earlier domains."""
    return row.method["data"] in ("cumulative", "replay")


def is_told_the_domain(row: Row) -> bool:
    """Whether a row has one batch norm a domain, so that whoever predicts must say which domain an image is from."""
    return row.method["batch_norm"] == "per-domain"


def marked(row: Row) -> str:
    """The label of a row with the signs of what other rows do not have."""
    return row.label + signs(row)


def signs(row: Row) -> str:
    """The signs of what other rows do not have; empty for most."""
    return TOLD * is_told_the_domain(row) + OLD_DATA * needs_old_data(row)


def ordered(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows in the order of tables: Table 1 of Özgün et al. 2020, other controls, all others as the file has them."""
    table_1 = published_rows(rows)
    groups: tuple[list[Row], ...] = (list(table_1.values()), [], [])
    for row in rows:
        if all(row is not one for one in groups[0]):
            groups[1 if row.role == "control" else 2].append(row)
    return tuple(row for group in groups for row in group)


def published_rows(rows: Sequence[Row]) -> dict[str, Row]:
    """The rows that are of Table 1 of Özgün et al. 2020, by method in its order.

    Of several rows of one method it is the one that is called after it, or else the first.
    """
    found = {}
    for name in TABLE_1:
        of_method = [row for row in rows if row.method["name"] == name]
        if of_method:
            found[name] = next((row for row in of_method if row.label == name), of_method[0])
    return found


def spread_of(values: Sequence[float]) -> Spread | None:
    """The spread over the seeds that have a score; None where none has."""
    finite = [value for value in values if np.isfinite(value)]
    return spread_over_seeds(finite) if finite else None


def _row(record: Record, sequence: str, row: Row) -> RowOutcome:
    header = record.header
    cells = [cell for cell in header.cells if (cell.sequence, cell.label) == (sequence, row.label)]
    matrices = {}
    for cell in sorted(cells, key=lambda cell: cell.seed):
        if cell.status != "done":
            continue
        scores = record.scores(sequence, row.label, cell.seed)
        if scores is None:
            raise EvaluationError(f"{header.name}: {row.label}, {sequence}, seed {cell.seed} is done but has no score.")
        matrices[cell.seed] = train_test_matrix(scores, header.metric)
    lacking = tuple(cell for cell in cells if cell.status != "done")
    return RowOutcome(row, header.sequences[sequence], matrices, lacking)
