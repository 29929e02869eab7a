"""From a domain to a release: train a base, adopt a stranger's network, update a release."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from perdure.errors import MethodError, UpdateError
from perdure.importance import MAS, MEASURES, Fisher, Importance, measure_from
from perdure.methods import Method, default_method, finetune, words_for
from perdure.models import NetworkSpec, build, describe, has_dropout, load_weights
from perdure.release import Release
from perdure.update.consolidation import consolidate
from perdure.update.job import Job, mean_step_share, refuse_existing, run_job
from perdure.update.loop import Progress, silent
from perdure.update.machine import Machine
from perdure.update.provenance import identity_of, measured
from perdure.update.recipe import Recipe, recipe_for

if TYPE_CHECKING:
    from torch import nn

    from perdure.types import Domain


def train(
    network: nn.Module | NetworkSpec,
    domain: Domain,
    *,
    recipe: Recipe | None = None,
    weights: Path | str | None = None,
    measures: Sequence[Importance] = (MAS(), Fisher()),
    machine: Machine | None = None,
    out: Path | str | None = None,
    retry_smaller: bool = False,
    progress: Progress = silent,
    trusted: Sequence[str] = (),
) -> Release:
    """Trains a base release on its first domain, and measures its memory while the data are there.

    Args:
        network: a network in its initial (or pretrained) state, or how to build one; built after seeding.
        domain: its train split is trained on; its val split decides early stopping where the recipe has that.
        recipe: the numbers; the default of the task if left out.
        weights: a file of pretrained weights to start from; a head with another number of classes starts anew.
        measures: which importance the release shall carry for later updates.
        machine: device, processes, precision.
        out: where the release is written; it stays in memory if left out. Checkpoints and logs go to `<out>.run`; the
            same call goes on where it was stopped, and opens the release where it is finished.
        retry_smaller: where the first steps do not fit into memory, everything is begun once more with half the batch
            size; the release says so in its recipe, and which was asked for in `training.asked_batch_size`.
        progress: told after every step.
        trusted: modules that may be imported to build the network.

    Raises:
        DivergenceError: if training left the numbers.
        MemoryShortageError: if a step does not fit into memory.
        UpdateError: if `out` exists, or its run had other settings, or somebody else is training it.

    Example:
        release = perdure.train(perdure.QuickNAT(classes=domain.contract.classes), domain)
    """
    contract = domain.contract
    recipe = recipe or recipe_for(contract, "base")
    torch.manual_seed(recipe.seed)
    model, spec = _network(network, domain, trusted)
    if weights is not None:
        load_weights(model, Path(weights), replace_head=True)
    job = Job(
        model,
        spec,
        domain,
        None,
        finetune(),
        recipe,
        None,
        tuple(measures),
        (machine or Machine()).resolved(),
        progress,
        "trained",
    )
    return run_job(job, out, retry_smaller=retry_smaller)


def update(
    release: Release,
    domain: Domain,
    *,
    method: Method | None = None,
    recipe: Recipe | None = None,
    measures: Sequence[Importance] | None = None,
    joint_with: Domain | None = None,
    allow_patient_data: bool = False,
    machine: Machine | None = None,
    out: Path | str | None = None,
    retry_smaller: bool = False,
    progress: Progress = silent,
) -> Release:
    """Updates a release to a new domain; the release itself is left as it is.

    Args:
        release: what is in use now.
        domain: the new site, scanner or population.
        method: how the earlier domains are protected; `default_method` of its network if left out.
        recipe: the numbers; the default of task, stage and batch-norm policy if left out.
        measures: which importance the new release shall carry, of those that the release carries and those that need no
            data; all that it carries if left out. What is dropped cannot be measured again.
        joint_with: for a cumulative method only: the data of all domains so far, the new one included, as one domain
            (`perdure.data.join`); for replay a few cases of the earlier ones.
        allow_patient_data: whether a method may use stored patient data of earlier domains (replay).
        machine: device, processes, precision.
        out: where the release is written; it stays in memory if left out. Checkpoints and logs go to `<out>.run`; the
            same call goes on where it was stopped, and opens the release where it is finished.
        retry_smaller: where the first steps do not fit into memory, everything is begun once more with half the batch
            size; the release says so in its recipe, and which was asked for in `training.asked_batch_size`.
        progress: told after every step.

    Raises:
        MethodError: if the release's memory lacks the importance that the method needs or was measured otherwise, or
            old data are given to a method that does not use them (or the other way round).
        DivergenceError: if training left the numbers.
        MemoryShortageError: if a step does not fit into memory.
        UpdateError: if the domain does not follow the release's contract or is learnt already, or `out` belongs to
            another run, or somebody else is training it.

    Example:
        candidate = perdure.update(release, new_domain, method=perdure.methods.mas_lr())
    """
    method = method or default_method(release.model)
    _check_domains(release, domain, method, joint_with, allow_patient_data)
    release = _with_importance(release, method.importance, f"Method {method.name!r} needs")
    if measures is not None:
        release = _carrying(release, method, measures)
    carried = tuple(_measure(release, key, method) for key in release.memory.measures)
    recipe = _adjusted(recipe or recipe_for(release.contract, "update", method.batch_norm), release, method)
    if method.needs_dropout and not has_dropout(release.model):
        raise MethodError(
            f"Method {method.name!r} needs dropout, and the network of release {release.name!r} has none; train the "
            "base release with it (--dropout 0.2 for a QuickNAT)."
        )
    model = deepcopy(release.model)
    job = Job(
        model, release.identity.network, domain, joint_with, method, recipe, release, carried,
        (machine or Machine()).resolved(), progress, "updated",
    )  # fmt: skip
    return run_job(job, out, retry_smaller=retry_smaller)


def adopt(
    network: nn.Module | NetworkSpec,
    domain: Domain,
    *,
    weights: Path | str | None = None,
    measures: Sequence[Importance] = (MAS(), Fisher()),
    samples: int | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    trusted: Sequence[str] = (),
) -> Release:
    """Makes a release of a network that was trained elsewhere, by measuring its memory on the domain it was trained on.

    Args:
        network: the trained network.
        domain: the domain that it was trained on; no sample of it is kept.
        weights: the file of its trained weights; left out, those that `network` holds.
        measures: which importance the release shall carry.
        samples: at most so many training samples are measured, drawn by `seed`; None takes all.
        seed: of the draw.
        out: where the release is written; it stays in memory if left out.
        trusted: modules that may be imported to build the network.

    Raises:
        UpdateError: if `out` exists.
    """
    if out is not None:
        refuse_existing(Path(out))
    model, spec = _network(network, domain, trusted)
    if weights is not None:
        load_weights(model, Path(weights))
    recipe = Recipe(importance_samples=samples, seed=seed)
    memory = measured(model, domain, recipe, measures, None)
    identity = identity_of(spec, domain, None, "adopted", None, recipe, memory, {"samples_measured": samples})
    release = Release(model.eval(), memory, identity, "")
    if out is not None:
        return release.save(out)
    with tempfile.TemporaryDirectory(prefix="perdure-") as folder:
        return release.save(Path(folder) / "release")


def _network(network: nn.Module | NetworkSpec, domain: Domain, trusted: Sequence[str]) -> tuple[nn.Module, NetworkSpec]:
    contract = domain.contract
    if isinstance(network, NetworkSpec):
        model = build(
            network,
            channels=contract.channels,
            classes=contract.classes,
            spatial_dims=contract.spatial_dims,
            trusted=trusted,
        )
        return model, describe(model) or network
    # a class of a script has no importable name: such a release opens with Release.open(path, network=...)
    kind = type(network)
    spec = describe(network) or NetworkSpec(factory=f"{kind.__module__}:{kind.__qualname__}")
    # a copy, because the caller's network stays as it is
    return deepcopy(network), spec


def check_old_data(method: Method, given: bool, allow_patient_data: bool) -> None:
    """Passes if data of earlier domains are given exactly where a method uses them, and may be used.

    Raises:
        MethodError: if not.
    """
    uses_old_data = method.data in ("cumulative", "replay")
    if uses_old_data != given:
        wanted = "needs" if uses_old_data else "does not use"
        raise MethodError(f"Method {method.name!r} {wanted} the data of earlier domains (joint_with, --joint-with).")
    if method.data == "replay" and not allow_patient_data:
        raise MethodError(
            f"Method {method.name!r} trains on stored patient data of earlier domains. Say that you may keep them: "
            "allow_patient_data=True (--allow-patient-data)."
        )


def _check_domains(
    release: Release, domain: Domain, method: Method, joint_with: Domain | None, allow_patient_data: bool
) -> None:
    for each in (domain,) if joint_with is None else (domain, joint_with):
        if each.contract != release.contract:
            raise UpdateError(
                f"Domain {each.name!r} was prepared for another input contract than that of release {release.name!r}; "
                "prepare it with release.contract."
            )
    if domain.name in {seen.domain for seen in release.identity.domains}:
        raise UpdateError(f"Release {release.name!r} has learnt domain {domain.name!r} already.")
    check_old_data(method, joint_with is not None, allow_patient_data)
    if joint_with is not None and not domain.hashes.items() <= joint_with.hashes.items():
        raise UpdateError(
            f"`joint_with` lacks cases of the new domain {domain.name!r}; it must hold all domains so far, the new one "
            "included (perdure.data.join)."
        )


def _carrying(release: Release, method: Method, measures: Sequence[Importance]) -> Release:
    """The release with these measures alone in its memory.

    Raises:
        MethodError: if one of them is not there and needs data, none is named, or that of the method is missing.
    """
    keys = [measure.key for measure in measures]
    if not measures:
        raise MethodError("A release needs at least one measure of importance, or no method can use it later.")
    if method.importance is not None and method.importance.key not in keys:
        raise MethodError(
            f"`measures` are {keys} and lack what method {method.name!r} uses: {method.importance.key!r}."
        )
    for measure in measures:
        release = _with_importance(release, measure, "`measures` names")
    wanted = {measure.key: release.memory.measures[measure.key] for measure in measures}
    return replace(release, memory=replace(release.memory, measures=wanted))


def _with_importance(release: Release, wanted: Importance | None, who: str) -> Release:
    """The release with an importance that is asked for; one that needs no data joins its memory now.

    Raises:
        MethodError: if it had to be measured while the data of the release's domains were there, and was not.
    """
    memory = release.memory
    if wanted is None or wanted.key in memory.measures:
        return release
    if wanted.needs_data:
        raise MethodError(
            f"{who} the importance {wanted.key!r}, and release {release.name!r} carries only: "
            f"{', '.join(memory.measures) or 'none'}. It has to be measured where the data of the release's domains "
            f"are: train or adopt there with --measure {words_for(wanted)}, beside the others that you need "
            "(measures=[...] in Python)."
        )
    return replace(release, memory=consolidate(release.model, [], wanted, previous=memory))


def _measure(release: Release, key: str, method: Method) -> Importance:
    """The measure that a release's memory was taken with: the method's own, or made from what the release says.

    Raises:
        MethodError: if the new domain could not be measured in the same way.
    """
    memory = release.memory.measures[key]
    settings = dict(memory.settings)
    trainable = {name for name, parameter in release.model.named_parameters() if parameter.requires_grad}
    if other := sorted(trainable ^ memory.weights.keys()):
        raise MethodError(
            f"Importance {key!r} of release {release.name!r} and its trainable parameters differ in {other[:5]}. "
            "Freeze what was frozen when it was measured (requires_grad of release.model)."
        )
    if method.importance is not None and method.importance.key == key:
        if (wanted := method.importance.settings()) != settings:
            raise MethodError(
                f"Release {release.name!r} was measured as {settings}, and method {method.name!r} wants {wanted}. Use "
                "the release's settings."
            )
        return method.importance
    if settings.get("measure") not in MEASURES:
        raise MethodError(
            f"Release {release.name!r} carries importance {key!r} ({settings.get('measure')}), which is not ours and "
            f"which method {method.name!r} does not measure. Use a method that does."
        )
    return measure_from(settings)


def _adjusted(recipe: Recipe, release: Release, method: Method) -> Recipe:
    """The recipe with what the method changes of it: learning rate (unless several are tried) and weight decay."""
    rate = 1.0 if isinstance(method.rate, tuple) else method.rate
    if rate == "matched":
        assert method.importance is not None
        weights = release.memory.importance(method.importance.key, method.granularity)
        sizes = {name: parameter.numel() for name, parameter in release.model.named_parameters()}
        rate = mean_step_share(weights, sizes)
    changes: dict[str, float] = {} if rate == 1.0 else {"learning_rate": recipe.learning_rate * rate}
    if method.weight_decay is not None:
        changes["weight_decay"] = method.weight_decay
    return recipe.model_copy(update=changes)
