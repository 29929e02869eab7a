"""One training step: plainly, and as `perdure train` runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from workloads import Workload

from perdure.models import fast_kernels
from perdure.update import Machine
from perdure.update.guard import gradient_norm

if TYPE_CHECKING:
    from perdure.update.retention import Retained

Precision = str | None
CLIP = 1.0
"""As the recipe of a segmentation has it."""


@dataclass
class Stepper:
    """What takes a step.

    Args:
        model: in training mode; wrapped where it is.
        work: whose batch it sees.
        optimizer: not wrapped.
        backward: of a loss.
        guarded: whether the length of the gradient is looked at, as `train` does.
    """

    model: Callable[[Tensor], Tensor]
    work: Workload
    optimizer: torch.optim.Optimizer
    backward: Callable[[Tensor], None]
    guarded: bool

    def step(self, retained: Retained | None = None) -> None:
        """Forward, cross-entropy and the penalty where there is one, backward, SGD."""
        output = self.model(self.work.inputs)
        loss = functional.cross_entropy(output.float(), self.work.target)
        if retained is not None:
            loss = loss + retained.penalty(self.work.inputs, output)
        self.optimizer.zero_grad(set_to_none=True)
        self.backward(loss)
        if self.guarded:
            parameters = list(self.work.model.parameters())
            norm = gradient_norm(parameters)
            torch.stack([loss.detach().float(), norm.float()]).cpu()
            if self.work.target.ndim > 1:
                torch.nn.utils.clip_grads_with_norm_(parameters, CLIP, norm)
        self.optimizer.step()


@contextmanager
def plainly(work: Workload) -> Iterator[Stepper]:
    """In float32, in torch's usual layout and on its usual kernels."""
    yield Stepper(work.model, work, _sgd(work), lambda loss: loss.backward(), guarded=False)


@contextmanager
def as_trained(work: Workload, precision: Precision = None) -> Iterator[Stepper]:
    """As `perdure.update.loop.Training` does it.

    Args:
        work: what is trained.
        precision: `32-true` or `bf16-mixed`; the default of `Machine` if left out.
    """
    device = work.inputs.device.type
    given: dict[str, Any] = {"device": device} if precision is None else {"device": device, "precision": precision}
    fabric = Machine(**given).fabric()
    with fast_kernels(work.model):
        optimizer = _sgd(work)
        wrapped, _ = fabric.setup(work.model, optimizer)
        yield Stepper(wrapped, work, optimizer, fabric.backward, guarded=True)


def default_precision(device: str) -> str:
    """What `train` takes on this machine where nothing is said."""
    machine = Machine(device=device)
    return machine.resolved().precision if hasattr(machine, "resolved") else machine.precision


def _sgd(work: Workload) -> torch.optim.Optimizer:
    # so slow that a thousand steps leave the network where it is
    return torch.optim.SGD(work.model.parameters(), lr=1e-7, momentum=0.95)
