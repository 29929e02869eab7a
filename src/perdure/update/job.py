"""One training run from its settings to its release, in one process or several."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from perdure.errors import MemoryShortageError, UpdateError
from perdure.importance import Importance
from perdure.methods import Method
from perdure.models import NetworkSpec, batch_norm_state
from perdure.models.batch_norm import check
from perdure.release import Memory, Release
from perdure.update.intensities import FEWEST_SUBJECTS
from perdure.update.last_step import finite
from perdure.update.launch import launch
from perdure.update.loop import Progress, Training
from perdure.update.machine import Machine
from perdure.update.provenance import digest_of, digest_of_hashes, identity_of, measured
from perdure.update.rates import Trial, run_at_best_rate
from perdure.update.recipe import Recipe
from perdure.update.run_folder import CHECKPOINT, RunFolder, State, alone_in
from perdure.update.shortage import advice, is_shortage

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor, nn

    from perdure.types import Domain


@dataclass(frozen=True)
class Job:
    """All that one run needs; it can be sent to another process.

    `joint_with` is what a cumulative method trains on: all domains so far, the new one included. `asked` is the batch
    size that was asked for, where a smaller one is tried.
    """

    model: nn.Module
    network: NetworkSpec
    domain: Domain
    joint_with: Domain | None
    method: Method
    recipe: Recipe
    parent: Release | None
    measures: tuple[Importance, ...]
    machine: Machine
    progress: Progress
    origin: Literal["trained", "updated"]
    asked: int | None = None

    def smaller(self) -> Job | None:
        """The same with half the batch size; None where it is one already, or a single sample."""
        size = self.recipe.batch_size
        if self.asked is not None or size < 2:
            return None
        return replace(self, recipe=self.recipe.model_copy(update={"batch_size": size // 2}), asked=size)

    def identity(self) -> dict[str, Any]:
        """Everything that decides the result, as plain JSON values."""
        domains = (self.domain,) if self.joint_with is None else (self.domain, self.joint_with)
        return {
            "origin": self.origin,
            "network": self.network.model_dump(mode="json"),
            "weights": digest_of(self.model.state_dict()),
            "domains": [[domain.name, digest_of_hashes(domain)] for domain in domains],
            "contract": self.domain.contract.model_dump(mode="json"),
            "method": self.method.record(),
            "recipe": self.recipe.model_dump(mode="json"),
            "parent": None if self.parent is None else self.parent.id,
            "measures": [measure.key for measure in self.measures],
            "devices": self.machine.devices,
            "precision": self.machine.precision,
        }


def refuse_existing(out: Path) -> None:
    """Raises an `UpdateError` before anything is done if there is something where a release should be written."""
    if out.exists():
        raise UpdateError(f"{out} exists, and nothing is overwritten. Choose another name, or move it away.")


def run_job(job: Job, out: Path | str | None, *, retry_smaller: bool = False) -> Release:
    """Does the job, goes on with it, or opens the release where it is finished.

    Args:
        job: what is to be done.
        out: see `perdure.train`.
        retry_smaller: likewise.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="perdure-") as temporary:
            return run_job(job, Path(temporary) / "release", retry_smaller=retry_smaller)
    out = Path(out)
    run = out.with_name(f"{out.name}.run")
    if not run.exists():
        refuse_existing(out)
    with alone_in(run):
        smaller = job.smaller() if retry_smaller else None
        if smaller is not None and RunFolder.belongs(run, smaller.identity()):
            return _run(smaller, run, out)
        try:
            return _run(job, run, out)
        except MemoryShortageError:
            if smaller is None or not RunFolder.clear(run):
                raise
            job.progress(
                f"out of memory; batch size {smaller.recipe.batch_size} instead of {smaller.asked}", 0, 1, None
            )
            return _run(smaller, run, out)


def _run(job: Job, run: Path, out: Path) -> Release:
    folder = RunFolder(run, job.identity())
    if not out.exists():
        worker = _Worker(job, folder, out)
        fabric = job.machine.fabric()
        if job.machine.devices == 1:
            worker(fabric)
        else:
            launch(fabric, worker)
    folder.finish()
    return Release.open(out, network=deepcopy(job.model))


