"""The same importance for every parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from perdure.importance.base import RAW, Importance
from perdure.importance.scaling import Scaling
from perdure.types import one_process

if TYPE_CHECKING:
    from torch import nn

    from perdure.types import Batches, ParamDict, SumOverProcesses


@dataclass(frozen=True)
class Uniform(Importance):
    r"""Importance 1 for every parameter: the control that says what measuring is worth.

    .. math:: \Omega_i = 1

    With a surrogate loss this is L2-SP. It needs no data.

    Source: Li et al. 2018, "Explicit inductive bias for transfer learning with convolutional networks".
    """

    scaling: Scaling = field(default=RAW, kw_only=True)

    name = "uniform"
    needs_data = False

    def estimate(  # noqa: D102
        self,
        model: nn.Module,
        batches: Batches,
        *,
        sum_over_processes: SumOverProcesses = one_process,
        watched: Mapping[str, Any] | None = None,
    ) -> ParamDict:
        return {name: torch.ones_like(p) for name, p in model.named_parameters() if p.requires_grad}
