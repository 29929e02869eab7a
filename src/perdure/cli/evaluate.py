"""`perdure evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from perdure.cli import options
from perdure.cli.console import counting, progress_bar, show
from perdure.cli.requests import check_device, checked_dataset
from perdure.errors import ConfigurationError


def evaluate(
    release: Annotated[list[Path], typer.Option("--release", help="Release folder. Repeat for several.")],
    data: options.Data,
    out: Annotated[Path, typer.Option("--out", help="Parquet file for the scores; replaced if it is there.")],
    domain: Annotated[
        list[str] | None, typer.Option("--domain", help="Which domains; all that the releases have learnt if left out.")
    ] = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option("--split", help="Which split.")] = "test",
    trust: options.Trust = None,
    device: options.Device = "cpu",
    cache: options.CacheFolder = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Scores releases on domains; of a whole line of releases also the train-test matrix and what was forgotten.

    Example: perdure evaluate --release releases/base --release releases/b --data brains --out scores.parquet
    """
    if out.is_dir():
        raise ConfigurationError(f"--out {out}: is a folder; name a file, for example {out / 'scores.parquet'}.")
    check_device(device)
    from perdure.data import Dataset
    from perdure.evaluation import evaluate
    from perdure.evidence.scores_text import scores_record, scores_renderables
    from perdure.release import Release

    releases = [Release.open(path, trust or ()) for path in release]
    contract = releases[0].contract
    learnt = dict.fromkeys(seen.domain for one in releases for seen in one.identity.domains)
    names = list(dict.fromkeys(domain or learnt))
    if not domain and (absent := [name for name in names if name not in Dataset.open(data).domains]):
        found = f"it lacks {', '.join(absent)}, which the releases have learnt"
        raise ConfigurationError(f"--data {data}: {found}; name the domains to score with --domain.")
    with progress_bar() as bar:
        dataset = checked_dataset(data, names, contract, (split,), cache, counting(bar, "checking data"))
        domains = [dataset.domain(name, contract, required=(split,), cache=cache) for name in names]
        scores = evaluate(releases, domains, split, device=device, progress=counting(bar, "scoring cases"))
    scores.write(out)
    show(scores_record(scores), as_json, *scores_renderables(scores), f"Scores written to {out}")
