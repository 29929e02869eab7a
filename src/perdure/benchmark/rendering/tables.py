"""What a grid found, as tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from perdure.benchmark.comparison import Comparison, Difference, compared_metric
from perdure.benchmark.outcomes import (
    OLD_DATA,
    TOLD,
    RowOutcome,
    SequenceOutcome,
    WorstLoss,
    is_told_the_domain,
    marked,
    needs_old_data,
    published_rows,
)
from perdure.benchmark.published import COLUMNS, TABLE_1
from perdure.benchmark.record import Record, Row
from perdure.benchmark.selection import Candidate, Choice
from perdure.evaluation import MEASURES, Interval, Spread
from perdure.evidence.text import measure_symbol, metric_title, number

NONE = "–"
_BY_KEY = {definition.key: definition for definition in MEASURES}
IN_SHORT = tuple(
    _BY_KEY[key]
    for key in (
        "transfer_learning",
        "remembering",
        "positive_backward_transfer",
        "forward_transfer",
        "continual_learning_score",
    )
)
"""The measures of a short table, what the new domains gained before what the old ones kept."""


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column to the left, all others to the right."""
    align = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in (header, align, *rows)) + "\n"


def measures_table(outcome: SequenceOutcome) -> str:
    """The measures of every row, and what it cost the earlier domain that lost most."""
    metric = outcome.record.header.metric
    # of two domains one alone can lose, at one stage alone
    several = len(outcome.domains) > 2
    header = ["row", "seeds", "worst loss at the end", *(["worst loss of all stages"] if several else [])]
    header += [measure_symbol(definition, metric) for definition in IN_SHORT]

    def cells(row: RowOutcome) -> list[str]:
        losses = [_worst(row.worst_loss(), outcome, stage=False)]
        losses += [_worst(row.worst_loss(over_all_stages=True), outcome, stage=True)] if several else []
        return [_seeds(row), *losses, *(spread_text(row.measure(one.key), outcome) for one in IN_SHORT)]

    return markdown(header, _of_rows(outcome, cells))


def scores_table(outcome: SequenceOutcome) -> str:
    """What every row scored on each domain: right after it was learnt, and at the end."""
    domains = outcome.domains
    header = ["row"]
    for place, domain in enumerate(domains):
        header += [f"{domain}, when learnt"] if place == len(domains) - 1 else [f"{domain}, when learnt", "at the end"]

    def cells(row: RowOutcome) -> list[str]:
        found = []
        for place in range(len(domains)):
            found.append(spread_text(row.score(place, place), outcome))
            if place < len(domains) - 1:
                found.append(spread_text(row.score(-1, place), outcome))
        return found

    return markdown(header, _of_rows(outcome, cells))


def table_1(outcome: SequenceOutcome) -> str:
    """The measures in the form of Table 1 of Özgün et al. 2020, the published numbers below ours.

    Behind each value stands the s.d. over structures, in square brackets.
    """
    published = {row.label: name for name, row in published_rows(outcome.record.header.rows).items()}
    header = ["row", "whose", *(measure_symbol(_BY_KEY[key], outcome.record.header.metric) for key in COLUMNS)]
    rows = []
    for row in outcome.rows:
        name = published.get(row.label)
        paper = TABLE_1[name] if name else None
        title = row.marked if paper is None else f"{paper.title} ({row.marked})"
        means = [None if (spread := row.measure(key)) is None else spread.mean for key in COLUMNS]
        deviations = [row.sd_over_structures(key) for key in COLUMNS]
        rows.append([title, "ours", *map(_with_deviation, means, deviations)])
        if paper is not None:
            rows.append(["", "published", *(_with_deviation(*paper.values[key]) for key in COLUMNS)])
    return markdown(header, rows)


def has_table_1(record: Record) -> bool:
    """Whether a record has enough of the rows of that table to be held against it."""
    return record.header.task == "segmentation" and len(published_rows(record.header.rows)) > len(TABLE_1) // 2


def before_and_after_table(outcome: SequenceOutcome, comparisons: Mapping[str, Comparison | None]) -> str:
    """Of two domains: the score on both before and after the update, with what changed; see `compared_with_base`."""
    header = ["row"]
    for domain, letter in zip(outcome.domains, ("O", "T"), strict=True):
        header += [f"{letter} ({domain}), before", "after", *_difference_header(outcome, "change")]

    def cells(row: RowOutcome) -> list[str]:
        comparison = comparisons[row.label]
        found = []
        for place in range(2):
            found += [spread_text(row.score(stage, place), outcome) for stage in (0, -1)]
            found += _difference_cells(outcome, comparison.differences[place] if comparison else None)
        return found

    return markdown(header, _of_rows(outcome, cells))


