"""Draws what a network sees in the cases of each domain, before and after its updates (Gupta et al. 2020, Figure 4).

    python benchmarks/features.py --out RUN --data FOLDER --sequence S --label L --seed N --figure FILE.svg

RUN is the folder of a finished `perdure benchmark`; L is a row, and may be given several times. Each line of the figure
is one release: the base, and that after the last update of each row. Each column is a domain. Axes are the first two
principal components of a release's features over all domains, or UMAP with `--umap`; distances in UMAP mean little, and
no axes of two releases are the same. Validation cases are shown unless `--split` says otherwise: the test split is for
the scores.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perdure.benchmark.cell import RECORD, CellRecord
from perdure.data import Dataset
from perdure.errors import EvaluationError, PerdureError, Problem
from perdure.evaluation.features import Features, features, principal_components, umap_coordinates
from perdure.release import Release
from perdure.types import SPLITS

# dark to light, so that grades in order are seen in order, also without colours
COLOURS = "viridis"


class Shown(NamedTuple):
    """One line of the figure.

    Args:
        title: which release.
        release: itself.
    """

    title: str
    release: Release


def finished(out: Path, sequence: str, label: str, seed: int) -> CellRecord:
    """The record of a final cell; of several, as after a change of the file, the newest.

    Raises:
        EvaluationError: if there is none, or it has no release.
    """
    found = [CellRecord.model_validate_json(path.read_bytes()) for path in out.glob(f"cells/*/final-*/{RECORD}")]
    wanted = [one for one in found if (one.cell.sequence, one.cell.label, one.cell.seed) == (sequence, label, seed)]
    if not wanted:
        names = sorted({f"{one.cell.sequence}, {one.cell.label}, seed {one.cell.seed}" for one in found})
        allowed = f"finished are: {'; '.join(names) or 'none'}"
        raise EvaluationError(str(Problem(str(out), "cells", f"no {sequence}, {label}, seed {seed}", allowed)))
    newest = max(wanted, key=lambda one: one.finished)
    if not newest.releases:
        raise EvaluationError(f"{newest.cell.name}: {newest.status}: it has no release. {newest.reason}")
    return newest


def opened(out: Path, named: str, trusted: Sequence[str]) -> Release:
    """The release that a cell's record calls `<key> <id>`."""
    key = named.split()[0]
    paths = sorted((out / "releases").glob(f"*-{key}"))
    if not paths:
        raise EvaluationError(f"{out}: releases: none with key {key}; was it deleted? Run the benchmark again.")
    return Release.open(paths[0], trusted)


def chart(
    shown: Sequence[tuple[str, Features]], structures: Sequence[str], domains: Sequence[str], *, umap: bool
) -> str:
    """The figure as SVG, whose bytes depend on the features alone."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    colours = mpl.colormaps[COLOURS](np.linspace(0.0, 0.92, len(structures)))
    with mpl.rc_context():
        # whatever the user's own matplotlibrc says
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.hashsalt": "perdure", "svg.fonttype": "path", "font.size": 9.0})
        figure = Figure(figsize=(3.4 * len(domains) + 0.6, 2.9 * len(shown) + 0.7), layout="constrained", dpi=96)
        grid = figure.subplots(len(shown), len(domains), squeeze=False, sharex="row", sharey="row")
        for line, (title, found) in enumerate(shown):
            points, shares = (umap_coordinates(found.values), None) if umap else principal_components(found.values)
            of_domain, classes = np.array(found.domains), np.array(found.classes)
            for column, domain in enumerate(domains):
                axes = grid[line, column]
                for place, name in enumerate(structures):
                    here = points[(of_domain == domain) & (classes == place)]
                    axes.scatter(*here.T, s=12, color=colours[place], linewidths=0, alpha=0.8, label=name)
                axes.set_title(domain if line == 0 else "")
                axes.set_xlabel("UMAP 1" if shares is None else f"component 1 ({shares[0]:.0%})")
                if column == 0:
                    second = "UMAP 2" if shares is None else f"component 2 ({shares[1]:.0%})"
                    axes.set_ylabel(f"{title}\n{second}")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncol=min(4, len(labels)), frameon=False)
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in content.getvalue().splitlines()) + "\n"


def draw(given: argparse.Namespace) -> str:
    """The figure that a command line asks for."""
    records = [finished(given.out, given.sequence, label, given.seed) for label in given.label]
    lines = [Shown("before", opened(given.out, records[0].releases[0], given.trust))]
    lines += [
        Shown(label, opened(given.out, one.releases[-1], given.trust))
        for label, one in zip(given.label, records, strict=True)
    ]
    names = [seen.domain for seen in lines[-1].release.identity.domains]
    found = []
    for one in lines:
        dataset = Dataset.open(given.data)
        if unknown := [name for name in names if name not in dataset.domains]:
            raise EvaluationError(f"--data {given.data}: no domain {unknown[0]}; it has {', '.join(dataset.domains)}.")
        contract = one.release.contract
        domains = [dataset.domain(name, contract, cache=given.cache, required=(given.split,)) for name in names]
        found.append((one.title, features(one.release, domains, given.split, device=given.device)))
    return chart(found, [one.name for one in lines[0].release.contract.structures], names, umap=given.umap)


def run(words: Sequence[str] | None = None) -> None:
    """Reads the command line and writes the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of a finished benchmark")
    parser.add_argument("--data", type=Path, required=True, help="its data folder")
    parser.add_argument("--sequence", required=True, help="of the benchmark file")
    parser.add_argument("--label", action="append", required=True, help="a row of it; repeat for several")
    parser.add_argument("--seed", type=int, default=0, help="of the cells (default 0)")
    parser.add_argument("--split", choices=SPLITS, default="val", help="whose cases (default val)")
    parser.add_argument("--umap", action="store_true", help="UMAP instead of principal components")
    parser.add_argument("--figure", type=Path, required=True, help="SVG to write")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where networks run")
    parser.add_argument("--cache", type=Path, help="where prepared images are kept")
    parser.add_argument("--trust", action="append", default=[], help="a module that may be imported for the network")
    given = parser.parse_args(words)
    try:
        figure = draw(given)
    except PerdureError as error:
        parser.exit(2, f"{error}\n")
    given.figure.parent.mkdir(parents=True, exist_ok=True)
    given.figure.write_text(figure, encoding="utf-8")
    sys.stdout.write(f"Figure written to {given.figure}\n")


if __name__ == "__main__":
    run()
