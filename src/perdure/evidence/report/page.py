"""How does a report become one HTML file that asks nothing of the network?"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from perdure.evaluation import LITERATURE, MEASURES
from perdure.evidence.figures import ENVIRONMENT, change_heat_map, matrix_heat_map, structure_colours
from perdure.evidence.page import matrix_extent, matrix_limits
from perdure.evidence.report import figures
from perdure.evidence.report.family import lineage
from perdure.evidence.report.pictures import DIFFERENCE, DIFFERENCE_COLOURS
from perdure.evidence.report.sections import sections
from perdure.evidence.text import measure_symbol, metric_title, number, worst_in_words

if TYPE_CHECKING:
    from perdure.evidence.report.collect import Collected
    from perdure.evidence.report.content import Report

ROWS = 2000
"""Cases in the table of the page; the JSON has all of them."""
VIEWER, LICENCE = "niivue.umd.js", "niivue-license.txt"
"""`make viewer` fetches the first; the wheel has both."""


@dataclass(frozen=True)
class Script:
    """A script of the page, and the hash by which the browser knows it.

    Args:
        text: of the script.
    """

    text: str

    @property
    def hash(self) -> str:
        """As a Content-Security-Policy writes it."""
        return f"sha256-{base64.b64encode(hashlib.sha256(self.text.encode()).digest()).decode('ascii')}"

    @property
    def markup(self) -> Markup:
        """The same bytes, not escaped: they are ours, or the viewer's."""
        return Markup(self.text)  # noqa: S704


def html(collected: Collected, *, for_print: bool = False) -> str:
    """The page.

    Args:
        collected: what it shows.
        for_print: everything open, and nothing that needs a script.
    """
    report = collected.report
    viewer = None if for_print or not any(one.volume for one in collected.pictures) else viewer_script()
    scripts = [] if for_print else [Script(text) for text in (viewer, _own_script()) if text]
    drawn = {} if collected.matrix is None else _matrices(collected)
    return ENVIRONMENT.get_template("report/report.html.j2").render(
        report=report,
        sections=sections(report),
        for_print=for_print,
        scripts=scripts,
        policy=_policy(scripts),
        has_viewer=viewer is not None,
        wants_viewer=any(one.volume for one in collected.pictures),
        matrices=drawn,
        pictures=collected.pictures,
        volumes=_volumes(collected) if viewer else {},
        rows=report.cases[:ROWS],
        measures=[(one, measure_symbol(one, report.metric)) for one in (*MEASURES, *LITERATURE)],
        figures=figures,
        lineage=lineage,
        metric=metric_title(report.metric),
        difference=[(DIFFERENCE[k], DIFFERENCE_COLOURS[k]) for k in DIFFERENCE],
        legend=_legend(report),
        number=number,
        worst=worst_in_words,
        said=_said,
    )


def viewer_script() -> str | None:
    """NiiVue under its licence; None where it was not fetched."""
    file = resources.files("perdure.evidence.report") / "viewer" / VIEWER
    if not file.is_file():
        return None
    licence = (resources.files("perdure.evidence.report") / LICENCE).read_text(encoding="utf-8")
    return f"/*\n{licence}*/\n{file.read_text(encoding='utf-8')}"


def _own_script() -> str:
    assert ENVIRONMENT.loader is not None
    return ENVIRONMENT.loader.get_source(ENVIRONMENT, "report/report.js")[0]


def _policy(scripts: list[Script]) -> str:
    """Nothing may be fetched; scripts run only if they are, byte for byte, ours."""
    allowed = " ".join(f"'{one.hash}'" for one in scripts) or "'none'"
    rest = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {rest}"


def _matrices(collected: Collected) -> dict[str, Markup]:
    matrix = collected.matrix
    assert matrix is not None
    drawn = {"matrix": matrix_heat_map(matrix, matrix_limits([matrix]))}
    if len(matrix.domains) > 1:
        drawn["change"] = change_heat_map(matrix, matrix_extent([matrix]))
    return drawn


def _volumes(collected: Collected) -> dict[str, Any]:
    """What the viewer reads: by the number of a case its layers; and the colours of structures and differences."""
    with_volume = [one for one in collected.pictures if one.volume]
    names = with_volume[0].volume.structures if with_volume and with_volume[0].volume else ()
    return {
        "cases": {one.facts.number: dict(one.volume.layers) for one in with_volume if one.volume},
        "structures": list(names),
        "colours": list(structure_colours(len(names))),
        "differences": ["", *DIFFERENCE.values()],
        "difference_colours": list(DIFFERENCE_COLOURS),
    }


def _legend(report: Report) -> list[tuple[str, str]]:
    identity = report.candidate.identity or {}
    names = [structure["name"] for structure in identity.get("contract", {}).get("structures", [])]
    shown = {
        name for one in report.shown for name, sides in one.dice.items() if any(side is not None for side in sides)
    }
    colours = structure_colours(len(names))
    return [(name, colour) for name, colour in zip(names, colours, strict=True) if name in shown]


def _said(value: float | None) -> str:
    """A change as it stands in a table, with the class that colours it."""
    if value is None or np.isnan(value):
        return ""
    text = number(value, signed=True)
    return "" if text == "0.000" else "loss" if value < 0 else "gain"


def as_json(report: Report) -> str:
    """All that the page says, for machines; pictures are not in it."""
    return json.dumps(report.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"
