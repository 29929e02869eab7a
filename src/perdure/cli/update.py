"""`perdure update`."""

from __future__ import annotations

from perdure.cli import options
from perdure.cli.console import counting, note, progress_bar, show
from perdure.cli.requests import (
    check_device,
    checked_dataset,
    interpolated,
    method_settings,
    old_data,
    recipe_settings,
    splits_for,
    trained_at,
)
from perdure.errors import ConfigurationError


def update(
    release: options.ReleaseFolder,
    data: options.Data,
    domain: options.DomainName,
    out: options.Out,
    method: options.MethodName = None,
    batch_norm: options.BatchNorm = None,
    trainable: options.TrainableName = None,
    granularity: options.GranularityName = None,
    method_setting: options.MethodSettings = None,
    recipe_name: options.RecipeName = None,
    joint_with: options.JointWith = None,
    allow_patient_data: options.AllowPatientData = False,
    replay_cases: options.ReplayCases = None,
    retain: options.Retain = None,
    candidate: options.Candidate = None,
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
    precision: options.Precision = "auto",
    retry_smaller: options.RetrySmaller = False,
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
    from perdure.methods import default_method, method_named
    from perdure.models import check
    from perdure.release import Release
    from perdure.update import Machine, check_old_data, recipe_for, update

    own = method_settings(
        method_setting, batch_norm=batch_norm, granularity=granularity, recipe=recipe_name, trainable=trainable
    )
    if method is None and own:
        raise ConfigurationError(f"{', '.join(own)}: settings of a method; name it too (--method).")
    parent = Release.open(release, trust or ())
    chosen = method_named(method or default_method(parent.model).name, **own)
    trained = trained_at(out, retain, candidate)
    check_old_data(chosen, bool(joint_with), allow_patient_data)
    if replay_cases is not None and chosen.data != "replay":
        raise ConfigurationError(f"--replay-cases: only for the method replay; this is {chosen.name}.")
    if has_no_effect := check(parent.model, chosen.batch_norm):
        note(has_no_effect)
    recipe = recipe_for(parent.contract, "update", chosen.batch_norm, preset).model_copy(update=settings)
    names, splits = [domain, *(joint_with or ())], splits_for(recipe)
    was_there = trained.exists()
    with progress_bar() as bar:
        dataset = checked_dataset(data, names, parent.contract, splits, cache, counting(bar, "checking data"))
        domains = [dataset.domain(name, parent.contract, required=splits, cache=cache) for name in names]
        together = old_data(domains, chosen, replay_cases, seed)
        for one in domains if together is None else together.domains:
            one.prepare(counting(bar, f"preparing images of {one.name}"))
        from perdure.evidence.ledger.recording import record_release
        from perdure.evidence.release_text import identity_panel, identity_record

        made = update(
            parent,
            domains[0],
            method=chosen,
            recipe=recipe,
            joint_with=together,
            allow_patient_data=allow_patient_data,
            machine=Machine(device, devices, precision),
            retry_smaller=retry_smaller,
            out=trained,
            progress=bar,
        )
        record_release(trained, made.identity)
        if retain is not None:
            made, was_there = interpolated(parent, made, retain, domains[0], out), False
            record_release(out, made.identity)
    show(
        identity_record(made.identity),
        as_json,
        identity_panel(made.identity, out.name),
        f"{out} was finished before; nothing was done." if was_there else f"Release written to {out}",
    )
