"""`perdure check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from perdure.cli import options
from perdure.cli.console import counting, progress_bar, show
from perdure.cli.requests import check_device


def check(
    release: Annotated[Path, typer.Option("--release", help="The release in use.")],
    data: Annotated[Path, typer.Option("--data", help="New scans: a data folder, or any folder with images.")],
    domain: Annotated[
        list[str] | None, typer.Option("--domain", help="Which domains of a data folder; all if left out. Repeat.")
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None, typer.Option("--split", help="Which split; all if left out.")
    ] = None,
    trust: options.Trust = None,
    device: options.Device = "cpu",
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Says whether new scans, without labels, are what a release is used to, and whether an update is needed.

    Example: perdure check --release releases/b --data new_scans
    """
    check_device(device)
    from perdure.data.unlabelled import unlabelled_scans
    from perdure.evaluation.shift_of_scans import shifts
    from perdure.evidence.advice import advice
    from perdure.evidence.check_text import check_record, check_renderables
    from perdure.release import Release

    opened = Release.open(release, trust or ())
    scans = unlabelled_scans(data, domain or (), split)
    with progress_bar() as bar:
        found = shifts(opened, scans, device=device, progress=counting(bar, "reading scans"))
    said = advice(found, opened.contract.task)
    show(check_record(found, said), as_json, *check_renderables(found, said))
