"""What a grid found, as one page of Markdown with its figures."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from perdure.benchmark.comparison import FEW, Comparison, against, compared, compared_metric, compared_with_base
from perdure.benchmark.outcomes import SequenceOutcome, outcomes
from perdure.benchmark.record import Record
from perdure.benchmark.rendering.charts import differences_chart, matrices_chart, strengths_chart, trade_off_chart
from perdure.benchmark.rendering.strengths import series_of
from perdure.benchmark.rendering.tables import (
    before_and_after_table,
    choices_table,
    decidable_sentences,
    differences_table,
    further_table,
    has_seeds,
    has_table_1,
    lacking_table,
    measures_table,
    scores_table,
    sign_sentences,
    table_1,
)
from perdure.evidence.text import metric_title
from perdure.release.folder import replace_file

REFERENCES = ("finetune", "no-update")
"""The rows that all others are held against."""
DEFAULT = "default"
"""The row that is held against all others, where there is one."""


def page(record: Record, stem: str) -> dict[str, str]:
    """A page and its figures, by the name of the file; the same record always gives the same bytes.

    Args:
        record: of a grid, finished or not.
        stem: what all names of files begin with.
    """
    header = record.header
    figures: dict[str, str] = {}
    parts = [f"# {header.title or header.name}", "<!-- made by `make results`; do not edit -->", _introduction(record)]
    for outcome in outcomes(record):
        parts += _of_sequence(outcome, f"{stem}-{outcome.name}", figures)
    if header.choices:
        parts += ["## What was searched, and chosen", _rule(record), choices_table(record)]
    if lacking := lacking_table(record):
        parts += ["## Cells without scores", "They are in no mean; a row's other seeds are.", lacking]
    parts += ["## How it was made", "\n".join(f"- {line}" for line in _made(record))]
    return {f"{stem}.md": "\n\n".join(part.strip("\n") for part in parts) + "\n", **figures}


def write_page(record: Record, folder: Path, stem: str) -> list[Path]:
    """Writes a page and its figures, and takes away figures of an earlier one that are no longer made.

    Args:
        record: of a grid.
        folder: that is written to.
        stem: see `page`.

    Returns:
        The files, the page first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = page(record, stem)
    for old in folder.glob(f"{stem}-*.svg"):
        # another stem may begin like this one
        if old.name not in files and any(old.name.startswith(f"{stem}-{name}-") for name in record.header.sequences):
            old.unlink()
    for name, text in files.items():
        replace_file(folder / name, text.encode())
    return [folder / name for name in files]


def index_entry(record: Record, stem: str) -> str:
    """One line for a list of pages."""
    header = record.header
    done = sum(cell.status == "done" for cell in header.cells)
    sequences = "; ".join(f"{name}: {' → '.join(domains)}" for name, domains in header.sequences.items())
    return (
        f"- [{header.title or header.name}]({stem}.md): {sequences}. {len(header.rows)} rows, "
        f"{_counted(len(header.seeds), 'seed')}, {done} of {len(header.cells)} cells with scores."
    )


def _introduction(record: Record) -> str:
    header = record.header
    weights = " with linear weights" if header.ordinal else ""
    if has_seeds(record):
        seeds = (
            f"A number is the mean over {len(header.seeds)} seeds, and behind it in brackets stand the smallest and "
            "the largest seed."
        )
        by_seed = " By seed: the smallest and the largest difference that one seed alone gives."
    else:
        seeds = "A number is that of one seed; what another training would give is not known."
        by_seed = ""
    scores = (
        f"Scores are {metric_title(header.metric)}{weights if header.metric == 'kappa' else ''} on the {header.split} "
        f"split; R[i, j] is the score on domain j after learning domain i. {seeds} The worst loss is that of the "
        "earlier domain that lost most: its score right after it was learnt minus its score at the end, negative where "
        "even that one gained."
    )
    differences = (
        f"Differences are of {metric_title(compared_metric(header))}{weights}, with their 95 % interval in square "
        "brackets. It is over subjects: what other patients would give, not what another training would."
        f"{by_seed} {_tests(record)} p is corrected for the domains of a sequence (Holm), not for rows: among many "
        "rows some reach a small p by chance."
    )
    return "\n\n".join([scores, differences, *sign_sentences(header.rows)])


def _tests(record: Record) -> str:
    header = record.header
    if header.task == "segmentation":
        over = "seeds and the" if has_seeds(record) else "the"
        return (
            "p is that of Wilcoxon's signed-rank test over subjects, whose scores are means over "
            f"{over} structures that both sides could be scored on."
        )
    pooled = "The cases of all seeds make one kappa. " if has_seeds(record) else ""
    errors = "how many grades they are off" if header.ordinal else "the share that is wrong"
    few = (
        f" A question mark: with fewer than {FEW} subjects the bootstrap's p is too small (for two equally good "
        "releases at most .05 in 13 % of trials with 8 subjects), and that of errors is the one to go by."
    )
    return (
        f"{pooled}The bootstrap p draws subjects with all of their cases; the p of errors is that of Wilcoxon's "
        f"signed-rank test over subjects of {errors}.{few if min(header.subjects.values()) < FEW else ''} Differences "
        "of accuracy have intervals of the same draws. Those of AUC have none over subjects, because a record keeps no "
        "probabilities of single cases: they are what each seed gives."
    )


