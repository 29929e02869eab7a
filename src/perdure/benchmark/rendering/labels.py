"""Where can the name of a point stand so that no two names overlap?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

# right, left, above, below, then between them
_DIRECTIONS = tuple(math.radians(angle) for angle in (0, 180, 90, 270, 30, 150, 330, 210, 60, 120, 300, 240))


class Box(NamedTuple):
    """A box in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share any place."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def within(self, other: Box) -> bool:
        """Whether all of it lies in another."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.bottom <= self.bottom
            and self.top <= other.top
        )


class Place(NamedTuple):
    """Where a name stands.

    Args:
        box: that it fills.
        far: whether a line has to lead to its point.
    """

    box: Box
    far: bool


def places(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    *,
    obstacles: Sequence[tuple[float, float]] = (),
    radius: float = 6.0,
) -> list[Place]:
    """A place for the name of each point, in turn: the nearest one that is free.

    Args:
        points: in pixels.
        sizes: of the names, width and height in pixels.
        frame: that names stay in.
        obstacles: further points that names keep off.
        radius: of what is drawn at a point.
    """
    taken = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    taken += [Box(x - radius / 2, y - radius / 2, x + radius / 2, y + radius / 2) for x, y in obstacles]
    found: list[Place] = []
    for point, size in zip(points, sizes, strict=True):
        choices = _candidates(point, size, radius)
        free = (
            place for place in choices if place.box.within(frame) and not any(place.box.overlaps(box) for box in taken)
        )
        # a frame without any free place gets a name that overlaps rather than none
        place = next(free, None) or next(_candidates(point, size, radius))
        taken.append(place.box)
        found.append(place)
    return found


def write_labels(
    axes: Axes, names: Sequence[str], points: Sequence[tuple[float, float]], obstacles: Sequence[tuple[float, float]]
) -> list[Text]:
    """Writes the name of each point near it, with a thin line to those that could not stand next to theirs.

    Args:
        axes: to write on; its limits and the size of its figure must not change any more.
        names: in the order in which they may choose their place.
        points: in the units of the axes.
        obstacles: points that no name may cover.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer: Any = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    texts = [axes.text(0, 0, name, fontsize=8) for name in names]
    sizes = [(extent.width + 4, extent.height + 2) for extent in (text.get_window_extent(renderer) for text in texts)]
    at = [tuple(pair) for pair in axes.transData.transform(points)] if points else []
    around = [tuple(pair) for pair in axes.transData.transform(obstacles)] if obstacles else []
    edge = axes.get_window_extent(renderer)
    frame = Box(edge.x0 + 2, edge.y0 + 2, edge.x1 - 2, edge.y1 - 2)
    back = axes.transData.inverted()
    for text, point, place in zip(texts, at, places(at, sizes, frame, obstacles=around), strict=True):
        x, y = back.transform((place.box.left + 2, (place.box.bottom + place.box.top) / 2))
        text.set_position((x, y))
        text.set_verticalalignment("center_baseline")
        if place.far:
            end = (
                min(max(point[0], place.box.left), place.box.right),
                min(max(point[1], place.box.bottom), place.box.top),
            )
            line = back.transform([point, end])
            axes.plot(line[:, 0], line[:, 1], color="#888888", linewidth=0.6, zorder=1)
    return texts


def _candidates(point: tuple[float, float], size: tuple[float, float], radius: float) -> Iterator[Place]:
    width, height = size
    for ring in range(40):
        distance = radius + 2 + 7 * ring
        for angle in _DIRECTIONS:
            dx, dy = math.cos(angle), math.sin(angle)
            # the nearest point of the box lies at the distance
            x = point[0] + distance * dx + (0 if abs(dx) < 0.1 else math.copysign(width / 2, dx))
            y = point[1] + distance * dy + (0 if abs(dy) < 0.1 else math.copysign(height / 2, dy))
            yield Place(Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2), ring > 0)
