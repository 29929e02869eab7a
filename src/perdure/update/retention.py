"""Restraint in anybody's training loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.errors import MethodError
from perdure.importance.base import check_choice
from perdure.models import training_mode
from perdure.models.batch_norm import check
from perdure.regularization import Regularizer
from perdure.types import Statistics

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from perdure.release import Memory
    from perdure.types import ParamDict


@dataclass(frozen=True)
class Retained:
    """A model in restrained training.

    Args:
        model: the model.
        regularizer: the form of restraint.
        weights: parameter name to importance in use, broadcastable to the parameter.
        anchor: parameter name to its value before.
        note: what the user should know about the batch-norm policy; empty if nothing.
    """

    model: nn.Module
    regularizer: Regularizer
    weights: ParamDict
    anchor: ParamDict
    note: str = ""

    def penalty(self) -> Tensor:
        """The term to add to the loss: a scalar, 0 for forms that act on the step instead."""
        return self.regularizer.penalty(self.model, self.weights, self.anchor)


@contextmanager
def retain(
    model: nn.Module,
    optimizer: Optimizer,
    memory: Memory,
    regularizer: Regularizer,
    batch_norm: Statistics = "target",
    *,
    importance: str | None = None,
) -> Iterator[Retained]:
    """Puts a model into training under restraint, for as long as the context lasts.

    To measure in between, use `perdure.evaluation_mode(model)`; the batch-norm policy holds whatever modes are set.

    Args:
        model: any torch model, the one that the memory was taken from, not wrapped for several devices.
        optimizer: any torch optimizer of it.
        memory: from `perdure.consolidate`, or a release's.
        regularizer: the form of restraint.
        batch_norm: `target` updates the statistics on the new domain; `original` keeps them bit for bit.
        importance: which of the memory's measures, by key; may be left out where there is only one.

    Raises:
        MethodError: if the memory does not fit the model, or there is no such batch-norm policy.
        BatchNormError: if the model's batch norm cannot follow the policy.

    Example:
        with perdure.retain(model, optimizer, memory, perdure.LearningRate(), batch_norm="original") as retained:
            loss = criterion(model(x), y) + retained.penalty()
    """
    check_choice("batch_norm", batch_norm, Statistics)
    weights: ParamDict = {}
    if regularizer.needs_importance:
        weights = memory.weights if importance is None else memory.importance(importance)
    parameters = dict(model.named_parameters())
    unknown = sorted((weights.keys() | memory.anchor.keys()) - parameters.keys())
    if unknown:
        raise MethodError(f"The memory is of another model: this one has no parameters {unknown[:5]}.")
    weights = {name: omega.to(parameters[name]) for name, omega in weights.items()}
    anchor = {name: value.to(parameters[name]) for name, value in memory.anchor.items()}
    note = check(model, batch_norm) or ""
    with training_mode(model, batch_norm), regularizer.constrain(model, optimizer, weights, anchor):
        yield Retained(model, regularizer, weights, anchor, note)
