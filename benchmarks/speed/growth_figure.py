"""The curves of growth as SVG, whose bytes depend on the figures alone."""

from __future__ import annotations

import io
from collections.abc import Mapping

from goals import BY_KEY
from results import Found
from timing import quartiles

COLUMNS = 4


def chart(curves: Mapping[str, Found]) -> str:
    """One small picture a row of growth, with its exponent."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    keys = [key for key in BY_KEY if key in curves]
    lines = -(-len(keys) // COLUMNS)
    with mpl.rc_context():
        # whatever the user's own matplotlibrc says
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.hashsalt": "perdure", "svg.fonttype": "path", "font.size": 8.0})
        figure = Figure(figsize=(2.9 * COLUMNS, 2.5 * lines), layout="constrained", dpi=96)
        grid = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
        for axes in grid:
            axes.set_visible(False)
        for axes, key in zip(grid, keys, strict=False):
            axes.set_visible(True)
            x, y = zip(*(point[:2] for point in curves[key].points), strict=True)
            _, exponent, _ = quartiles(curves[key].values)
            axes.loglog(x, y, "o-", color="#0072b2", markersize=3)
            what, _, varied = BY_KEY[key].what.partition(": ")
            axes.set_title(f"{what.replace('`', '')}\n{varied} (exponent {exponent:.2f})".strip(), fontsize=8)
            axes.set_ylabel("MiB" if key.endswith("-memory") else "s")
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in content.getvalue().splitlines()) + "\n"
