"""`perdure train`."""

from __future__ import annotations

from perdure.cli import options
from perdure.cli.console import counting, progress_bar, show
from perdure.cli.requests import (
    check_device,
    check_network,
    first_contract,
    measures_said,
    network_spec,
    recipe_settings,
    splits_for,
)


def train(
    data: options.Data,
    domain: options.DomainName,
    out: options.Out,
    network: options.Network = "quicknat",
    network_arg: options.NetworkArgument = None,
    filters: options.Filters = None,
    kernel_size: options.KernelSize = None,
    dropout: options.Dropout = None,
    weights: options.Weights = None,
    trust: options.Trust = None,
    size: options.Size = None,
    spacing: options.Spacing = None,
    view: options.View = "coronal",
    dims: options.Dims = 2,
    merge_sides: options.MergeSides = False,
    mean: options.Mean = None,
    std: options.Std = None,
    preset: options.Preset = "default",
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    optimizer: options.Optimizer = None,
    weight_decay: options.WeightDecay = None,
    patience: options.Patience = None,
    augmentation: options.Augmentation = None,
    clip_norm: options.ClipNorm = None,
    measure: options.Measures = None,
    importance_samples: options.ImportanceSamples = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    devices: options.Devices = 1,
    precision: options.Precision = "auto",
    retry_smaller: options.RetrySmaller = False,
    cache: options.CacheFolder = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Trains a base release on one domain, and measures its memory while the data are there.

    The same command goes on where it was stopped.

    Example: perdure train --data brains --domain siteA --network quicknat --out releases/base
    """
    spec = network_spec(network, network_arg, filters=filters, kernel_size=kernel_size, dropout=dropout)
    settings = recipe_settings(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, optimizer=optimizer, clip_norm=clip_norm,
        weight_decay=weight_decay, patience=patience, augmentation=augmentation, seed=seed,
        importance_samples=importance_samples,
    )  # fmt: skip
    measures = measures_said(measure)
    check_device(device, devices)
    was_there = out.exists()
    with progress_bar() as bar:
        dataset, contract = first_contract(
            data, domain, cache, counting(bar, "checking data"), size=size, spacing=spacing, view=view, dims=dims,
            merge_sides=merge_sides, mean=mean, std=std,
        )  # fmt: skip
        check_network(spec, contract, weights, trust or (), is_trained=False)
        from perdure.evidence.ledger.recording import record_release
        from perdure.evidence.release_text import identity_panel, identity_record
        from perdure.update import Machine, recipe_for, train

        recipe = recipe_for(contract, "base", preset=preset).model_copy(update=settings)
        prepared = dataset.domain(domain, contract, required=splits_for(recipe), cache=cache)
        prepared.prepare(counting(bar, "preparing images"))
        release = train(
            spec,
            prepared,
            recipe=recipe,
            weights=weights,
            **measures,
            machine=Machine(device, devices, precision),
            retry_smaller=retry_smaller,
            out=out,
            progress=bar,
            trusted=trust or (),
        )
    record_release(out, release.identity)
    show(
        identity_record(release.identity),
        as_json,
        identity_panel(release.identity, out.name),
        f"{out} was finished before; nothing was done." if was_there else f"Release written to {out}",
    )
