"""What the restraint did to one step, the last of an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from perdure.update.guard import gradient_norm

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


class LastStep:
    """Looks at one step, from `begin` to `facts`, and changes nothing; it sleeps through all others.

    Args:
        model: not wrapped.
        mean_over_processes: of a tensor.
    """

    def __init__(self, model: nn.Module, mean_over_processes: Callable[[Tensor], Tensor]) -> None:
        self._model = model
        self._mean = mean_over_processes
        self._is_awake = False
        self._parameters: list[nn.Parameter] = []
        self._of_penalty: list[Tensor | None] = []
        self._places: list[list[Tensor]] = []
        self._lengths: list[float] = []
        self._gradients: dict[str, float | None] = {}

    def begin(self, penalty: Tensor) -> None:
        """Before the backward pass, which then takes the gradient of the penalty alone too, where it has one."""
        self._is_awake = True
        self._parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self._of_penalty = [None] * len(self._parameters)
        if not penalty.requires_grad:
            return

        def take(_: Tensor) -> None:
            # a hook runs again for each backward pass through its tensor
            hook.remove()
            self._of_penalty[:] = torch.autograd.grad(penalty, self._parameters, retain_graph=True, allow_unused=True)

        # within the backward pass of the loss, because Fabric refuses one of one's own in mixed precision
        hook = penalty.register_hook(take)

    def gradients(self) -> None:
        """After the backward pass, before clipping: what is left of the gradient without the penalty's."""
        self._of_penalty = [None if gradient is None else self._mean(gradient) for gradient in self._of_penalty]
        of_task = [
            parameter.grad if gradient is None else parameter.grad - gradient
            for parameter, gradient in zip(self._parameters, self._of_penalty, strict=True)
            if parameter.grad is not None
        ]
        of_penalty = [gradient for gradient in self._of_penalty if gradient is not None]
        self._gradients = {
            "task_gradient": finite(_norm(of_task)),
            "restraint_gradient": finite(_norm(of_penalty)) if of_penalty else None,
        }

    def look(self, *_: Any) -> None:
        """A hook: remembers where the parameters are, and how long their gradient is."""
        if self._is_awake:
            self._places.append([parameter.detach().clone() for parameter in self._parameters])
            self._lengths.append(gradient_norm(self._parameters).item())

    def facts(self) -> dict[str, float | None]:
        """After the step: what was seen, by the names that `Epoch` has for it."""
        start, middle = self._places
        end = [parameter.detach() for parameter in self._parameters]
        computed, taken, changed = _distance(middle, start), _distance(end, start), _distance(end, middle)
        if self._lengths[1] < self._lengths[0]:
            # a form that masks the gradient: what it left of it is what it let through
            computed, taken = self._lengths
            changed = math.sqrt(computed**2 - taken**2)
        self._is_awake = False
        self._places, self._lengths, self._of_penalty = [], [], []
        share = {"step_share": finite(taken / computed), "step_change": finite(changed / computed)} if computed else {}
        return {**self._gradients, **share}


@contextmanager
def last_step(
    model: nn.Module, optimizer: Optimizer, mean_over_processes: Callable[[Tensor], Tensor]
) -> Iterator[LastStep]:
    """Entered before the restraint, so that its hooks see the optimizer's step before the restraint changes it."""
    seen = LastStep(model, mean_over_processes)
    handles = [optimizer.register_step_pre_hook(seen.look), optimizer.register_step_post_hook(seen.look)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def finite(value: float) -> float | None:
    """The value, or None where it is no number: a release holds none that JSON cannot."""
    return value if math.isfinite(value) else None


def _norm(tensors: Sequence[Tensor]) -> float:
    return torch.nn.utils.get_total_norm(tensors).item() if tensors else 0.0


def _distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return _norm([a - b for a, b in zip(one, other, strict=True)])
