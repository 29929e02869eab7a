"""A train-test matrix and its measures in words and tables, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from perdure.evaluation import MEASURES, Loss, Summary, TrainTestMatrix, summary

if TYPE_CHECKING:
    from perdure.evaluation import Definition, Measure

_TITLES = {"dice": "Dice", "hd95": "HD95", "assd": "ASSD", "auc": "AUC"}


def metric_title(metric: str) -> str:
    """How a metric of the scores is written in prose."""
    return _TITLES.get(metric, metric)


def measure_symbol(definition: Definition, metric: str) -> str:
    """How a measure is written in a table; the CL score carries the name of its metric, as in "CL Dice"."""
    return f"{definition.symbol} {metric_title(metric)}" if definition.symbol == "CL" else definition.symbol


def number(value: float | None, *, signed: bool = False) -> str:
    """A score with three decimals, a change with its sign (a real minus), and a dash where there is none."""
    if value is None or np.isnan(value):
        return "–"
    if signed and abs(value) < 0.0005:
        return "0.000"
    return f"{value:{'+' if signed else ''}.3f}".replace("-", "−")


def no_updates(matrices: Mapping[str, TrainTestMatrix]) -> dict[str, TrainTestMatrix]:
    """The control that every method is held against, leaving the base release as it is: one for each base release.

    Args:
        matrices: by the name of the method.
    """
    bases = {matrix.releases[0].id: matrix for matrix in matrices.values()}
    return {
        "no update" if len(bases) == 1 else f"no update of {matrix.releases[0].name}": matrix.no_update()
        for matrix in bases.values()
    }


def with_no_update(matrices: Mapping[str, TrainTestMatrix]) -> dict[str, Summary]:
    """The summary of each method, after that of no update.

    Args:
        matrices: by the name of the method.
    """
    return {name: summary(matrix) for name, matrix in {**no_updates(matrices), **matrices}.items()}


def matrix_table(matrix: TrainTestMatrix, *, title: str | None = None) -> Table:
    """The matrix, one line a release; below the diagonal with what changed since the domain was learnt.

    Args:
        matrix: what to show.
        title: the line above the table, if not the usual one.
    """
    heading = title or f"{metric_title(matrix.metric)} on each domain, after learning each; changes since it was learnt"
    table = Table(title=Text(heading), title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    table.caption = left_out(matrix)
    table.add_column("after learning")
    for domain in matrix.domains:
        table.add_column(Text(f"on {domain}"), justify="right", min_width=6)
    for domain in matrix.unseen:
        table.add_column(Text(f"on {domain} (never learnt)"), justify="right", min_width=6, style="dim")
    mean, change, unseen = matrix.mean, matrix.change, matrix.unseen_mean
    for i, domain in enumerate(matrix.domains):
        cells = [_cell(mean[i, j], change[i, j], i, j) for j in range(len(matrix.domains))]
        table.add_row(Text(domain), *cells, *(Text(number(value)) for value in unseen[i]))
    return table


def measures_table(summaries: Mapping[str, Summary]) -> Table:
    """The measures of several methods, one line each, with what each of them forgot most.

    Args:
        summaries: by the name of the method, of the same metric; see `with_no_update`.
    """
    has_structures = any(one.structures for one in summaries.values())
    caption = "Worst: the change of an earlier domain by the last stage."
    if has_structures:
        caption += " Measures are taken of each structure, then averaged."
    table = Table(caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    table.add_column("method", no_wrap=True)
    metric = next(iter(summaries.values())).metric if summaries else ""
    for definition in MEASURES:
        table.add_column(measure_symbol(definition, metric), justify="right", min_width=6)
    table.add_column("worst domain")
    if has_structures:
        table.add_column("worst structure")
    for name, one in summaries.items():
        measures = [_value(one.measure(definition.key)) for definition in MEASURES]
        worst = [worst_in_words(one.worst_domain)]
        worst += [worst_in_words(one.worst_structure)] if has_structures else []
        table.add_row(Text(name), *measures, *(Text(words) for words in worst))
    return table


def worst_in_words(worst: Loss | None) -> str:
    """The domain (and structure) that lost most, and its change."""
    if worst is None:
        return "no earlier domain"
    if worst.loss < 0.0005:
        return "none lost"
    place = worst.domain if worst.structure is None else f"{worst.structure} on {worst.domain}"
    return f"{place} {number(-worst.loss, signed=True)}"


def forgotten_sentences(matrix: TrainTestMatrix) -> tuple[str, ...]:
    """What became of each domain by the last stage, one sentence a domain, in the order of learning."""
    title, mean, last = metric_title(matrix.metric), matrix.mean, len(matrix.domains) - 1
    sentences = []
    for j, domain in enumerate(matrix.domains):
        before, after = mean[j, j], mean[-1, j]
        if j == last:
            place = "was learnt last" if last else "is the only domain learnt"
            sentences.append(f"{domain} {place} and scores {number(after)} {title}.")
            continue
        if np.isnan(before) or np.isnan(after):
            sentences.append(f"{domain} could not be scored at both stages, so what it lost is not known.")
            continue
        change = after - before
        verb = "kept its score" if number(change, signed=True) == "0.000" else "lost" if change < 0 else "gained"
        amount = "" if verb == "kept its score" else f" {number(abs(change))} {title}"
        sentences.append(
            f"{domain} {verb}{amount}: {number(before)} right after it was learnt, {number(after)} now"
            f"{_most_lost_structure(matrix, j)}."
        )
    for domain, scores in zip(matrix.unseen, matrix.unseen_mean.T, strict=True):
        sentences.append(f"{domain} was never learnt: {number(scores[0])} at first, {number(scores[-1])} now.")
    return tuple(sentences)


def left_out(matrix: TrainTestMatrix) -> str | None:
    """How many scores are in no mean, and why; None if all are."""
    if not matrix.left_out:
        return None
    total = sum(scores.values.size for scores in matrix.per_subject.values())
    return f"{matrix.left_out} of {total} scores are in no mean: the structure is absent in truth and prediction."


def _most_lost_structure(matrix: TrainTestMatrix, domain: int) -> str:
    change = matrix.values[-1, domain] - matrix.values[domain, domain]
    if len(matrix.structures) < 2 or np.isnan(change).all():
        return ""
    worst = int(np.nanargmin(change))
    if change[worst] > -0.0005:
        return ""
    how = "; most in" if matrix.change[-1, domain] < -0.0005 else ", but it lost in"
    return f"{how} {matrix.structures[worst]} ({number(float(change[worst]), signed=True)})"


def _cell(score: float, change: float, i: int, j: int) -> Text:
    if j > i:
        return Text(number(score), style="dim")
    if j == i:
        return Text(number(score), style="bold")
    words = number(change, signed=True)
    if words == "–":
        return Text(number(score))
    style = "" if words == "0.000" else "red" if change < 0 else "cyan"
    return Text.assemble(number(score), " ", (words, style))


def _value(measure: Measure | None) -> Text:
    return Text(number(measure.value if measure else None))