def differences_table(outcome: SequenceOutcome, comparisons: Mapping[str, Comparison | None], first: str) -> str:
    """Differences on each domain at the end, with intervals over subjects, the range over seeds, and p.

    Args:
        outcome: whose domains.
        comparisons: by what the first column is to say.
        first: the title of the first column.
    """
    header = [first]
    for domain in outcome.domains:
        header += _difference_header(outcome, f"{domain}: difference")
    names = {row.label: row.marked for row in outcome.rows}
    rows = []
    for label, comparison in comparisons.items():
        differences = comparison.differences if comparison else (None,) * len(outcome.domains)
        rows.append([names[label], *(cell for one in differences for cell in _difference_cells(outcome, one))])
    return markdown(header, rows)


def further_table(outcome: SequenceOutcome, comparisons: Mapping[str, Comparison | None], first: str) -> str:
    """The differences of `differences_table` in accuracy and AUC; of AUC by seed alone.

    Args:
        outcome: whose domains.
        comparisons: of classifications, by what the first column is to say.
        first: the title of the first column.
    """
    header = [first]
    for domain in outcome.domains:
        header += [f"{domain}: accuracy", *(["by seed"] if has_seeds(outcome.record) else []), f"{domain}: AUC"]
    names = {row.label: row.marked for row in outcome.rows}
    rows = []
    for label, comparison in comparisons.items():
        cells = [names[label]]
        for difference in comparison.differences if comparison else ():
            for one in difference.further:
                if one.interval is None:
                    cells.append(spread_text(one.over_seeds, outcome, signed=True))
                else:
                    by_seed = [seeds_text(one.over_seeds, outcome, signed=True)] if has_seeds(outcome.record) else []
                    cells += [interval_text(one.interval), *by_seed]
        rows.append(cells + [NONE] * (len(header) - len(cells)))
    return markdown(header, rows)


def decidable_sentences(comparisons: Mapping[str, Comparison | None]) -> list[str]:
    """One sentence a domain that has too few subjects for any p to say something."""
    found = {}
    for comparison in comparisons.values():
        for one in comparison.differences if comparison else ():
            if not one.can_decide:
                found[one.domain] = (
                    f"{one.domain} has too few subjects to decide: with {one.test.n} pairs, corrected p cannot go "
                    f"below {one.smallest_p:.3g}."
                )
    return list(found.values())


def sign_sentences(rows: Sequence[Row]) -> list[str]:
    """One sentence for each sign that stands behind a row."""
    found = []
    if any(is_told_the_domain(row) for row in rows):
        found.append(
            f"{TOLD}: has one batch norm a domain, so that it is told at test time which domain an image is from; no "
            "other row is."
        )
    if any(needs_old_data(row) for row in rows):
        found.append(f"{OLD_DATA}: trains on cases of earlier domains, which no other row has.")
    return found


def choices_table(record: Record) -> str:
    """What was searched, what was chosen, and what it scored on validation cases."""
    title = metric_title(record.header.metric)
    header = ["row", "sequence", "searched", "chosen", f"{title} on the first domain", "on the second", "candidates"]
    rows = []
    names = {row.label: marked(row) for row in record.header.rows}
    for choice in record.header.choices:
        taken = next((one for one in choice.candidates if one.settings == choice.chosen), None)
        pairs = (None, None) if taken is None else (taken.old, taken.new)
        scores = [NONE if pair is None else f"{number(pair[0])} → {number(pair[1])}" for pair in pairs]
        diverged = sum(1 for one in choice.candidates if one.diverged)
        rows.append(
            [
                names[choice.label],
                choice.sequence,
                _searched(choice.candidates),
                _chosen(choice),
                *scores,
                f"{len(choice.candidates)}" + (f", {diverged} diverged" if diverged else ""),
            ]
        )
    return markdown(header, rows)


def lacking_table(record: Record) -> str:
    """The cells that have no scores, with the reason; empty where all have."""
    rows = [
        [cell.label, cell.sequence, str(cell.seed), cell.status, placeless(" ".join(cell.reason.split()))]
        for cell in record.header.cells
        if cell.status != "done"
    ]
    return markdown(["row", "sequence", "seed", "ended", "reason"], rows) if rows else ""


