"""`perdure adopt`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli import options
from perdure.cli.console import counting, note, progress_bar, show
from perdure.cli.foreign import Chosen, check_source, from_bundle, from_nnunet
from perdure.cli.requests import (
    check_free,
    check_network,
    first_contract,
    measures_said,
    network_spec,
    recipe_settings,
)

if TYPE_CHECKING:
    from perdure.release import Identity

_FOREIGN = "Model folder of another tool"


def adopt(
    context: typer.Context,
    data: options.Data,
    domain: options.DomainName,
    out: options.Out,
    network: Annotated[
        str | None,
        typer.Option("--network", help="One of `perdure inspect networks`.", rich_help_panel="Network"),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="File of the trained weights (.safetensors, .pt).", rich_help_panel="Network"),
    ] = None,
    nnunet: Annotated[
        Path | None,
        typer.Option(
            "--nnunet",
            help="Trained model of nnU-Net v2: the folder with plans.json and the folds.",
            rich_help_panel=_FOREIGN,
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option("--fold", help="Which fold of it; 0, or the only one, if left out.", rich_help_panel=_FOREIGN),
    ] = None,
    stored: Annotated[
        str | None,
        typer.Option(
            "--stored",
            help="Axis codes of the files that nnU-Net was trained on, as RAS; those of the domain if left out.",
            rich_help_panel=_FOREIGN,
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="A MONAI bundle: the folder with configs and models.", rich_help_panel=_FOREIGN),
    ] = None,
    network_arg: options.NetworkArgument = None,
    filters: options.Filters = None,
    kernel_size: options.KernelSize = None,
    trust: options.Trust = None,
    size: options.Size = None,
    spacing: options.Spacing = None,
    view: options.View = "coronal",
    dims: options.Dims = 2,
    merge_sides: options.MergeSides = False,
    mean: options.Mean = None,
    std: options.Std = None,
    measure: options.Measures = None,
    importance_samples: options.ImportanceSamples = None,
    seed: options.Seed = 0,
    cache: options.CacheFolder = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Makes a release of a network trained elsewhere, by measuring its memory on the domain it was trained on.

    Example: perdure adopt --network mysite.nets:UNet --trust mysite --weights unet.pt --data brains --domain siteA
        --out releases/base
    """
    check_source(context, {"network": network, "nnunet": nnunet, "bundle": bundle})
    recipe_settings(importance_samples=importance_samples, seed=seed)
    measures = measures_said(measure)
    unrecorded = _unrecorded(out)
    if unrecorded is None:
        check_free(out)
    with progress_bar() as bar:
        checking = counting(bar, "checking data")
        if nnunet is not None:
            chosen = from_nnunet(nnunet, data, domain, cache, checking, fold=fold, stored=stored)
        elif bundle is not None:
            chosen = from_bundle(context, bundle, data, domain, cache, checking)
        else:
            assert network is not None
            spec = network_spec(network, network_arg, filters=filters, kernel_size=kernel_size)
            dataset, contract = first_contract(
                data, domain, cache, checking, size=size, spacing=spacing, view=view, dims=dims,
                merge_sides=merge_sides, mean=mean, std=std,
            )  # fmt: skip
            check_network(spec, contract, weights, trust or (), is_trained=True)
            chosen = Chosen(dataset, contract, spec, weights)
        from perdure.evidence.ledger.recording import record_release
        from perdure.evidence.release_text import identity_panel, identity_record
        from perdure.update import adopt

        prepared = chosen.dataset.domain(domain, chosen.contract, required=("train",), cache=cache)
        prepared.prepare(counting(bar, "preparing images"))
        bar("measuring importance", 0, 1)
        release = adopt(
            chosen.network,
            prepared,
            weights=chosen.weights,
            **measures,
            samples=importance_samples,
            seed=seed,
            out=None if unrecorded else out,
            trusted=trust or (),
        )
    if unrecorded is not None and not _is_same(unrecorded, release.identity):
        check_free(out)
    record_release(out, unrecorded or release.identity)
    for difference in chosen.differences:
        note(difference)
    more = {"differences": list(chosen.differences)} if chosen.differences else {}
    show(
        {**identity_record(unrecorded or release.identity), **more},
        as_json,
        identity_panel(unrecorded or release.identity, out.name),
        f"Release written to {out}",
    )


def _unrecorded(out: Path) -> Identity | None:
    """What a run made that was stopped before its ledger said so; None where there is nothing to go on with."""
    from perdure.evidence.ledger.ledger import Ledger
    from perdure.evidence.ledger.workspace import made
    from perdure.release import read_identity
    from perdure.release.release import IDENTITY

    if not (out / IDENTITY).is_file():
        return None
    identity = read_identity(out)
    is_known = identity.id in made(Ledger.beside(out).entries())
    return None if is_known or identity.origin != "adopted" else identity


def _is_same(made: Identity, again: Identity) -> bool:
    """Whether two adoptions differ in nothing but their time."""
    first, second = (one.model_dump(mode="json", exclude={"id", "created"}) for one in (made, again))
    return first == second
