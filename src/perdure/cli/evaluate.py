"""`perdure evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from perdure.cli import options
from perdure.cli.console import counting, progress_bar, show
from perdure.cli.requests import check_device, checked_dataset
from perdure.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from perdure.data import FolderDomain
    from perdure.evaluation import Scores
    from perdure.evidence.remote.sealing import Sealed
    from perdure.release import Release

_REMOTE = "Evidence of other sites"


def evaluate(
    release: Annotated[list[Path], typer.Option("--release", help="Release folder. Repeat for several.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file for the scores; replaced if it is there.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder with dataset.toml and manifest.csv; not needed where all is --remote."),
    ] = None,
    domain: Annotated[
        list[str] | None, typer.Option("--domain", help="Which domains; all that the releases have learnt if left out.")
    ] = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option("--split", help="Which split.")] = "test",
    group: Annotated[
        list[str] | None,
        typer.Option("--group", help="Column of the manifest kept with the scores, for subgroups. Repeat for several."),
    ] = None,
    surface_distance: Annotated[
        bool,
        typer.Option(
            "--surface-distance", help="Of a segmentation also distances of surfaces: hd95 and assd, in mm or pixels."
        ),
    ] = False,
    signed: Annotated[
        Path | None,
        typer.Option(
            "--signed",
            help="Private key of this site (`perdure key`): --out is sealed for another site, ids salted.",
            rich_help_panel=_REMOTE,
        ),
    ] = None,
    remote: Annotated[
        list[Path] | None,
        typer.Option(
            "--remote",
            help="Sealed scores that another site made with --signed; their domains are added. Repeat for several.",
            rich_help_panel=_REMOTE,
        ),
    ] = None,
    trusted_key: Annotated[
        list[Path] | None,
        typer.Option("--trusted-key", help="Public key of another site. Repeat for several.", rich_help_panel=_REMOTE),
    ] = None,
    trust: options.Trust = None,
    device: options.Device = "cpu",
    cache: options.CacheFolder = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Scores releases on domains; of a whole line of releases also the train-test matrix and what was forgotten.

    What was done is recorded in the ledger beside each release.

    Example: perdure evaluate --release releases/base --release releases/b --data brains --out scores.parquet
    """
    if out.is_dir():
        raise ConfigurationError(f"--out {out}: is a folder; name a file, for example {out / 'scores.parquet'}.")
    if signed and remote:
        raise ConfigurationError(f"--signed {signed}: a site signs only what it scored itself; leave --remote out.")
    check_device(device)
    from perdure.evaluation.evaluate import scored
    from perdure.evidence.ledger.recording import record_release, record_scores
    from perdure.evidence.remote.joining import joined
    from perdure.evidence.remote.sealing import check_groups, unsealed
    from perdure.evidence.remote.signing import private_key, public_key, salt_of
    from perdure.evidence.scores_text import scores_record, scores_renderables
    from perdure.release import Release

    key = None if signed is None else (private_key(signed), salt_of(signed))
    keys = [public_key(path) for path in trusted_key or ()]
    sealed = [unsealed(path, keys) for path in remote or ()]
    releases = [Release.open(path, trust or ()) for path in release]
    elsewhere = {name for one in sealed for name in one.scores.header.domains}
    learnt = dict.fromkeys(seen.domain for one in releases for seen in one.identity.domains)
    names = list(dict.fromkeys(domain or (name for name in learnt if name not in elsewhere)))
    if twice := elsewhere.intersection(names):
        raise ConfigurationError(f"--domain {min(twice)}: comes by --remote as well; leave one of them out.")
    if surface_distance and not names:
        raise ConfigurationError("--surface-distance: nothing is scored here; the site that makes --remote gives it.")
    line = [scored(one) for one in releases]
    if sealed:  # what is wrong with them is said before hours of scoring
        joined(None, sealed, line, split)
    domains: list[FolderDomain] = []
    scores: Scores | None = None
    with progress_bar() as bar:
        if names:
            domains = _domains(data, names, bool(domain), releases[0], split, cache, counting(bar, "checking data"))
            from perdure.evaluation import evaluate
            from perdure.evaluation.groups import groups_of, with_groups

            groups = groups_of(domains, split, group or ())  # what is wrong with them is said before scoring
            if key is not None:
                check_groups(groups)
            scores = evaluate(
                releases,
                domains,
                split,
                surface_distance=surface_distance,
                device=device,
                progress=counting(bar, "scoring cases"),
            )
            scores = with_groups(scores, domains, group or ())
    if sealed or scores is None:
        scores = joined(scores, sealed, line, split)
    content, how = (scores.content(), _sources(sealed)) if key is None else _sealed(scores, domains, *key)
    folders = {one.id: path for one, path in zip(releases, release, strict=True)}
    for one, path in zip(releases, release, strict=True):
        record_release(path, one.identity, found=True)
    record_scores(folders, scores, content, out, _case_sets(domains, sealed, split), **how)
    show(scores_record(scores), as_json, *scores_renderables(scores), f"Scores written to {out}")


def _domains(
    data: Path | None,
    names: Sequence[str],
    are_said: bool,
    release: Release,
    split: Literal["train", "val", "test"],
    cache: Path | None,
    progress: Callable[[int, int], None],
) -> list[FolderDomain]:
    """The domains to be scored here, checked from end to end."""
    from perdure.data import Dataset

    if data is None:
        raise ConfigurationError(f"--data: needed to score {', '.join(names)}; name the folder, or a --remote file.")
    if not are_said and (absent := [name for name in names if name not in Dataset.open(data).domains]):
        found = f"it lacks {', '.join(absent)}, which the releases have learnt"
        raise ConfigurationError(f"--data {data}: {found}; name the domains to score with --domain.")
    dataset = checked_dataset(data, names, release.contract, (split,), cache, progress)
    return [dataset.domain(name, release.contract, required=(split,), cache=cache) for name in names]


def _case_sets(
    domains: Sequence[FolderDomain], sealed: Sequence[Sealed], split: Literal["train", "val", "test"]
) -> dict[str, str]:
    """By domain a digest of its cases, for the ledger: whoever looks at others later is seen to."""
    from perdure.evidence.remote.sealing import case_set

    elsewhere = {domain: digest for one in sealed for domain, digest in one.statement.cases.items()}
    return {**elsewhere, **{one.name: case_set(one, split, b"") for one in domains}}


def _sealed(
    scores: Scores, domains: Sequence[FolderDomain], key: Ed25519PrivateKey, salt: bytes
) -> tuple[bytes, dict[str, Any]]:
    """What goes to the other site, and what the ledger says of it."""
    from perdure.evidence.remote.sealing import case_set, sealed
    from perdure.evidence.remote.signing import fingerprint

    cases = {one.name: case_set(one, scores.header.split, salt) for one in domains}
    return sealed(scores, cases, key, salt), {"signed": fingerprint(key.public_key())}


def _sources(sealed: Sequence[Sealed]) -> dict[str, Any]:
    """What the ledger says of the sites whose scores were added."""
    sources = [{"file": one.digest, "key": one.statement.key, "domains": list(one.statement.cases)} for one in sealed]
    return {"remote": sources} if sources else {}
