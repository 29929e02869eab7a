"""The figures of a report: each takes values of the report and gives SVG; nothing is computed here but places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from perdure.evidence.report.content import Candidate, Change, Cloud, Curve, Layers
from perdure.evidence.report.svg import (
    COLOURS,
    DASHES,
    SHAPES,
    Axis,
    Mark,
    Plot,
    Shape,
    axis,
    epochs_axis,
    shortened,
    svg,
    text_width,
)
from perdure.evidence.report.words import interval_said
from perdure.evidence.text import number

LAYERS_SHOWN = 40
"""Bars in the figure of layers; the JSON has all of them."""


def intervals(changes: Sequence[Change], what: str) -> Markup:
    """Each change with its interval about the line of no change; one line a domain or structure."""
    found = [one for one in changes if one.change is not None]
    names = [_name(one) for one in found]
    left = min(230.0, max([text_width(shortened(name)) for name in names], default=60.0) + 18)
    ends = [value for one in found if one.interval for value in (one.interval.low, one.interval.high, one.change)]
    across = axis(
        f"change of {what}", ends, zero=True, write=lambda t: number(t, signed=True).rstrip("0").rstrip(".") or "0"
    )
    height = 26.0 * len(found) + 60
    plot = Plot(across, Axis("", 0, 1, ()), width=left + 430, height=height, left=left)
    zero = plot.x(0)
    plot.marks.append(Mark("line", "soft", points=f"{zero:.1f},{plot.top} {zero:.1f},{height - plot.bottom}", weight=1))
    for place, (name, one) in enumerate(zip(names, found, strict=True)):
        y = plot.top + 26 * place + 14
        colour = "loss" if (one.change or 0) < 0 else "gain"
        said = f"{name}: {interval_said(one.interval) if one.interval else ''}"
        plot.marks.append(Mark("text", "ink", said, x=left - 10, y=y + 4, text=shortened(name), anchor="end"))
        if one.interval and one.interval.low is not None and one.interval.high is not None:
            ends_at = f"{plot.x(one.interval.low):.1f},{y} {plot.x(one.interval.high):.1f},{y}"
            plot.marks.append(Mark("line", colour, points=ends_at))
        shape: Shape = "circle" if colour == "gain" else "diamond"
        plot.marks.append(Mark("shape", colour, said, x=plot.x(one.change or 0), y=y, shape=shape))
    return plot.drawn(
        ". ".join(f"{name}: {number(one.change, signed=True)}" for name, one in zip(names, found, strict=True))
    )


def curves(found: Sequence[Curve], kind: str) -> Markup:
    """The loss of every release by epoch: `loss`, `validation_loss` or `penalty`."""
    series = [(one, getattr(one, kind)) for one in found]
    up = axis(
        {"loss": "training loss", "validation_loss": "validation loss"}.get(kind, kind),
        [value for _, values in series for value in values],
    )
    plot = Plot(epochs_axis(max((max(one.epochs, default=1) for one in found), default=1)), up, width=480)
    for place, (one, values) in enumerate(series):
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
        plot.line([float(epoch) for epoch in one.epochs], values, colour, dash=dash)
        for epoch, value in zip(one.epochs, values, strict=True):
            if value is not None and (len(one.epochs) <= 30 or epoch in (one.epochs[0], one.epochs[-1])):
                shape = SHAPES[place % len(SHAPES)]
                plot.dot(epoch, value, colour, f"{one.release}, epoch {epoch}: {value:.4f}", shape)
    ends = [(one.release, [v for v in values if v is not None]) for one, values in series]
    words = ". ".join(f"{name} from {values[0]:.3f} to {values[-1]:.3f}" for name, values in ends if values)
    return plot.drawn(f"{up.title} by epoch. {words}")


def layers(found: Layers) -> Markup:
    """Importance of each layer as a bar, and beside it how far the layer moved."""
    shown = found.layers[:LAYERS_SHOWN]
    left = max([text_width(shortened(one.name)) for one in shown], default=60.0) + 14
    width, row, top = 190.0, 18.0, 34.0
    columns = [("importance", "mean importance Ω", COLOURS[0]), ("moved", "how far it moved", COLOURS[1])]
    if any(one.frozen is not None for one in shown):
        columns.append(("frozen", "frozen for good", COLOURS[2]))
    marks = []
    for place, (field, title, colour) in enumerate(columns):
        x = left + place * (width + 62)
        values = [getattr(one, field) for one in shown]
        most = 1.0 if field == "frozen" else max([value for value in values if value is not None], default=0.0) or 1.0
        marks.append(Mark("text", "soft", x=x, y=18, text=title))
        for line, (one, value) in enumerate(zip(shown, values, strict=True)):
            y = top + row * line
            if place == 0:
                marks.append(
                    Mark("text", "ink", one.name, x=left - 8, y=y + 11, text=shortened(one.name), anchor="end")
                )
            if value is None:
                marks.append(Mark("text", "soft", x=x, y=y + 11, text="–"))
                continue
            said = f"{value:.3g}" if field == "importance" else f"{value:.1%}"
            length = width * value / most
            marks.append(Mark("bar", colour, f"{one.name}: {title} {said}", x=x, y=y + 2, width=length, height=row - 6))
            marks.append(Mark("text", "soft", x=x + max(length, 1) + 5, y=y + 11, text=said))
    words = ". ".join(f"{one.name}: {'none' if one.importance is None else f'{one.importance:.3g}'}" for one in shown)
    return svg(
        "report/free.svg.j2",
        f"Mean importance by layer. {words}",
        marks=marks,
        width=left + len(columns) * (width + 62),
        height=top + row * len(shown) + 6,
    )


def cloud(found: Cloud) -> Markup:
    """One point a case: its shape is the domain, its colour the class."""
    titles = [f"component {i + 1} ({share:.0%})" for i, share in enumerate(found.shares)] or ["UMAP 1", "UMAP 2"]
    across, up = (axis(title, [point[i] for point in found.points]) for i, title in enumerate(titles))
    plot = Plot(across, up, width=460, height=350)
    domains = domains_of(found)
    for (x, y), domain, name in zip(found.points, found.domains, found.classes, strict=True):
        colour = COLOURS[found.names.index(name) % len(COLOURS)]
        plot.dot(x, y, colour, f"{domain}, {name}", SHAPES[domains.index(domain) % len(SHAPES)])
    return plot.drawn(f"{found.kind} of what {found.release} sees in {len(found.points)} cases of {', '.join(domains)}")


def domains_of(found: Cloud) -> list[str]:
    """In the order of their shapes."""
    return list(dict.fromkeys(found.domains))


def trade_off(found: Sequence[Candidate]) -> Markup:
    """What each candidate cost the earlier domain that lost most, against what it gained on the new one."""
    across = axis("worst change of an earlier domain (right is better)", [one.worst for one in found], zero=True)
    up = axis("change on the new domain (up is better)", [one.gain for one in found], zero=True)
    names = 190.0
    plot = Plot(across, up, width=560 + names, height=max(340.0, 16.0 * len(found) + 60), right=names)
    floor, end = plot.height - plot.bottom, plot.width - names
    for line in ((plot.x(0), plot.top, plot.x(0), floor), (plot.left, plot.y(0), end, plot.y(0))):
        plot.marks.append(
            Mark("line", "soft", points="{:.1f},{:.1f} {:.1f},{:.1f}".format(*line), weight=1, dash="2 3")
        )
    # names stand in a column of their own, each at the height of its point or as near as there is room
    below = plot.top
    for one in sorted(found, key=lambda one: -one.gain):
        said = (
            f"{one.release}: {number(one.worst, signed=True)} on {one.worst_domain}, "
            f"{number(one.gain, signed=True)} on the new domain"
        )
        x, y = plot.x(one.worst), plot.y(one.gain)
        below = max(y, below + 16)
        leader = f"{x:.1f},{y:.1f} {end + 8:.1f},{below:.1f}"
        plot.marks.append(Mark("line", "rule", points=leader, weight=1))
        plot.marks.append(Mark("text", "ink", said, x=end + 12, y=below + 4, text=shortened(one.release, 26)))
        shape = Mark("shape", COLOURS[1 if one.is_chosen else 0], said, x=x, y=y)
        plot.marks.append(replace(shape, shape="diamond") if one.is_chosen else replace(shape, hollow=True))
    return plot.drawn(
        ". ".join(
            f"{one.release}: worst earlier domain {number(one.worst, signed=True)}, new domain "
            f"{number(one.gain, signed=True)}"
            for one in found
        )
    )


def key(*, shape: int | None = None, colour: int | None = None) -> Markup:
    """A mark for a legend: the shape of a domain, or the colour of a class, by its place."""
    hue = "ink" if colour is None else COLOURS[colour % len(COLOURS)]
    mark = Mark("shape", hue, x=7, y=7, shape=SHAPES[(shape or 0) % len(SHAPES)])
    return svg("report/free.svg.j2", "", marks=[mark], width=14, height=14)


def line_key(place: int) -> Markup:
    """The line of the release at this place in `curves`, for a legend."""
    colour, dash = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
    marks = [
        Mark("line", colour, points="1,7 43,7", dash=dash),
        Mark("shape", colour, x=22, y=7, shape=SHAPES[place % len(SHAPES)]),
    ]
    return svg("report/free.svg.j2", "", marks=marks, width=44, height=14)


def _name(change: Change) -> str:
    return change.domain if change.structure is None else f"{change.structure}, {change.domain}"
