"""`perdure update`."""

from __future__ import annotations

from perdure.cli import options
from perdure.cli.console import counting, note, progress_bar, show
from perdure.cli.requests import check_device, checked_dataset, method_settings, recipe_settings, splits_for


def update(
    release: options.ReleaseFolder,
    data: options.Data,
    domain: options.DomainName,
    out: options.Out,
    method: options.MethodName = "mas-lr",
    batch_norm: options.BatchNorm = None,
    granularity: options.GranularityName = None,
    joint_with: options.JointWith = None,
    trust: options.Trust = None,
    preset: options.Preset = "default",
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    optimizer: options.Optimizer = None,
    weight_decay: options.WeightDecay = None,
    patience: options.Patience = None,
    augmentation: options.Augmentation = None,
    clip_norm: options.ClipNorm = None,
    importance_samples: options.ImportanceSamples = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    devices: options.Devices = 1,
    precision: options.Precision = "32-true",
    cache: options.CacheFolder = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Updates a release to a new domain; the release itself is left as it is.

    The same command goes on where it was stopped.

    Example: perdure update --release releases/base --data brains --domain siteB --method mas-lr --out releases/b
    """
    settings = recipe_settings(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, optimizer=optimizer, clip_norm=clip_norm,
        weight_decay=weight_decay, patience=patience, augmentation=augmentation, seed=seed,
        importance_samples=importance_samples,
    )  # fmt: skip
    check_device(device, devices)
    from perdure.methods import method_named
    from perdure.models import check
    from perdure.release import Release
    from perdure.update import Machine, recipe_for, update

    chosen = method_named(method, **method_settings(batch_norm=batch_norm, granularity=granularity))
    parent = Release.open(release, trust or ())
    if has_no_effect := check(parent.model, chosen.batch_norm):
        note(has_no_effect)
    recipe = recipe_for(parent.contract, "update", chosen.batch_norm, preset).model_copy(update=settings)
    names, splits = [domain, *(joint_with or ())], splits_for(recipe)
    was_there = out.exists()
    with progress_bar() as bar:
        dataset = checked_dataset(data, names, parent.contract, splits, cache, counting(bar, "checking data"))
        domains = [dataset.domain(name, parent.contract, required=splits, cache=cache) for name in names]
        for one in domains:
            one.prepare(counting(bar, f"preparing images of {one.name}"))
        from perdure.data import join
        from perdure.evidence.release_text import identity_panel, identity_record

        candidate = update(
            parent,
            domains[0],
            method=chosen,
            recipe=recipe,
            joint_with=join(domains, domain) if joint_with else None,
            machine=Machine(device, devices, precision),
            out=out,
            progress=bar,
        )
    show(
        identity_record(candidate.identity),
        as_json,
        identity_panel(candidate.identity, out.name),
        f"{out} was finished before; nothing was done." if was_there else f"Release written to {out}",
    )
