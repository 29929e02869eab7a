"""`perdure demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure.cli import options
from perdure.cli.console import progress_bar, show


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for data, releases, scores and the page.")] = Path("demo"),
    seed: options.Seed = 0,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """The whole story on simulated scanners: train, update three times by two methods, see what was forgotten.

    Nothing is fetched. The same command goes on where it was stopped.

    Example: perdure demo --out demo
    """
    from perdure.benchmark.demo import run_demo
    from perdure.evidence.scores_text import matrix_record, story_renderables

    with progress_bar() as bar:
        story = run_demo(out, seed=seed, progress=bar)
    record = {name: matrix_record(matrix) for name, matrix in story.matrices.items()}
    show({"page": str(story.page), **record}, as_json, *story_renderables(story.matrices), f"Page: {story.page}")