class _Worker:
    """Does the job in one of the processes; the first one saves the release."""

    def __init__(self, job: Job, folder: RunFolder, out: Path) -> None:
        self.job = job
        self.folder = folder
        self.out = out

    def __call__(self, fabric: Fabric) -> None:
        torch.set_num_threads(max(1, torch.get_num_threads() // fabric.world_size))
        # a copy, because the tensors of a model that was sent are shared with all other processes
        job = replace(self.job, model=deepcopy(self.job.model))
        try:
            release = _work(fabric, job, self.folder)
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            raise MemoryShortageError(self._advice(error, fabric)) from error
        if fabric.is_global_zero:
            release.save(self.out)
        fabric.barrier()

    def _advice(self, error: BaseException, fabric: Fabric) -> str:
        job = self.job
        sample = next(job.domain.batches("train", 1))[0][:1] if fabric.world_size == 1 else None
        said = advice(error, job.recipe.batch_size, deepcopy(job.model), sample, job.machine.device)
        kept = next(self.folder.path.rglob(CHECKPOINT), None) is not None
        return f"{said} What was finished is kept; the same command goes on." if kept else said


def _work(fabric: Fabric, job: Job, folder: RunFolder) -> Release:
    parent, method = job.parent, job.method
    before = Memory({}, {}) if parent is None else parent.memory
    state = State({}, {}, watched={measure.key: {} for measure in job.measures})
    trials: tuple[Trial, ...] = ()
    if method.data != "none":
        teacher = deepcopy(parent.model) if parent is not None and method.regularizer.needs_teacher else None
        domain = job.joint_with or job.domain
        training = Training(
            fabric, job.model, domain, job.recipe, method, before, folder, job.measures, teacher, job.progress
        )
        if isinstance(method.rate, tuple):
            training, state, trials = run_at_best_rate(training, method.rate)
            job = replace(job, model=training.model, recipe=training.recipe)
        else:
            state = training.run()
    if fabric.is_global_zero:
        job.progress("measuring importance", 0, 1, None)
    known = None if parent is None else before
    new = measured(job.model, job.domain, job.recipe, job.measures, known, fabric, state.watched)
    past = before.past(None if method.importance is None else method.importance.key, method.granularity)
    frozen = method.regularizer.frozen(past)
    new = replace(new, frozen=frozen, norms=_norms(job))
    # raw importance (Fisher information) has no share of the step
    unit = past.weights if method.importance is not None and method.importance.scaling.range == "unit" else {}
    note = check(job.model, method.batch_norm)
    learnt = job.joint_with or job.domain
    facts: dict[str, Any] = {"precision": job.machine.precision, **_told(state, trials, job.recipe, learnt)}
    facts |= _restraint(job.model, unit, frozen)
    facts |= {"note": note} if note else {}
    facts |= {} if job.asked is None else {"asked_batch_size": job.asked}
    facts |= {"report": {name: finite(value) for name, value in state.report.items()}} if state.report else {}
    identity = identity_of(job.network, job.domain, job.parent, job.origin, job.method, job.recipe, new, facts)
    return Release(job.model.cpu().eval(), new, identity, "")


def _told(state: State, trials: Sequence[Trial], recipe: Recipe, learnt: Domain) -> dict[str, Any]:
    """What a release says of its epochs and rates: no validation loss where it is that of a few patients.

    The folder of the run, which stays where it is, has them all.
    """
    epochs, rates = [vars(epoch) for epoch in state.history], [vars(trial) for trial in trials]
    losses = [epoch.validation_loss for epoch in state.history]
    known = [loss for loss in losses if loss is not None]
    kept = losses.index(min(known)) if known and recipe.patience is not None else len(losses) - 1
    facts: dict[str, Any] = {"epochs": epochs} | ({"kept_epoch": kept + 1} if epochs else {})
    if learnt.counts.subjects.get("val", 0) < FEWEST_SUBJECTS:
        epochs, rates = ([{**one, "validation_loss": None} for one in part] for part in (epochs, rates))
    return {**facts, "epochs": epochs} | ({"rates": rates} if rates else {})


def _norms(job: Job) -> dict[str, dict[str, Tensor]]:
    """By domain its batch norm, where one set a domain is kept: earlier ones as they were, the new one as it is now."""
    parent = job.parent
    if parent is None:
        return {}
    if job.method.batch_norm != "per-domain":
        return dict(parent.memory.norms)
    shared = batch_norm_state(parent.model)
    earlier = {seen.domain: parent.memory.norms.get(seen.domain, shared) for seen in parent.identity.domains}
    return {**earlier, job.domain.name: batch_norm_state(job.model)}


def _restraint(model: nn.Module, weights: Mapping[str, Tensor], frozen: Mapping[str, Tensor]) -> dict[str, float]:
    """How much of the steps importance left: the mean of 1 - Ω, the shares with Ω = 1 and frozen for good."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    facts = {}
    if weights:
        facts["mean_step_share"] = mean_step_share(weights, sizes)
        facts["fixed_share"] = _share(weights, sizes, lambda omega: omega >= 1)
    if frozen:
        facts["frozen_share"] = _share(frozen, sizes, lambda mask: mask)
    return facts


def mean_step_share(weights: Mapping[str, Tensor], sizes: Mapping[str, int]) -> float:
    """The mean of 1 - Ω over all parameters that carry importance: how much of the learning rate is left."""
    return _share(weights, sizes, lambda omega: 1 - omega.clamp(0, 1))


def _share(tensors: Mapping[str, Tensor], sizes: Mapping[str, int], of: Callable[[Tensor], Tensor]) -> float:
    total = sum(sizes[name] for name in tensors)
    return sum(float(of(value).double().mean()) * sizes[name] for name, value in tensors.items()) / total
