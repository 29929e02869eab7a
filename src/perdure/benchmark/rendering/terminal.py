"""What a grid found, in short, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from perdure.benchmark.outcomes import SequenceOutcome, outcomes
from perdure.benchmark.record import Record
from perdure.benchmark.rendering.tables import IN_SHORT, NONE, has_seeds, placeless, sign_sentences
from perdure.evaluation.intervals import short
from perdure.evidence.text import measure_symbol, metric_title, number

if TYPE_CHECKING:
    from rich.console import RenderableType

    from perdure.evaluation import Spread


def rich_tables(record: Record) -> list[RenderableType]:
    """One table a sequence, one line a row, and below it the cells that have no scores.

    Args:
        record: of a grid, finished or not.
    """
    shown: list[RenderableType] = []
    for outcome in outcomes(record):
        shown.append(_table(outcome))
        lacking = [cell for row in outcome.rows for cell in row.lacking]
        shown += [Text(f"{one.label}, seed {one.seed}: {one.status}: {placeless(one.reason)}") for one in lacking]
    return shown


def _table(outcome: SequenceOutcome) -> Table:
    header = outcome.record.header
    title = f"{outcome.name}: {' → '.join(outcome.domains)} ({metric_title(header.metric)}, {header.split} split)"
    several = "Below each mean the smallest and the largest seed." if has_seeds(outcome.record) else "One seed."
    table = Table(title=Text(title), title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    said = ["Worst loss: of the earlier domain that lost most by the end.", several, *sign_sentences(header.rows)]
    table.caption = Text(" ".join(said))
    table.add_column("row")
    first, *others = [measure_symbol(definition, header.metric) for definition in IN_SHORT]
    for name in (first, "worst loss", *others):
        table.add_column(name, justify="right", min_width=6)
    for row in outcome.rows:
        measures = [row.measure(definition.key) for definition in IN_SHORT]
        worst = row.worst_loss()
        loss = _spread(worst.loss if worst else None)
        if worst is not None and len(outcome.domains) > 2:
            loss = Text.assemble(loss, "\n", (worst.domain, "dim"))
        table.add_row(
            Text(_name(row.marked, len(row.matrices), len(header.seeds))),
            _spread(measures[0]),
            loss,
            *map(_spread, measures[1:]),
        )
    return table


def _name(label: str, found: int, every: int) -> str:
    return label if found == every else f"{label}\n({found} of {every} seeds)"


def _spread(spread: Spread | None) -> Text:
    if spread is None:
        return Text(NONE)
    if spread.n == 1:
        return Text(number(spread.mean))
    return Text.assemble(number(spread.mean), "\n", (f"{short(spread.min, 2)} to {short(spread.max, 2)}", "dim"))
