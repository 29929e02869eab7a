"""`perdure report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli import options
from perdure.cli.console import counting, progress_bar, show
from perdure.cli.requests import check_device, checked_dataset
from perdure.errors import ConfigurationError

if TYPE_CHECKING:
    from perdure.cli.console import Bar
    from perdure.data import FolderDomain
    from perdure.evidence.report import Workspace


def report(
    workspace: Annotated[Path, typer.Argument(metavar="WORKSPACE", help="Folder with releases side by side.")],
    out: Annotated[Path, typer.Option("--out", help="The HTML file; replaced if it is there.")],
    release: Annotated[
        str | None,
        typer.Option("--release", help="Which release, by folder or id; default: the judged one, or the newest."),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option("--scores", help="Score file; default: every *.parquet of the workspace. Repeat for several."),
    ] = None,
    verdict: Annotated[
        Path | None, typer.Option("--verdict", help="What the gate wrote; default: verdict.json of the workspace.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Data folder, for pictures of the worst cases and for features.")
    ] = None,
    cases: Annotated[int, typer.Option("--cases", min=0, help="Cases of each domain in pictures.")] = 3,
    subjects: Annotated[
        bool, typer.Option("--subjects/--no-subjects", help="Name subjects and cases as the score file does.")
    ] = True,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json-out", help="The same content as JSON.")] = None,
    pdf: Annotated[Path | None, typer.Option("--pdf", help="The same as PDF; needs the extra `pdf`.")] = None,
    model_card: Annotated[
        Path | None, typer.Option("--model-card", help="Folder for model-card.md and model-card.json.")
    ] = None,
    pins: Annotated[
        Path | None,
        typer.Option("--pins", help="Constraints file; what is installed in another version is said in the report."),
    ] = None,
    trust: options.Trust = None,
    device: options.Device = "cpu",
    cache: options.CacheFolder = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """One page on an update that somebody can judge: verdict, what changed, worst loss, and all that they rest on.

    Beside it stands a bill of materials: what is installed here, as CycloneDX JSON.

    Example: perdure report releases --data brains --out report.html --pdf report.pdf
    """
    _check_targets({"--out": out, "--json-out": json_out, "--pdf": pdf})
    check_device(device)
    from perdure.evidence.bill import pinned
    from perdure.evidence.report import Workspace, check_can_print, collect, write

    if pdf is not None:
        check_can_print()
    found = Workspace.open(workspace, scores=scores or (), verdict=verdict)
    with progress_bar() as bar:
        collected = collect(
            found, release=release, title=title, domains=_domains(found, release, data, cache, bar), cases=cases,
            with_subjects=subjects, trusted=trust or (), pins=None if pins is None else pinned(pins), device=device,
            progress=counting(bar, "running both releases on the worst cases"),
        )  # fmt: skip
        written = write(collected, out, json_out=json_out, pdf_out=pdf, card=model_card)
    one = collected.report
    decision = "none" if one.verdict is None else one.verdict.verdict
    result = {
        "release": one.candidate.name,
        "verdict": decision,
        "files": [str(path) for path in written],
        "missing": one.missing,
    }
    lacking = [f"Not in it: {part}: {why}" for part, why in one.missing.items()]
    show(result, as_json, f"Release {one.candidate.name}, verdict {decision}", *lacking,
         *(f"Written to {path}" for path in written))  # fmt: skip


def _check_targets(targets: dict[str, Path | None]) -> None:
    for option, path in targets.items():
        if path is not None and path.is_dir():
            raise ConfigurationError(f"{option} {path}: is a folder; name a file in it.")


def _domains(
    found: Workspace, release: str | None, data: Path | None, cache: Path | None, bar: Bar
) -> list[FolderDomain]:
    """The scored domains that the data folder has, under the contract of the release."""
    if data is None or found.scores is None:
        return []
    from perdure.data import Dataset

    contract, split = found.candidate(release).identity.contract, found.scores.header.split
    names = [name for name in found.scores.header.domains if name in Dataset.open(data).domains]
    if not names:
        scored = ", ".join(found.scores.header.domains)
        raise ConfigurationError(f"--data {data}: has none of the scored domains, which are {scored}.")
    dataset = checked_dataset(data, names, contract, (split,), cache, counting(bar, "checking data"))
    return [dataset.domain(name, contract, required=(split,), cache=cache) for name in names]
