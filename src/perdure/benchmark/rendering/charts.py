"""What a grid found, as pictures: SVG whose bytes depend on the record alone."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from perdure.benchmark.comparison import Comparison, compared_metric
from perdure.benchmark.outcomes import OLD_DATA, TOLD, RowOutcome, SequenceOutcome, is_told_the_domain
from perdure.benchmark.rendering.labels import write_labels
from perdure.benchmark.rendering.strengths import Series
from perdure.evaluation.intervals import short
from perdure.evidence.text import metric_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 8.0
"""Inches; some 770 pixels, what a page of documents is wide."""

# Okabe and Ito's colours, which people with any common colour blindness tell apart
BLUE, ORANGE, GREEN, BLACK, GREY = "#0072b2", "#d55e00", "#009e73", "#000000", "#777777"
_DIGITS = 6  # of what is drawn; rounding of another machine is not seen


def trade_off_chart(outcome: SequenceOutcome) -> str:
    """What each row cost the earlier domain that lost most, against how well it learnt."""
    metric = metric_title(outcome.record.header.metric)
    found = [one for one in map(_point, outcome.rows) if one is not None]
    with _style():
        figure = _figure(5.2 if len(found) < 15 else 6.4)
        axes = figure.subplots()
        axes.set_xlabel(f"worst loss of an earlier domain at the end, {metric} (left is better)")
        axes.set_ylabel(f"TL: mean {metric} on each domain when learnt (up is better)")
        for row, x, y, seeds in found:
            colour = _colour(row)
            across, up = zip(*seeds, strict=True)
            axes.scatter(across, up, s=7, color=colour, alpha=0.45, linewidths=0, zorder=2)
            face = "none" if row.needs_old_data else colour
            axes.scatter(
                [x], [y], s=44, marker=_marker(row), facecolors=face, edgecolors=colour, linewidths=1.4, zorder=3
            )
        front = _front([(x, y) for row, x, y, _ in found if not row.needs_old_data])
        if len(front) > 1:
            axes.plot(*zip(*front, strict=True), color=GREEN, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        axes.axvline(0, color=GREY, linewidth=0.6, zorder=0)
        axes.margins(0.09)
        axes.legend(
            handles=_key(found, has_front=len(front) > 1), loc="upper center", bbox_to_anchor=(0.5, -0.11), ncol=3
        )
        # names are placed by pixels, so that nothing may move after them
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        axes.set_xlim(axes.get_xlim())
        axes.set_ylim(axes.get_ylim())
        write_labels(
            axes,
            [row.marked for row, *_ in found],
            [(x, y) for _, x, y, _ in found],
            [*(seed for *_, seeds in found for seed in seeds), *_along(front)],
        )
        return _svg(figure)


def matrices_chart(outcome: SequenceOutcome) -> str:
    """The train-test matrix of every row, the mean over seeds, on one scale of colours."""
    from matplotlib.colors import Normalize

    rows = [row for row in outcome.rows if row.matrices]
    values = [value for row in rows for value in row.mean.ravel() if not math.isnan(value)]
    size = len(outcome.domains)
    columns = 4
    lines = max(1, math.ceil(len(rows) / columns))
    names = [_shortened(domain, 11) for domain in outcome.domains]
    with _style():
        figure = _figure(lines * (0.28 * size + 0.55) + 0.9)
        grid = figure.subplots(lines, columns, squeeze=False)
        norm = Normalize(min(values, default=0.0), max(values, default=1.0))
        image = None
        for place, axes in enumerate(grid.flat):
            if place >= len(rows):
                axes.set_axis_off()
                continue
            R = np.round(rows[place].mean, _DIGITS)
            image = axes.imshow(R, cmap="viridis", norm=norm, aspect="auto", interpolation="nearest")
            _write_values(axes, R, norm)
            axes.set_title(_wrapped(rows[place].marked), fontsize=9)
            axes.set_xticks(range(size), names, rotation=30, ha="right")
            axes.set_yticks(range(size), [f"after {name}" for name in names])
            axes.tick_params(
                labelbottom=place + columns >= len(rows), labelleft=place % columns == 0, length=0, labelsize=8
            )
            for edge in axes.spines.values():
                edge.set_visible(False)
        if image is not None:
            title = (
                f"{metric_title(outcome.record.header.metric)} on the domain below; framed: just learnt{_signs(rows)}"
            )
            figure.colorbar(
                image, ax=list(grid.flat), orientation="horizontal", fraction=0.02, pad=0.01, aspect=50, label=title
            )
        return _svg(figure)


def differences_chart(outcome: SequenceOutcome, comparisons: Mapping[str, Comparison | None], reference: str) -> str:
    """Differences to one row on every domain at the end, with their intervals over subjects."""
    found = [one for one in comparisons.values() if one is not None]
    metric = metric_title(compared_metric(outcome.record.header))
    names = {row.label: row.marked for row in outcome.rows}
    has_seeds = any(one.over_seeds and one.over_seeds.n > 1 for row in found for one in row.differences)
    with _style():
        figure = _figure(max(1.9, 0.24 * len(found) + 1.3))
        grid = figure.subplots(1, len(outcome.domains), squeeze=False, sharex=True, sharey=True)[0]
        for place, axes in enumerate(grid):
            for line, comparison in enumerate(found):
                one, seeds = comparison.differences[place].interval, comparison.differences[place].over_seeds
                if one.estimate is None:
                    continue
                colour = BLUE if one.estimate >= 0 else ORANGE
                axes.barh(line, round(one.estimate, _DIGITS), height=0.62, color=colour, alpha=0.55, linewidth=0)
                if one.low is not None and one.high is not None:
                    ends = [round(one.low, _DIGITS), round(one.high, _DIGITS)]
                    axes.plot(ends, [line, line], color=BLACK, linewidth=1.3, solid_capstyle="butt")
                if seeds is not None and seeds.n > 1:
                    dots = [round(seeds.min, _DIGITS), round(seeds.max, _DIGITS)]
                    axes.scatter(dots, [line, line], s=9, color="white", edgecolors=BLACK, linewidths=0.7, zorder=3)
            axes.axvline(0, color=BLACK, linewidth=0.8)
            axes.set_title(_wrapped(outcome.domains[place]), fontsize=9)
            axes.set_yticks(range(len(found)), [_wrapped(names[one.label], 30) for one in found])
            axes.tick_params(axis="y", length=0)
            axes.locator_params(axis="x", nbins=4)
            axes.grid(axis="x", color="#dddddd", linewidth=0.6)
            axes.set_axisbelow(True)
        grid[0].set_ylim(len(found) - 0.4, -0.6)
        said = f"{metric} above that of {names[reference]}; lines: 95 % intervals over subjects"
        said += "; dots: smallest and largest seed" if has_seeds else ""
        figure.supxlabel(said + _signs(outcome.rows), fontsize=9)
        return _svg(figure)


def strengths_chart(outcome: SequenceOutcome, series: Sequence[Series]) -> str:
    """The score on both domains of a sequence against the strength that restrains an update."""
    columns = min(2, len(series))
    lines = math.ceil(len(series) / columns)
    title = metric_title(outcome.record.header.metric)
    shown = {label for one in series for label in one.rows}
    said = _signs([row for row in outcome.rows if row.label in shown]).strip()
    with _style():
        figure = _figure(lines * 2.6 + 0.7)
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for place, axes in enumerate(grid.flat):
            if place >= len(series):
                axes.set_axis_off()
                continue
            one = series[place]
            places, ticks = _positions(one.strengths)
            for scores, before, name, colour, marker in (
                (one.old, one.before[0], f"O, {one.domains[0]}", BLUE, "o"),
                (one.new, one.before[1], f"T, {one.domains[1]}", ORANGE, "s"),
            ):
                label = name if place == 0 else None
                axes.plot(places, np.round(scores, _DIGITS), color=colour, marker=marker, markersize=5, label=label)
                axes.axhline(round(before, _DIGITS), color=colour, linewidth=1, linestyle=(0, (2, 3)))
            axes.set_title(_wrapped(f"{one.name} ({one.split})", 46), fontsize=9)
            axes.set_xticks(places, ticks)
            axes.set_xlabel("strength λ")
            axes.grid(color="#dddddd", linewidth=0.6)
            if place % columns == 0:
                axes.set_ylabel(title)
        from matplotlib.lines import Line2D

        handles = [*grid.flat[0].get_legend_handles_labels()[0]]
        handles.append(Line2D([], [], color=GREY, linewidth=1, linestyle=(0, (2, 3)), label="before the update"))
        if said:
            handles.append(Line2D([], [], linestyle="none", label=said))
        figure.legend(handles=handles, loc="outside lower center", ncol=3)
        return _svg(figure)


def _point(row: RowOutcome) -> tuple[RowOutcome, float, float, list[tuple[float, float]]] | None:
    worst, learnt = row.worst_loss(), row.measure("transfer_learning")
    if worst is None or learnt is None:
        return None
    diagonal = row.R[:, range(len(row.domains)), range(len(row.domains))].mean(axis=1)
    dots = zip(row.losses_by_seed(worst.domain), diagonal.tolist(), strict=True)
    seeds = [(round(x, _DIGITS), round(y, _DIGITS)) for x, y in dots if math.isfinite(x) and math.isfinite(y)]
    return row, round(worst.loss.mean, _DIGITS), round(learnt.mean, _DIGITS), seeds


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of the points that no other beats on both sides, from the left."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front


def _along(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points on a line through others, close enough that no name fits between them."""
    shares = np.linspace(0, 1, 40)
    return [(a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])) for a, b in pairwise(line) for t in shares.tolist()]


