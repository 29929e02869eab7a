"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from perdure.errors import DivergenceError
from perdure.models import evaluation_mode, synchronized_batch_norm
from perdure.update.guard import Guard, gradient_norm
from perdure.update.losses import Loss, loss_for
from perdure.update.processes import sum_over_processes
from perdure.update.retention import Retained, retain
from perdure.update.run_folder import Epoch, RunFolder, State

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

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
        progress: told after every step, on the first process.
    """

    fabric: Fabric
    model: nn.Module
    domain: Domain
    recipe: Recipe
    method: Method
    memory: Memory
    folder: RunFolder
    progress: Progress = silent
    guard: Guard = field(default_factory=Guard)

    def batches(self, split: Split, **order: Any) -> Iterator[Batch]:
        """This process's share of the samples of a split, on the device."""
        fabric = self.fabric
        for inputs, target in self.domain.batches(
            split, self.recipe.batch_size, rank=fabric.global_rank, ranks=fabric.world_size, **order
        ):
            yield fabric.to_device(inputs), fabric.to_device(target)

    def run(self) -> list[Epoch]:
        """Trains to the end, from the last checkpoint if there is one; the model then holds the last or best epoch.

        Raises:
            DivergenceError: if the loss or gradient is no longer a number or explodes; the checkpoint keeps the last
                good epoch.
        """
        fabric, recipe, model = self.fabric, self.recipe, self.model
        fabric.to_device(model)
        optimizer = recipe.make_optimizer(model)
        state = self.folder.load() or State(model.state_dict(), optimizer.state_dict())
        model.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
        self.guard.first_loss = state.first_loss
        loss_function = loss_for(self.domain.contract, self.batches("train"))
        key = None if self.method.importance is None else self.method.importance.key
        with (
            self._synchronized(),
            retain(
                model, optimizer, self.memory, self.method.regularizer, self.method.batch_norm, importance=key
            ) as retained,
        ):
            wrapped, stepper = fabric.setup(model, optimizer)
            with self._logger() as log:
                while not self._is_done(state.history):
                    epoch = self._epoch(len(state.history), wrapped, stepper, retained, loss_function)
                    log(epoch)
                    self._keep(state, epoch, optimizer)
        if state.best is not None:
            model.load_state_dict(state.best)
        return state.history

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
            state.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        if self.fabric.is_global_zero:
            self.folder.save(state)
        self.fabric.barrier()

    def _epoch(self, number: int, wrapped: Any, stepper: Any, retained: Retained, loss_function: Loss) -> Epoch:
        # each epoch draws its own random numbers, so that a run that was interrupted continues bit for bit
        torch.manual_seed((self.recipe.seed * 1_000_003 + number) * 1_009 + self.fabric.global_rank)
        rate = self.recipe.rate(number)
        for group in stepper.param_groups:
            group["lr"] = rate
        steps = self.domain.steps("train", self.recipe.batch_size)
        sums = torch.zeros(3, dtype=torch.float64)
        batches = self.batches("train", seed=self.recipe.seed, epoch=number, augmentation=self.recipe.augmentation)
        for step, (inputs, target) in enumerate(batches):
            loss = loss_function(wrapped(inputs), target)
            penalty = retained.penalty()
            stepper.zero_grad(set_to_none=True)
            self.fabric.backward(loss + penalty)
            norm = gradient_norm(self.model.parameters())
            figures = torch.stack([loss.detach(), penalty.detach().to(loss), norm.to(loss)]).double().cpu()
            total, length = float(figures[0] + figures[1]), float(figures[2])
            with self._kept(number):
                self.guard.check(total, length, number, step)
            if self.recipe.clip_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.recipe.clip_norm, norm)
            stepper.step()
            sums += figures
            if self.fabric.is_global_zero:
                self.progress(f"epoch {number + 1} of {self.recipe.epochs}", step + 1, steps, float(figures[0]))
        loss_mean, penalty_mean, norm_mean = (sums / steps).tolist()
        validation = self._validation_loss(loss_function)
        if validation is not None:
            with self._kept(number):
                self.guard.check_validation(validation, number)
        return Epoch(number + 1, rate, loss_mean, penalty_mean, norm_mean, validation)

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
