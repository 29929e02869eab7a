"""`perdure doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from perdure.cli import options
from perdure.cli.console import counting, progress_bar, show
from perdure.cli.requests import check_device, checked_dataset
from perdure.errors import ConfigurationError


def doctor(
    run: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The folder <out>.run that an update leaves.")],
    release: Annotated[
        Path | None, typer.Option("--release", help="The parent release; needed unless it stands beside the candidate.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Data folder with earlier domains, to see what was forgotten and where."),
    ] = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option("--split", help="Which split of it.")] = "val",
    control: Annotated[
        Path | None, typer.Option("--control", help="The same update by finetune-lr-matched, to compare with.")
    ] = None,
    trust: options.Trust = None,
    device: options.Device = "cpu",
    cache: options.CacheFolder = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Says of an update whether the penalty is alive, what drifted, and why.

    Example: perdure doctor releases/b.run --release releases/base --data brains
    """
    check_device(device)
    from perdure.evaluation.diagnosis import Run, diagnose
    from perdure.evidence.diagnosis_text import diagnosis_record, diagnosis_renderables
    from perdure.release import Release

    examined = Run.open(run)
    folder = release
    if examined.parent is not None and (folder := folder or examined.parent_beside()) is None:
        raise ConfigurationError(
            f"{run}: its parent release, {examined.parent[:16]}, does not stand beside it; name it with --release."
        )
    parent = None if folder is None else Release.open(folder, trust or ())
    candidate = Release.open(examined.candidate, trust or ()) if examined.candidate.exists() else None
    beside = None if control is None else Release.open(control, trust or ())
    with progress_bar() as bar:
        domains = []
        if data is not None and parent is not None and candidate is not None:
            names = [seen.domain for seen in parent.identity.domains]
            told = counting(bar, "checking data")
            dataset = checked_dataset(data, names, parent.contract, (split,), cache, told)
            domains = [dataset.domain(name, parent.contract, required=(split,), cache=cache) for name in names]
        diagnosis = diagnose(
            examined, parent, candidate, domains=domains, split=split, control=beside, device=device,
            progress=counting(bar, "scoring cases"),
        )  # fmt: skip
    show(diagnosis_record(diagnosis), as_json, *diagnosis_renderables(diagnosis))