def _colour(row: RowOutcome) -> str:
    return ORANGE if row.row.role == "control" else BLUE


def _marker(row: RowOutcome) -> str:
    return {"no-update": "s", "finetune": "D"}.get(str(row.row.method["name"]), "o")


def _key(found: Sequence[tuple[RowOutcome, float, float, Any]], *, has_front: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    rows = [row for row, *_ in found]

    def mark(label: str, colour: str, marker: str = "o", *, hollow: bool = False, size: float = 6) -> Line2D:
        face = "none" if hollow else colour
        return Line2D(
            [], [], color=colour, marker=marker, linestyle="none", markersize=size, markerfacecolor=face, label=label
        )

    names = {str(row.row.method["name"]) for row in rows}
    key = [mark("method", BLUE)] if any(row.row.role == "method" for row in rows) else []
    key += [mark("control", ORANGE)] if any(row.row.role == "control" for row in rows) else []
    key += [mark("no update", BLACK, "s")] if "no-update" in names else []
    key += [mark("fine-tuning", BLACK, "D")] if "finetune" in names else []
    key += [mark(f"{OLD_DATA} needs old data", BLACK, hollow=True)] if any(row.needs_old_data for row in rows) else []
    key += [mark("one seed", BLACK, size=3)] if any(len(row.matrices) > 1 for row in rows) else []
    if any(is_told_the_domain(row.row) for row in rows):
        key.append(Line2D([], [], linestyle="none", label=f"{TOLD} told which domain an image is from"))
    key += [Line2D([], [], color=GREEN, linestyle=(0, (4, 3)), label="none does better on both")] if has_front else []
    return key


def _signs(rows: Sequence[RowOutcome]) -> str:
    """What the signs behind names say, on a line of its own."""
    said = [f"{TOLD} told which domain an image is from"] if any(is_told_the_domain(row.row) for row in rows) else []
    said += [f"{OLD_DATA} needs old data"] if any(row.needs_old_data for row in rows) else []
    return "\n" + "; ".join(said) if said else ""


def _write_values(axes: Any, R: np.ndarray[Any, Any], norm: Any) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    for (i, j), value in np.ndenumerate(R):
        if math.isnan(value):
            continue
        red, green, blue, _ = colormaps["viridis"](norm(value))
        # relative luminance, roughly; at .18 black and white contrast alike
        ink = "#000000" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.18 else "#ffffff"
        said = axes.text(j, i, short(float(value), 3), ha="center", va="center", fontsize=7.5, color=ink)
        said.set_in_layout(False)  # it lies within the axes; to measure it takes long
        if i == j:
            axes.add_patch(Rectangle((j - 0.46, i - 0.44), 0.92, 0.88, fill=False, edgecolor=ink, linewidth=1.2))


def _positions(strengths: Sequence[float]) -> tuple[list[float], list[str]]:
    """Where strengths stand on a logarithmic line; 0, which has no logarithm, one step to the left of all others."""
    logs = [math.log10(one) for one in strengths if one > 0]
    zero = min(logs, default=0.0) - 1
    return [math.log10(one) if one > 0 else zero for one in strengths], [f"{one:g}" for one in strengths]


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _wrapped(text: str, width: int = 26) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width)) or text


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl

    settings: Any = {
        "svg.hashsalt": "perdure",
        # letters as outlines, so that every reader sees the same ones
        "svg.fonttype": "path",
        "font.family": "DejaVu Sans",
        "font.size": 9.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 8.0,
    }
    with mpl.rc_context():
        # whatever the user's own matplotlibrc says
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        yield


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white", dpi=96)


def _svg(figure: Figure) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    if (engine := figure.get_layout_engine()) is not None:
        # savefig would draw all of it once for the layout alone
        FigureCanvasSVG(figure)
        figure.dpi = 72  # what savefig sets for SVG
        engine.execute(figure)
        figure.set_layout_engine("none")
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    # so that no line ends in a space, which some editors take away
    return "\n".join(line.rstrip() for line in content.getvalue().splitlines()) + "\n"
