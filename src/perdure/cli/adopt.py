"""`perdure adopt`."""

from __future__ import annotations

from perdure.cli import options
from perdure.cli.console import counting, progress_bar, show
from perdure.cli.requests import (
    check_free,
    check_network,
    first_contract,
    measures_said,
    network_spec,
    recipe_settings,
)


def adopt(
    data: options.Data,
    domain: options.DomainName,
    network: options.Network,
    weights: options.TrainedWeights,
    out: options.Out,
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
    spec = network_spec(network, network_arg, filters=filters, kernel_size=kernel_size)
    recipe_settings(importance_samples=importance_samples, seed=seed)
    measures = measures_said(measure)
    check_free(out)
    with progress_bar() as bar:
        dataset, contract = first_contract(
            data, domain, cache, counting(bar, "checking data"), size=size, spacing=spacing, view=view, dims=dims,
            merge_sides=merge_sides, mean=mean, std=std,
        )  # fmt: skip
        check_network(spec, contract, weights, trust or (), is_trained=True)
        from perdure.evidence.ledger.recording import record_release
        from perdure.evidence.release_text import identity_panel, identity_record
        from perdure.update import adopt

        prepared = dataset.domain(domain, contract, required=("train",), cache=cache)
        prepared.prepare(counting(bar, "preparing images"))
        bar("measuring importance", 0, 1)
        release = adopt(
            spec,
            prepared,
            weights=weights,
            **measures,
            samples=importance_samples,
            seed=seed,
            out=out,
            trusted=trust or (),
        )
    record_release(out, release.identity)
    show(
        identity_record(release.identity),
        as_json,
        identity_panel(release.identity, out.name),
        f"Release written to {out}",
    )
