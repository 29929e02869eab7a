"""`perdure predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure.cli import options
from perdure.cli.console import SOME_FAILED, counting, fail, progress_bar, show
from perdure.cli.requests import check_device


def predict(
    release: Annotated[Path, typer.Option("--release", help="The release folder that predicts.")],
    source: Annotated[Path, typer.Option("--input", help="An image, or a folder of images.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; finished ones are not done again.")],
    domain: Annotated[
        str | None,
        typer.Option("--domain", help="Where the images are from, for a release with one batch norm a domain."),
    ] = None,
    trust: options.Trust = None,
    device: options.Device = "cpu",
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Segments or classifies images: label maps on each image's own grid, or one CSV with probabilities.

    A file that cannot be read is reported and does not stop the others; the exit code is then 6.

    Example: perdure predict --release releases/b --input scans --out predicted
    """
    check_device(device)
    from perdure.evaluation import predict_files
    from perdure.release import Release

    opened = Release.open(release, trust or ())
    with progress_bar() as bar:
        result = predict_files(opened, source, out, device=device, domain=domain, progress=counting(bar, "predicting"))
    record = {"written": [str(path) for path in result.written], "skipped": result.skipped, "failed": result.failed}
    show(record, as_json, f"{len(result.written)} predicted, {result.skipped} done before, in {out}")
    if result.failed:
        raise fail(f"{len(result.failed)} failed:\n" + "\n".join(result.failed.values()), SOME_FAILED)
