"""Synaptic intelligence: importance gathered along the path of training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from perdure.errors import MethodError
from perdure.importance.base import Importance
from perdure.types import one_process

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from perdure.types import Batches, ParamDict, SumOverProcesses


@dataclass(frozen=True)
class SI(Importance):
    r"""How much each parameter contributed to making the loss smaller, along the path that training took.

    .. math:: \Omega_i = \frac{\max\bigl(-\sum_t g_{i,t}\,(\theta_{i,t+1} - \theta_{i,t}),\ 0\bigr)}
              {(\theta_{i,T} - \theta_{i,0})^2 + \xi}

    g is the gradient that the optimizer saw at step t, after clipping, penalties of the loss included.

    Source: Zenke et al. 2017, Eqs. 4 and 5. Negative contributions become 0, as there.

    It is gathered while the model trains, so a model that was trained elsewhere has none.

    Args:
        damping: ξ > 0, keeps parameters that hardly moved from counting without bound.
    """

    damping: float = 0.1

    name = "si"
    is_gathered = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.damping < math.inf:
            raise MethodError(f"`damping` must be above 0 and finite; got {self.damping}.")

    @contextmanager
    def watching(self, model: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> Iterator[None]:  # noqa: D102
        parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        if not state:
            state["start"] = {name: parameter.detach().clone() for name, parameter in parameters.items()}
            # float64, because a path is a sum over thousands of small steps
            state["work"] = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
        # a checkpoint is read to the processor, wherever the model is
        state["work"] = {name: total.to(parameters[name].device) for name, total in state["work"].items()}
        before: dict[str, Tensor] = {}

        def remember(*_: Any) -> None:
            before.update({name: parameter.detach().clone() for name, parameter in parameters.items()})

        @torch.no_grad()
        def gather(*_: Any) -> None:
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    step = parameter.double() - before[name]
                    # where mixed precision left out a step, 0 times an infinite gradient would be NaN
                    state["work"][name] -= (parameter.grad.double() * step).where(step != 0, 0.0)
            before.clear()

        handles = [optimizer.register_step_pre_hook(remember), optimizer.register_step_post_hook(gather)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def estimate(  # noqa: D102
        self,
        model: nn.Module,
        batches: Batches,
        *,
        sum_over_processes: SumOverProcesses = one_process,
        watched: Mapping[str, Any] | None = None,
    ) -> ParamDict:
        if watched is None:
            raise MethodError(
                "SI is gathered while a model trains; this one was trained elsewhere, or without it. Train with this "
                "measure, or use MAS or Fisher, which are measured afterwards."
            )
        current = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
        work, start = watched.get("work", {}), watched.get("start", {})
        # in half precision small importance would be 0
        types = {name: torch.promote_types(value.dtype, torch.float32) for name, value in current.items()}
        # what was frozen, or not trained at all, did nothing for the loss
        omega = {name: torch.zeros_like(value, dtype=types[name]) for name, value in current.items()}
        for name in work.keys() & omega.keys():
            value = current[name].double()
            moved = value - start[name].to(value)
            omega[name] = (work[name].to(value).clamp_min(0) / (moved.square() + self.damping)).to(omega[name])
        return omega
