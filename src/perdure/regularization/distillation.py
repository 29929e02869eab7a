"""Learning without forgetting: the old model's answers on the new images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from perdure.errors import MethodError
from perdure.models import evaluation_mode
from perdure.regularization.base import Past, Regularizer

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Distillation(Regularizer):
    r"""Keeps the answers of the model before the update, on the new domain's own images.

    .. math:: L(\theta) = L_d(\theta) + \lambda\,T^2\,\frac{1}{|X|} \sum_x
              \mathrm{KL}\bigl(p_{\theta^*}(x; T)\,\|\,p_\theta(x; T)\bigr)

    p(x; T) is the softmax of the logits over T; the mean runs over all pixels (or images) of the batch, over all
    processes.

    Source: Li and Hoiem 2017, "Learning without forgetting"; Hinton et al. 2015 for T².

    Open in the papers, decided here: the teacher is in evaluation mode; there is one head, because the domains share
    their classes; pixels without a label count too, because answers need none.

    Args:
        strength: λ, at least 0.
        temperature: T, above 0.
    """

    name = "distillation"

    strength: float = 1.0
    temperature: float = 2.0
    needs_importance = False
    needs_teacher = True

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise MethodError(f"`strength` must be a number of at least 0; got {self.strength}.")
        if not 0 < self.temperature < math.inf:
            raise MethodError(f"`temperature` must be a number above 0; got {self.temperature}.")

    def penalty(  # noqa: D102
        self, model: nn.Module, past: Past, inputs: Tensor | None = None, output: Tensor | None = None
    ) -> Tensor:
        if inputs is None or output is None or past.teacher is None:
            raise MethodError("Distillation looks at outputs: call retained.penalty(inputs, output).")
        with torch.no_grad(), evaluation_mode(past.teacher):
            before = self._log_p(past.teacher(inputs))
        divergence: Tensor = (before.exp() * (before - self._log_p(output))).sum(dim=1)
        # of all processes: their shares of a batch differ in size
        count = divergence.new_tensor(divergence.numel())
        total, number = past.sum_over_processes(torch.stack([divergence.sum(), count]))
        # rounding can lead below 0 where the two agree
        mean: Tensor = (total / number).clamp_min(0)
        return self.strength * self.temperature**2 * mean

    def _log_p(self, output: Tensor) -> Tensor:
        # half precision is not enough for a difference of logarithms
        precise = output.to(torch.promote_types(output.dtype, torch.float32))
        return (precise / self.temperature).log_softmax(dim=1)
