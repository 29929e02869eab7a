"""Figures as text that stands inside a page: heat maps as SVG, slices as PNG in a data URI."""

from __future__ import annotations

import base64
import colorsys
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from perdure.errors import EvaluationError
from perdure.evidence.text import metric_title, number
from perdure.types import IGNORED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from perdure.evaluation import TrainTestMatrix

ENVIRONMENT = Environment(
    loader=PackageLoader("perdure.evidence"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
"""Every template is escaped: names of domains and structures come from files."""

# Okabe and Ito's colours, which people with any common colour blindness tell apart; black and grey are the image's
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
_LONGEST_LABEL = 16
_CHARACTER = 7.4  # width of one at 13 pixels, generously


@dataclass(frozen=True)
class _Scale:
    """Numbers to colours, evenly from `low` to `high`."""

    colours: str
    low: float
    high: float
    signed: bool = False

    def at(self, share: float) -> tuple[str, str]:
        """The colour at a share of the way, and the ink that can be read on it."""
        from matplotlib import colormaps
        from matplotlib.colors import to_hex

        red, green, blue, _ = colormaps[self.colours](min(max(share, 0.0), 1.0))
        # relative luminance, roughly; at .18 black and white contrast alike, at least 4.5 to 1 on every colour
        luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
        return to_hex((red, green, blue)), "#000000" if luminance > 0.18 else "#ffffff"

    def of(self, value: float) -> tuple[str, str]:
        """The colour of a number, and its ink."""
        return self.at((value - self.low) / (self.high - self.low) if self.high > self.low else 0.5)


@dataclass(frozen=True)
class _Cell:
    x: float
    y: float
    text: str
    fill: str
    ink: str
    title: str
    is_framed: bool


@dataclass(frozen=True)
class _Label:
    x: float
    y: float
    text: str
    title: str


def matrix_heat_map(matrix: TrainTestMatrix, limits: tuple[float, float]) -> Markup:
    """The train-test matrix as SVG: a line a release, a column a domain, the domain just learnt framed.

    Args:
        matrix: what to draw; domains that were never learnt stand apart on the right.
        limits: the scores at the two ends of the colour scale, the same for matrices that are compared.
    """
    values = np.concatenate([matrix.mean, matrix.unseen_mean], axis=1)
    columns = (*matrix.domains, *matrix.unseen)
    return _heat_map(matrix, values, columns, _Scale("viridis", *limits), metric_title(matrix.metric))


def change_heat_map(matrix: TrainTestMatrix, extent: float) -> Markup:
    """R[i, j] - R[j, j] as SVG: what became of each domain after it was learnt; red is loss, blue is gain.

    Args:
        matrix: what to draw.
        extent: the change at the two ends of the colour scale, above 0; 0 is in the middle.
    """
    scale = _Scale("RdBu", -extent, extent, signed=True)
    return _heat_map(matrix, matrix.change, matrix.domains, scale, f"Change of {metric_title(matrix.metric)}")


def slice_image(image: NDArray[Any], labels: NDArray[Any] | None = None, colours: Sequence[str] = ()) -> str:
    """A slice as a PNG data URI, with its labels in colour over it.

    Args:
        image: `(height, width)` or `(height, width, 3)`; its minimum becomes black, its 99.5th percentile white.
        labels: class indices `(height, width)`; 0 and ignored pixels stay grey.
        colours: one a class, `#rrggbb`; see `structure_colours`.

    Raises:
        EvaluationError: if the shapes do not fit, or a label has no colour.
    """
    from PIL import Image

    grey = np.asarray(image, np.float64)
    if grey.ndim not in (2, 3) or (grey.ndim == 3 and grey.shape[2] != 3):
        raise EvaluationError(f"`image` must have shape (height, width) or (height, width, 3); got {grey.shape}.")
    low, high = float(grey.min()), float(np.quantile(grey, 0.995))
    picture = 255 * np.clip((grey - low) / (high - low), 0, 1) if high > low else np.zeros_like(grey)
    picture = np.repeat(picture[..., None], 3, axis=2) if grey.ndim == 2 else picture
    if labels is not None:
        picture = _painted(picture, np.asarray(labels), colours)
    content = io.BytesIO()
    Image.fromarray(picture.round().astype(np.uint8)).save(content, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def structure_colours(classes: int) -> tuple[str, ...]:
    """A colour `#rrggbb` for each class; background, the first, is never drawn. Seven are safe for colour blindness."""
    further = []
    for k in range(max(0, classes - 1 - len(_COLOURS))):
        # steps of the golden ratio never come close to an earlier hue
        red, green, blue = colorsys.hls_to_rgb((0.11 + k * 0.618034) % 1, (0.42, 0.6, 0.74)[k % 3], 0.62)
        further.append(f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}")
    return ("#000000", *_COLOURS, *further)[:classes]


def _painted(picture: NDArray[np.float64], labels: NDArray[Any], colours: Sequence[str]) -> NDArray[np.float64]:
    if labels.shape != picture.shape[:2]:
        raise EvaluationError(f"`labels` must have the shape of the image, {picture.shape[:2]}; got {labels.shape}.")
    drawn = (labels != 0) & (labels != IGNORED)
    if drawn.any() and int(labels[drawn].max()) >= len(colours):
        raise EvaluationError(f"`labels` holds {labels[drawn].max()}; there are colours for {len(colours)} classes.")
    palette = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours], np.float64)
    painted = picture.copy()
    painted[drawn] = 0.4 * picture[drawn] + 0.6 * palette[labels[drawn]]
    return painted


def _heat_map(
    matrix: TrainTestMatrix, values: NDArray[np.float64], columns: Sequence[str], scale: _Scale, what: str
) -> Markup:
    rows = [f"after {domain}" for domain in matrix.domains]
    left = max(len(f"after {_short(domain)}") for domain in matrix.domains) * _CHARACTER + 10
    width = max(70.0, max(len(_short(name)) for name in columns) * _CHARACTER + 14)
    height, top, apart = 44.0, 26.0, 14.0
    places = [left + j * width + (apart if j >= len(rows) else 0) for j in range(len(columns))]
    cells = []
    for (i, j), value in np.ndenumerate(values):
        text = "" if np.isnan(value) else number(float(value), signed=scale.signed)
        fill, ink = scale.of(0.0 if np.isnan(value) else float(value))
        title = f"{what} on {columns[j]} {rows[i]}: {text or 'none'}"
        cells.append(_Cell(places[j], top + i * height, text, fill, ink, title, is_framed=j == i))
    bottom = top + len(rows) * height
    svg = ENVIRONMENT.get_template("heat_map.svg.j2").render(
        width=places[-1] + width + 2,
        height=bottom + 42,
        cell=(width - 3, height - 3),
        cells=cells,
        rows=[
            _Label(left - 8, top + (i + 0.5) * height, f"after {_short(domain)}", rows[i])
            for i, domain in enumerate(matrix.domains)
        ],
        columns=[_Label(x + width / 2, top - 9, _short(name), name) for x, name in zip(places, columns, strict=True)],
        scale=[(left + 6 * k, scale.at(k / 23)[0]) for k in range(24)],
        scale_y=bottom + 12,
        ends=[number(end, signed=scale.signed) for end in (scale.low, scale.high)],
        left=left,
        description=". ".join(cell.title for cell in cells if cell.text),
    )
    return Markup(svg)  # noqa: S704 - rendered by a template that escapes


def _short(label: str) -> str:
    if len(label) <= _LONGEST_LABEL:
        return label
    half = (_LONGEST_LABEL - 1) // 2
    return f"{label[: _LONGEST_LABEL - 1 - half]}…{label[-half:]}"
