"""`perdure export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from perdure.cli import options
from perdure.cli.console import counting, progress_bar, show
from perdure.cli.requests import check_free


def export(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", help="A finished release folder.")],
    form: Annotated[Literal["onnx", "monai"], typer.Option("--format", help="ONNX file, or MONAI bundle.")],
    out: Annotated[Path, typer.Option("--out", help="The file (onnx) or folder (monai); never overwritten.")],
    source: Annotated[
        Path | None,
        typer.Option("--input", help="An image, or a folder of images, to compare labels on; noise if left out."),
    ] = None,
    max_disagreement: Annotated[
        float,
        typer.Option("--max-disagreement", min=0.0, max=1.0, help="Largest share of labels that may differ."),
    ] = 1e-4,
    domain: Annotated[
        str | None, typer.Option("--domain", help="Whose batch norm, of a release with one a domain.")
    ] = None,
    trust: options.Trust = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Writes a release for other software, once what is written gives the same labels as the release.

    Example: perdure export releases/b --format onnx --out b.onnx --input scans
    """
    check_free(out)
    from perdure.evaluation.prediction_files import images_in
    from perdure.evidence.exchange.bundle import export_bundle
    from perdure.evidence.exchange.onnx_file import export_onnx
    from perdure.release import Release

    opened = Release.open(release, trust or ())
    images = [] if source is None else images_in(source, out).images
    write = {"onnx": export_onnx, "monai": export_bundle}[form]
    with progress_bar() as bar:
        found = write(
            opened,
            out,
            domain=domain,
            images=images,
            limit=max_disagreement,
            progress=counting(bar, "comparing labels"),
        )
    record = {"out": str(out), "inputs": found.inputs, "compared": found.compared, "different": found.different}
    show(record, as_json, f"{str(found)[0].upper()}{str(found)[1:]}", f"Written to {out}")