def _of_sequence(outcome: SequenceOutcome, stem: str, figures: dict[str, str]) -> Iterator[str]:
    header = outcome.record.header
    metric = metric_title(header.metric)
    place = f"{outcome.name}: {' → '.join(outcome.domains)}"

    def figure(kind: str, what: str, svg: str) -> str:
        figures[f"{stem}-{kind}.svg"] = svg
        return f"![{what}; {place}]({stem}-{kind}.svg)"

    yield f"## {place}"
    if any(row.worst_loss() for row in outcome.rows):
        yield figure("trade-off", "What rows cost earlier domains, and how well they learn", trade_off_chart(outcome))
    yield measures_table(outcome)
    yield from _each_domain(outcome)
    if has_table_1(outcome.record):
        yield "### In the form of Table 1 of Özgün et al. 2020"
        yield (
            "Square brackets: the s.d. over structures, which is what stands behind ± there (ours: its mean over "
            "seeds); it is no uncertainty. The published numbers are of the paper's own data, network and size."
        )
        yield table_1(outcome)
    for name in REFERENCES:
        if comparisons := against(outcome, name):
            row = next(one for one in outcome.rows if one.label not in comparisons)
            reference = row.label
            yield f"### Held against {reference}"
            yield f"Each row minus {row.marked}, at the end of the sequence."
            yield differences_table(outcome, comparisons, "row")
            yield from _further(outcome, comparisons, "row")
            yield from decidable_sentences(comparisons)
            if name == REFERENCES[0]:
                what = f"Differences to {reference} on each domain"
                yield figure("differences", what, differences_chart(outcome, comparisons, reference))
    yield from _default_against_all(outcome)
    if any(row.matrices for row in outcome.rows):
        yield "### Train-test matrices"
        yield figure("matrices", "Train-test matrix of every row, mean over seeds", matrices_chart(outcome))
    if series := series_of(outcome):
        yield "### By strength"
        yield figure("strengths", f"{metric} on both domains by strength", strengths_chart(outcome, series))


def _each_domain(outcome: SequenceOutcome) -> Iterator[str]:
    if len(outcome.domains) > 2 or outcome.record.header.task == "segmentation":
        yield "### Each domain"
        yield scores_table(outcome)
        return
    yield "### Before and after the update"
    header = outcome.record.header
    change = f"A change is of {metric_title(compared_metric(header))}"
    if has_seeds(outcome.record):
        change += " of the cases of all seeds together, so that it is not quite the difference of the means beside it"
    elif header.metric != compared_metric(header):
        change += ", so that it is not the difference of the scores beside it"
    yield f"O is the original domain, T the target domain. {change}."
    comparisons = {row.label: compared_with_base(outcome, row.label) for row in outcome.rows}
    yield before_and_after_table(outcome, comparisons)
    yield from _further(outcome, comparisons, "row")
    yield from decidable_sentences(comparisons)


def _further(outcome: SequenceOutcome, comparisons: Mapping[str, Comparison | None], first: str) -> Iterator[str]:
    """The same differences in the other scores of classes."""
    if outcome.record.header.task == "classification":
        yield "The same in accuracy and AUC:"
        yield further_table(outcome, comparisons, first)


def _default_against_all(outcome: SequenceOutcome) -> Iterator[str]:
    """The one row that is offered as a default, held against every other."""
    marked = {row.label: row.marked for row in outcome.rows}
    if DEFAULT in marked:
        yield "### The default against every other row"
        yield f"{marked[DEFAULT]} minus each row, at the end of the sequence."
        comparisons = {label: compared(outcome, DEFAULT, label) for label in marked if label != DEFAULT}
        yield differences_table(outcome, comparisons, "minus")
        yield from _further(outcome, comparisons, "minus")


def _rule(record: Record) -> str:
    selection = record.header.config["selection"]
    if selection["rule"] == "mean":
        rule = "the highest mean score over both"
    else:
        rule = (
            f"the highest score on the second among those that cost the first at most {selection['margin']:g}, or the "
            "cheapest where all cost more"
        )
    return (
        "Candidates made the first update of the sequence with every seed, and were scored on validation cases of its "
        f"first two domains. Chosen was the one with {rule}; it holds for the whole sequence. Scores are means over "
        "seeds, before → after the update."
    )


def _made(record: Record) -> Iterator[str]:
    header = record.header
    hours = ", ".join(f"{kind}s {seconds / 3600:.2f}" for kind, seconds in header.seconds.items())
    done = sum(cell.status == "done" for cell in header.cells)
    yield f"Command: `{_command(header.command)}`" if header.command else "Command: not recorded"
    yield f"Seeds: {', '.join(map(str, header.seeds))}"
    yield f"Cells: {len(header.cells)}, {done} of them with scores"
    subjects = ", ".join(f"{name} {count}" for name, count in header.subjects.items())
    yield f"Subjects of the {header.split} split: {subjects}"
    yield f"Hours of cells, one thread each, shared work counted for the cell that did it: {hours or 'not recorded'}"
    yield f"Machine: {header.machine}"
    yield f"Versions: {', '.join(f'{name} {version}' for name, version in header.versions.items())}"
    yield (
        f"The {header.split} split was scored {header.reads['scored']} times, a release on a domain each; "
        f"{header.reads['repeated']} of these {'was' if header.reads['repeated'] == 1 else 'were'} repeated"
    )
    if others := header.reads.get("others"):
        yield f"Other releases in the same folder were scored on it {others} times"
    if header.first_read:
        yield f"First scored: {header.first_read}"
    if header.choices:
        yield f"Last choice: {max(choice.made for choice in header.choices)}"
    yield f"Recorded: {header.created:%Y-%m-%d}"


def _command(command: str) -> str:
    """A command without the folders that absolute paths in it lead through."""
    return shlex.join(_place(word) for word in shlex.split(command))


def _place(word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and option.startswith("--"):
        return f"{option}={_place(value)}"
    return Path(word).name if word.startswith("/") else word


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
