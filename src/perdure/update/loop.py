"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from perdure.errors import DivergenceError
from perdure.models import evaluation_mode, fast_kernels, recalibrate, synchronized_batch_norm, training_only
from perdure.update.guard import Guard, gradient_norm
from perdure.update.last_step import LastStep, finite, last_step
from perdure.update.losses import Loss, loss_for
from perdure.update.processes import sum_over_processes
from perdure.update.retention import Retained, retain
from perdure.update.run_folder import Epoch, RunFolder, State

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor, nn

    from perdure.importance import Importance
    from perdure.methods import Method
    from perdure.release import Memory
    from perdure.types import Batch, Domain, Split
    from perdure.update.recipe import Recipe

Progress: TypeAlias = Callable[[str, int, int, float | None], None]
"""Called with what is going on, how much of it is done, out of how much, and the loss where there is one."""


def silent(what: str, done: int, total: int, loss: float | None) -> None:
    """Shows nothing."""


@dataclass
class Training:
    """One model that is trained on one domain.

    Args:
        fabric: device, precision and processes.
        model: moved to the device, and trained in place.
        domain: the new domain, or all of them for a cumulative method.
        recipe: the numbers.
        method: the restraint.
        memory: what the regularizer holds on to; empty for a base release.
        folder: where checkpoints and logs go.
        measures: those that the memory will hold; some gather while the model trains.
        teacher: the model before the update.
        progress: told after every step, on the first process.
    """

    fabric: Fabric
    model: nn.Module
    domain: Domain
    recipe: Recipe
    method: Method
    memory: Memory
    folder: RunFolder
    measures: Sequence[Importance] = ()
    teacher: nn.Module | None = None
    progress: Progress = silent
    guard: Guard = field(default_factory=Guard)

    def batches(self, split: Split, **order: Any) -> Iterator[Batch]:
        """This process's share of the samples of a split, on the device."""
        fabric = self.fabric
        for inputs, target in self.domain.batches(
            split, self.recipe.batch_size, rank=fabric.global_rank, ranks=fabric.world_size, **order
        ):
            yield fabric.to_device(inputs), fabric.to_device(target)

    def run(self) -> State:
        """Trains to the end, from the last checkpoint if there is one; the model then holds the last or best epoch.

        Returns:
            Where training ended: its history, and what measures gathered on the way to the epoch that is kept.

        Raises:
            DivergenceError: if the loss or gradient is no longer a number or explodes; the checkpoint keeps the last
                good epoch.
        """
        fabric, method, model = self.fabric, self.method, self.model
        fabric.to_device(model)
        loss_function = loss_for(self.domain.contract, self.batches("train"))
        with training_only(model, method.trainable), self._synchronized(), fast_kernels(model):
            optimizer = self.recipe.make_optimizer(model)
            state = self.folder.load() or State(model.state_dict(), optimizer.state_dict())
            model.load_state_dict(state.model)
            optimizer.load_state_dict(state.optimizer)
            self.guard.first_loss = state.first_loss
            with (
                last_step(model, optimizer, self._mean) as last,
                self._restrained(optimizer) as retained,
                self._watched(optimizer, state),
                self._logger() as log,
            ):
                # what was reported before an interruption counts on; the form writes into what is saved
                retained.past.report.update(state.report)
                state.report = retained.past.report
                wrapped, stepper = fabric.setup(model, optimizer)
                while not self._is_done(state.history):
                    epoch = self._epoch(len(state.history), wrapped, stepper, retained, loss_function, last)
                    log(epoch)
                    self._keep(state, epoch, optimizer)
            if state.best is not None:
                model.load_state_dict(state.best)
                state.watched = state.watched_best
        if method.batch_norm == "recalibrated":
            recalibrate(model, self.batches("train"), sum_over_processes if fabric.world_size > 1 else None)
        return state

    def _restrained(self, optimizer: torch.optim.Optimizer) -> AbstractContextManager[Retained]:
        method = self.method
        teacher = None if self.teacher is None else self.fabric.to_device(self.teacher)
        return retain(
            self.model,
            optimizer,
            self.memory,
            method.regularizer,
            method.batch_norm,
            importance=None if method.importance is None else method.importance.key,
            granularity=method.granularity,
            teacher=teacher,
        )

    def _watched(self, optimizer: torch.optim.Optimizer, state: State) -> ExitStack:
        """Lets every measure see the steps; entered after the restraint, so that it sees what really moved."""
        watching = ExitStack()
        for measure in self.measures:
            watching.enter_context(measure.watching(self.model, optimizer, state.watched.setdefault(measure.key, {})))
        return watching

    def _mean(self, value: Tensor) -> Tensor:
        return sum_over_processes(value) / self.fabric.world_size

    def _synchronized(self) -> Any:
        if self.fabric.world_size == 1:
            return nullcontext()
        return synchronized_batch_norm(self.model, sum_over_processes)

    def _is_done(self, history: list[Epoch]) -> bool:
        if len(history) >= self.recipe.epochs:
            return True
        losses = [epoch.validation_loss for epoch in history if epoch.validation_loss is not None]
        if self.recipe.patience is None or not losses:
            return False
        return len(losses) - 1 - losses.index(min(losses)) >= self.recipe.patience

    def _keep(self, state: State, epoch: Epoch, optimizer: torch.optim.Optimizer) -> None:
        state.history.append(epoch)
        state.model = self.model.state_dict()
        state.optimizer = optimizer.state_dict()
        state.first_loss = self.guard.first_loss
        earlier = [past.validation_loss for past in state.history[:-1] if past.validation_loss is not None]
        now = epoch.validation_loss
        if self.recipe.patience is not None and now is not None and now < min(earlier, default=math.inf):
            state.best, state.watched_best = deepcopy(state.model), deepcopy(state.watched)
        if self.fabric.is_global_zero:
            self.folder.save(state)
        self.fabric.barrier()

    def _epoch(
        self, number: int, wrapped: Any, stepper: Any, retained: Retained, loss_function: Loss, last: LastStep
    ) -> Epoch:
        # each epoch draws its own random numbers, so that a run that was interrupted continues bit for bit
        torch.manual_seed((self.recipe.seed * 1_000_003 + number) * 1_009 + self.fabric.global_rank)
        rate = self.recipe.rate(number)
        for group in stepper.param_groups:
            group["lr"] = rate
        steps = self.domain.steps("train", self.recipe.batch_size)
        sums = torch.zeros(3, dtype=torch.float64)
        facts: dict[str, float | None] = {}
        batches = self.batches("train", seed=self.recipe.seed, epoch=number, augmentation=self.recipe.augmentation)
        for step, (inputs, target) in enumerate(batches):
            output = wrapped(inputs)
            loss = loss_function(output, target)
            penalty = retained.penalty(inputs, output)
            stepper.zero_grad(set_to_none=True)
            is_last = step + 1 == steps
            if is_last:
                last.begin(penalty)
            self.fabric.backward(loss + penalty)
            if is_last:
                last.gradients()
            norm = gradient_norm(self.model.parameters())
            figures = torch.stack([loss.detach(), penalty.detach().to(loss), norm.to(loss)]).double().cpu()
            total, length = float(figures[0] + figures[1]), float(figures[2])
            with self._kept(number):
                self.guard.check(total, length, number, step)
            if self.recipe.clip_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.recipe.clip_norm, norm)
            stepper.step()
            if is_last:
                facts = last.facts()
            sums += figures
            if self.fabric.is_global_zero:
                self.progress(f"epoch {number + 1} of {self.recipe.epochs}", step + 1, steps, float(figures[0]))
        loss_mean, penalty_mean, norm_mean = (sums / steps).tolist()
        validation = self._validation_loss(loss_function)
        if validation is not None:
            with self._kept(number):
                self.guard.check_validation(validation, number)
        cost = finite(retained.value())
        return Epoch(number + 1, rate, loss_mean, penalty_mean, norm_mean, validation, cost, **facts)

    @contextmanager
    def _kept(self, epoch: int) -> Iterator[None]:
        """Adds to an error what the run can go on from."""
        try:
            yield
        except DivergenceError as error:
            kept = f"epoch {epoch} is kept in {self.folder.path}" if epoch else "no epoch was finished"
            raise DivergenceError(f"{error} Last good state: {kept}.") from error

    @torch.no_grad()
    def _validation_loss(self, loss_function: Loss) -> float | None:
        """The mean loss over validation batches, in the precision of the parameters."""
        if not self.domain.counts.samples.get("val"):
            return None
        total = 0.0
        with evaluation_mode(self.model):
            for inputs, target in self.batches("val"):
                total += float(loss_function(self.model(inputs), target))
        return total / self.domain.steps("val", self.recipe.batch_size)

    @contextmanager
    def _logger(self) -> Iterator[Callable[[Epoch], None]]:
        """Writes every epoch to TensorBoard; the CSV log is the checkpoint's."""
        if not self.fabric.is_global_zero:
            yield lambda epoch: None
            return
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(self.folder.path / "tensorboard"))

        def log(epoch: Epoch) -> None:
            for name, value in vars(epoch).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, epoch.epoch)

        try:
            yield log
        finally:
            writer.close()