def spread_text(spread: Spread | None, outcome: SequenceOutcome, *, signed: bool = False) -> str:
    """The mean over seeds, with the smallest and the largest one: `0.712 (0.701..0.720)`; of one seed its number."""
    if spread is None:
        return NONE
    if not has_seeds(outcome.record):
        return number(spread.mean, signed=signed)
    return f"{number(spread.mean, signed=signed)} ({seeds_text(spread, outcome, signed=signed)})"


def seeds_text(spread: Spread | None, outcome: SequenceOutcome, *, signed: bool = False) -> str:
    """The smallest and the largest seed: `−0.020..+0.040`."""
    if spread is None:
        return NONE
    ends = f"{number(spread.min, signed=signed)}..{number(spread.max, signed=signed)}" if spread.n > 1 else "one seed"
    every = len(outcome.record.header.seeds)
    return ends if spread.n == every else f"{ends}; {spread.n} of {every} seeds"


def has_seeds(record: Record) -> bool:
    """Whether there are seeds to tell apart; with one, tables do not say so in every cell."""
    return len(record.header.seeds) > 1


def interval_text(interval: Interval) -> str:
    """A difference and its interval over subjects: `+0.012 [−0.004, +0.030]`."""
    if interval.estimate is None:
        return f"not computed ({interval.reason})"
    if interval.low is None or interval.high is None:
        return f"{number(interval.estimate, signed=True)} (no interval: {interval.reason})"
    ends = ", ".join(number(end, signed=True) for end in (interval.low, interval.high))
    return f"{number(interval.estimate, signed=True)} [{ends}]"


def p_text(difference: Difference, p: float | None) -> str:
    """P, or why there is none."""
    if p is None:
        return NONE
    if not difference.can_decide:
        return f"too few ({difference.test.n})"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def settings_text(settings: Mapping[str, object]) -> str:
    """Settings in words: `strength = 100, retain = 0.3`."""
    return ", ".join(f"{name} = {plain(value)}" for name, value in settings.items())


def plain(value: object) -> str:
    """A value of a setting; 100000.0 becomes 100000."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def placeless(text: str) -> str:
    """A text without the folders that absolute paths in it lead through."""
    return re.sub(r"(?<![\w./:])/(?:[\w.+@-]+/)+([\w.+@-]*)", r"\1", text)


def _of_rows(outcome: SequenceOutcome, cells: Callable[[RowOutcome], Sequence[str]]) -> list[list[str]]:
    return [[row.marked, *cells(row)] for row in outcome.rows]


def _difference_header(outcome: SequenceOutcome, title: str) -> list[str]:
    of_classes = outcome.record.header.task == "classification"
    return [
        f"{title} of {metric_title(compared_metric(outcome.record.header))}",
        *(["by seed"] if has_seeds(outcome.record) else []),
        *(["bootstrap p", "p of errors"] if of_classes else ["p"]),
    ]


def _difference_cells(outcome: SequenceOutcome, difference: Difference | None) -> list[str]:
    if difference is None:
        return [NONE] * len(_difference_header(outcome, ""))
    seeds = [seeds_text(difference.over_seeds, outcome, signed=True)] if has_seeds(outcome.record) else []
    found = [interval_text(difference.interval), *seeds, p_text(difference, difference.p)]
    if outcome.record.header.task == "segmentation":
        return found
    if difference.can_decide and difference.p is not None and not difference.keeps_level:
        found[-1] += "?"
    return [*found, p_text(difference, difference.p_errors)]


def _worst(worst: WorstLoss | None, outcome: SequenceOutcome, *, stage: bool) -> str:
    if worst is None:
        return NONE
    where = f"{worst.domain} after {worst.after}" if stage else worst.domain
    return spread_text(worst.loss, outcome) + (f", {where}" if len(outcome.domains) > 2 else "")


def _seeds(row: RowOutcome) -> str:
    lacking = [cell.status for cell in row.lacking]
    said = [f"{lacking.count(status)} {status}" for status in dict.fromkeys(lacking)]
    return ", ".join([str(len(row.matrices)), *said])


def _with_deviation(value: float | None, deviation: float | None) -> str:
    return number(value) if deviation is None else f"{number(value)} [{number(deviation)}]"


def _chosen(choice: Choice) -> str:
    if choice.unfinished:
        return f"nothing yet: {choice.unfinished} trials are not finished"
    return "none could be scored" if choice.chosen is None else settings_text(choice.chosen)


def _searched(candidates: Sequence[Candidate]) -> str:
    names = candidates[0].settings
    values = {name: dict.fromkeys(plain(one.settings[name]) for one in candidates) for name in names}
    return "; ".join(f"{name}: {', '.join(tried)}" for name, tried in values.items())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
