"""Restraint in anybody's training loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from perdure.errors import MethodError, check_choice
from perdure.models import training_mode
from perdure.models.batch_norm import check
from perdure.regularization import OnDemand, Past, Regularizer
from perdure.types import Statistics
from perdure.update.processes import sum_over_processes

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from perdure.release import Memory
    from perdure.types import Granularity


@dataclass(frozen=True)
class Retained:
    """A model in restrained training.

    Args:
        model: the model.
        regularizer: the form of restraint.
        past: what it holds on to, on the model's device.
        note: what the user should know: a batch-norm policy without effect, parameters that train without importance;
            empty if nothing.
    """

    model: nn.Module
    regularizer: Regularizer
    past: Past
    note: str = ""

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Parameter name to importance in use, broadcastable to the parameter."""
        return self.past.weights

    @property
    def anchor(self) -> Mapping[str, Tensor]:
        """Parameter name to its value before."""
        return self.past.anchor

    def penalty(self, inputs: Tensor | None = None, output: Tensor | None = None) -> Tensor:
        """The term to add to the loss: a scalar, 0 for forms that act on the step instead.

        Args:
            inputs: of this step; only forms that look at outputs (distillation) need it.
            output: of this step.
        """
        return self.regularizer.penalty(self.model, self.past, inputs, output)

    def value(self) -> float:
        """What the restraint costs where the model stands, also for forms that act on the step."""
        return self.regularizer.value(self.model, self.past)


@contextmanager
def retain(
    model: nn.Module,
    optimizer: Optimizer,
    memory: Memory,
    regularizer: Regularizer,
    batch_norm: Statistics = "target",
    *,
    importance: str | None = None,
    granularity: Granularity | None = None,
    teacher: nn.Module | None = None,
) -> Iterator[Retained]:
    """Puts a model into training under restraint, for as long as the context lasts.

    To measure in between, use `perdure.evaluation_mode(model)`; the batch-norm policy holds whatever modes are set.

    Args:
        model: any torch model, the one that the memory was taken from, not wrapped for several devices.
        optimizer: any torch optimizer of it; a proximal step takes those alone whose rate it knows.
        memory: from `perdure.consolidate`, or a release's.
        regularizer: the form of restraint.
        batch_norm: `target` updates the statistics on the new domain; `original` keeps them bit for bit; for the others
            see `perdure.types.Statistics`.
        importance: which of the memory's measures, by key; may be left out where there is only one.
        granularity: to which importance is averaged; default: as the memory keeps it.
        teacher: the model before the update, for distillation; default: a copy of `model` as it is now.

    Raises:
        MethodError: if the memory does not fit the model or the form, the restraint cannot be stable, or there is no
            such policy.
        BatchNormError: if the model's batch norm cannot follow the policy.

    Example:
        with perdure.retain(model, optimizer, memory, perdure.LearningRate(), batch_norm="original") as retained:
            loss = criterion(model(x), y) + retained.penalty()
    """
    check_choice("batch_norm", batch_norm, Statistics)
    key = None
    if regularizer.needs_importance:
        key = importance or memory.only_key()
    if regularizer.needs_teacher and teacher is None:
        teacher = deepcopy(model)
    past = _fitted(memory.past(key, granularity, teacher), model)
    if regularizer.needs_unit_range and past.measured.get("scaling", {}).get("range") == "raw":
        raise MethodError(
            f"The form {regularizer.name!r} takes importance for a share of the step, in [0, 1], and {key!r} of this "
            "memory is raw. Measure with scaling=Scaling(), or use a form that takes it as it is (SurrogateLoss)."
        )
    notes = [check(model, batch_norm), None if key is None else _unprotected(model, past)]
    with training_mode(model, batch_norm), regularizer.constrain(model, optimizer, past):
        yield Retained(model, regularizer, past, " ".join(filter(None, notes)))


def _unprotected(model: nn.Module, past: Past) -> str | None:
    """What is said of parameters that train without importance; None where there are none."""
    free = [name for name, p in model.named_parameters() if p.requires_grad and name not in past.weights]
    if not free:
        return None
    return (
        f"{len(free)} parameter(s) train without any protection, because the memory has no importance of them: "
        f"{', '.join(free[:5])}{', ...' if len(free) > 5 else ''}."
    )


def _fitted(past: Past, model: nn.Module) -> Past:
    """The same on the devices of the model's parameters and in their types, but at least in float32.

    Raises:
        MethodError: if it is of another model.
    """
    parameters = dict(model.named_parameters())
    unknown = sorted((past.weights.keys() | past.anchor.keys()) - parameters.keys())
    if unknown:
        raise MethodError(f"The memory is of another model: this one has no parameters {unknown[:5]}.")

    # in half precision small importance would be 0
    types = {name: torch.promote_types(parameter.dtype, torch.float32) for name, parameter in parameters.items()}

    # where nothing has to be moved, what is made anew each time can stay so
    is_here = all(parameter.device.type == "cpu" for parameter in parameters.values())

    def moved(tensors: Mapping[str, Tensor], *, keep: bool = True) -> OnDemand:
        return OnDemand(tensors, lambda name: tensors[name].to(parameters[name].device, types[name]), keep=keep)

    return replace(
        past,
        weights=moved(past.weights),
        anchor=moved(past.anchor),
        latest=moved(past.latest, keep=False),
        frozen={name: mask.to(parameters[name].device, torch.bool) for name, mask in past.frozen.items()},
        curvature=moved(past.curvature, keep=not is_here),
        centre=moved(past.centre),
        sum_over_processes=sum_over_processes,
    )
