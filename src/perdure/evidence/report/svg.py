"""How do numbers become a figure? Axes and marks as SVG that follows the page's colours, with its content in words.

Every mark carries its colour as an attribute too, because a printer of PDF does not look at the page's style sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from markupsafe import Markup

from perdure.evidence.figures import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Callable

Shape: TypeAlias = Literal["circle", "square", "diamond", "triangle", "cross"]
SHAPES: tuple[Shape, ...] = ("circle", "square", "diamond", "triangle", "cross")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 3")
# Okabe and Ito's, without yellow and sky blue, which white paper swallows
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#767676")
_CHARACTER = 6.4  # width of one at 12 pixels


@dataclass(frozen=True)
class Axis:
    """Numbers along one side of a figure.

    Args:
        title: what they are.
        low: the smallest that is shown.
        high: the largest.
        ticks: where numbers stand, and how they are written.
    """

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Mark:
    """One thing that is drawn, in pixels.

    Args:
        kind: `line` (points), `shape` (at x, y), `bar` (x, y, width, height), or `text` (at x, y).
        colour: `#rrggbb`, or `ink`, `soft` or `rule` for the page's own.
        title: what it says to whoever points at it.
        points: of a line, as SVG writes them.
        x: from the left.
        y: from the top.
        width: of a bar.
        height: of a bar.
        shape: see `SHAPES`.
        dash: of a line.
        text: of a text.
        anchor: of a text: `start`, `middle` or `end`.
        hollow: whether a shape is only an outline.
        weight: of a line, in pixels.
    """

    kind: Literal["line", "shape", "bar", "text"]
    colour: str = "ink"
    title: str = ""
    points: str = ""
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    shape: Shape = "circle"
    dash: str = ""
    text: str = ""
    anchor: str = "start"
    hollow: bool = False
    weight: float = 2.0


@dataclass
class Plot:
    """A rectangle with two axes, and marks in it.

    Args:
        across: from left to right.
        up: from bottom to top.
        width: of the whole, in pixels.
        height: likewise.
        left: of the rectangle; room for the numbers of `up`.
        bottom: room below the rectangle for the numbers of `across`.
    """

    across: Axis
    up: Axis
    width: float = 560
    height: float = 300
    left: float = 66
    bottom: float = 46
    top: float = 12
    right: float = 14
    marks: list[Mark] = field(default_factory=list)

    def x(self, value: float) -> float:
        """Pixels from the left."""
        return self.left + (self.width - self.left - self.right) * _share(value, self.across)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return self.height - self.bottom - (self.height - self.bottom - self.top) * _share(value, self.up)

    def line(self, xs: Sequence[float], ys: Sequence[float | None], colour: str, *, dash: str = "") -> None:
        """A line through points; it breaks where there is none."""
        run: list[str] = []
        for x, y in [*zip(xs, ys, strict=True), (0.0, None)]:
            if y is not None and np.isfinite(y):
                run.append(f"{self.x(x):.1f},{self.y(y):.1f}")
                continue
            if len(run) > 1:
                self.marks.append(Mark("line", colour, points=" ".join(run), dash=dash))
            run = []

    def dot(
        self, x: float, y: float, colour: str, title: str, shape: Shape = "circle", *, hollow: bool = False
    ) -> None:
        """A point, and what it is."""
        self.marks.append(Mark("shape", colour, title, x=self.x(x), y=self.y(y), shape=shape, hollow=hollow))

    def drawn(self, description: str) -> Markup:
        """The figure; the description is read to whoever cannot see it."""
        return svg("report/plot.svg.j2", description, plot=self)


def svg(template: str, description: str, **content: object) -> Markup:
    """A figure from its template."""
    return Markup(ENVIRONMENT.get_template(template).render(description=description, **content))  # noqa: S704 - escaped


def axis(
    title: str, values: Sequence[float | None], *, zero: bool = False, write: Callable[[float], str] | None = None
) -> Axis:
    """An axis that holds all values, with numbers at round places.

    Args:
        title: what the values are.
        values: what is drawn; None and what is not finite do not count.
        zero: whether 0 is to be on it.
        write: how a number is written.
    """
    from matplotlib.ticker import MaxNLocator

    known = [value for value in values if value is not None and np.isfinite(value)] + ([0.0] if zero else [])
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if low == high:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    margin = 0.04 * (high - low)
    ticks = [float(t) for t in MaxNLocator(5).tick_values(low, high)]
    low, high = low - margin, high + margin
    shown = [t for t in ticks if low - 1e-12 <= t <= high + 1e-12]
    digits = 0
    while digits < 6 and any(abs(round(t, digits) - t) > 1e-9 for t in shown):
        digits += 1
    plain = write or (lambda t: f"{t:.{digits}f}".replace("-", "−"))
    return Axis(title, low, high, tuple((t, plain(t)) for t in shown))


def epochs_axis(last: int) -> Axis:
    """Whole numbers from 1."""
    from matplotlib.ticker import MaxNLocator

    ticks = [int(t) for t in MaxNLocator(8, integer=True).tick_values(1, max(2, last)) if 1 <= t <= max(2, last)]
    return Axis("epoch", 1 - 0.02 * last, max(2, last) * 1.02, tuple((float(t), str(t)) for t in ticks))


def text_width(text: str) -> float:
    """Pixels that a text takes at 12 pixels, generously."""
    return len(text) * _CHARACTER


def shortened(text: str, most: int = 28) -> str:
    """A text with its middle left out where it is too long."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - half]}…{text[-half:]}"


def _share(value: float, along: Axis) -> float:
    return (value - along.low) / (along.high - along.low)
