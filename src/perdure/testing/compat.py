"""Importance as public code has it, wrong in known ways: for study only.

With these a user can see what their numbers would have been. They are not among `perdure.importance.MEASURES`, so that
no release is made with them by name. Each measures a copy: the user's model stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from perdure.errors import MethodError
from perdure.importance.base import RAW, Importance
from perdure.importance.mas import MAS
from perdure.importance.per_sample import mean_over_samples
from perdure.importance.scaling import Scaling, unit_range
from perdure.types import IGNORED, one_process

if TYPE_CHECKING:
    from perdure.types import Batches, ParamDict, SumOverProcesses


@dataclass(frozen=True)
class BatchMeanSquaredFisher(Importance):
    r"""The square of each batch's mean gradient, where a Fisher information is a mean of squares.

    .. math:: F_i = \frac{1}{B} \sum_{b=1}^{B} \Bigl( \frac{1}{n_b} \sum_{n \in b}
              \frac{\partial \log p_\theta(y_n \mid x_n)}{\partial \theta_i} \Bigr)^2

    Gradients of different samples cancel in the mean, so that F is about n times too small for batches of n, and λ
    means something else with every batch size.

    Source: the EWC plugin of avalanche 0.6, in our own words. True labels; evaluation mode.
    """

    scaling: Scaling = field(default=RAW, kw_only=True)

    name = "compat-batch-mean-squared-fisher"

    def estimate(  # noqa: D102
        self,
        model: nn.Module,
        batches: Batches,
        *,
        sum_over_processes: SumOverProcesses = one_process,
        watched: Mapping[str, Any] | None = None,
    ) -> ParamDict:
        twin = copy.deepcopy(model).eval()
        return _mean_over_batches(twin, batches, _mean_log_likelihood, torch.square)


@dataclass(frozen=True)
class TrainingModeMAS(Importance):
    r"""The gradient of each batch's mean squared norm of the raw output, in training mode.

    .. math:: \Omega_i = \frac{1}{B} \sum_{b=1}^{B} \Bigl| \frac{\partial}{\partial \theta_i}
              \frac{1}{n_b} \sum_{n \in b} \lVert F(x_n; \theta) \rVert_2^2 \Bigr|

    F are logits. Dropout is on, batch norm uses the statistics of each batch, and its running statistics are
    overwritten (`buffers_moved` says how far): what is measured is not the model that was learnt.

    Source: the MAS plugin of avalanche 0.6, in our own words.
    """

    scaling: Scaling = field(default=RAW, kw_only=True)

    name = "compat-training-mode-mas"

    def estimate(  # noqa: D102
        self,
        model: nn.Module,
        batches: Batches,
        *,
        sum_over_processes: SumOverProcesses = one_process,
        watched: Mapping[str, Any] | None = None,
    ) -> ParamDict:
        return _mean_over_batches(copy.deepcopy(model).train(), batches, _mean_squared_norm, torch.abs)

    def buffers_moved(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        """How far one pass would move each buffer of the model: the largest change, by name."""
        twin = copy.deepcopy(model).train()
        before = {name: buffer.detach().clone() for name, buffer in twin.named_buffers()}
        _mean_over_batches(twin, batches, _mean_squared_norm, torch.abs)
        return {name: float((buffer - before[name]).abs().max()) for name, buffer in twin.named_buffers()}


@dataclass(frozen=True)
class SignedMinMaxMAS(Importance):
    r"""The mean of signed gradients, mapped to [0, 1].

    .. math:: \Omega = \frac{\bar g - \min \bar g}{\max \bar g - \min \bar g}, \qquad
              \bar g_i = \frac{1}{N} \sum_{n=1}^{N} \frac{\partial \lVert F(x_n; \theta) \rVert_2^2}{\partial \theta_i}

    Most gradients are near 0, and 0 lies somewhere in the middle of the range: nearly every parameter has the same
    importance, and the penalty is plain L2 to the old weights. The most negative gradient becomes importance 0.

    Source: the MAS of two public studies (ACS, TED), in our own words; the range is over the whole network.
    """

    scaling: Scaling = field(default=RAW, kw_only=True)

    name = "compat-signed-min-max-mas"

    def estimate(  # noqa: D102
        self,
        model: nn.Module,
        batches: Batches,
        *,
        sum_over_processes: SumOverProcesses = one_process,
        watched: Mapping[str, Any] | None = None,
    ) -> ParamDict:
        twin = copy.deepcopy(model)
        signed = mean_over_samples(
            twin, batches, lambda out, _: MAS().squared_norm(out), torch.clone, sum_over_processes
        )
        return unit_range(signed)


def _mean_log_likelihood(output: Tensor, target: Tensor | None) -> Tensor:
    if target is None:
        raise MethodError("BatchMeanSquaredFisher needs batches of (input, target); got inputs alone.")
    return functional.cross_entropy(output, target, ignore_index=IGNORED)


def _mean_squared_norm(output: Tensor, _: Tensor | None) -> Tensor:
    return output.flatten(1).square().sum(1).mean()


def _mean_over_batches(model: nn.Module, batches: Batches, objective: Any, transform: Any) -> ParamDict:
    """The fault itself: a function of the gradient of each batch, not of each sample."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    number = 0
    device = next(iter(parameters.values())).device
    with torch.random.fork_rng(), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        for inputs, target in _pairs(batches):
            value = objective(model(inputs.to(device)), None if target is None else target.to(device))
            gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for total, gradient in zip(sums.values(), gradients, strict=True):
                if gradient is not None:
                    total += transform(gradient)
            number += 1
    if number == 0:
        raise MethodError("Importance needs at least one sample; the batches were empty.")
    return {name: total / number for name, total in sums.items()}


def _pairs(batches: Batches) -> Iterator[tuple[Tensor, Tensor | None]]:
    for batch in batches:
        inputs, *others = batch if isinstance(batch, tuple | list) else (batch,)
        yield inputs, others[0] if others else None
