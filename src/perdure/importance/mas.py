"""Memory Aware Synapses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from perdure.errors import check_choice
from perdure.importance.base import Importance
from perdure.importance.per_sample import mean_over_samples
from perdure.types import Precision, one_process

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perdure.types import Batches, ParamDict, SumOverProcesses


Output: TypeAlias = Literal["softmax", "logits", "sigmoid"]


@dataclass(frozen=True)
class MAS(Importance):
    r"""How strongly the squared norm of the output reacts to each parameter.

    .. math:: \Omega_i = \frac{1}{N} \sum_{n=1}^{N}
              \left| \frac{\partial \lVert F(x_n; \theta) \rVert_2^2}{\partial \theta_i} \right|

    F is the softmax output, x_n one image or slice. Labels are not needed.

    Source: Özgün et al. 2020, Eq. 1; Aljundi et al. 2018.

    Open in the paper, decided here: the absolute value of each sample's gradient (Eq. 1 prints none, but Eq. 3 needs
    values of at least 0); evaluation mode; the norm is summed over classes and averaged over pixels, so that samples of
    different size weigh the same; every trainable parameter is measured, not only those of convolutions.

    Args:
        output: `softmax` as in the paper, `logits` as in the original MAS, or `sigmoid` for heads whose channels are
            independent (p squared plus (1 - p) squared).
        precision: `bf16-mixed` takes the gradients in half precision, where that is nearly the same, see
            `per_sample.mean_over_terms`: faster, and approximate.
    """

    output: Output = "softmax"
    precision: Precision = field(default="32-true", kw_only=True)

    name = "mas"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("output", self.output, Output)
        check_choice("precision", self.precision, Precision)

    def estimate(  # noqa: D102
        self,
        model: nn.Module,
        batches: Batches,
        *,
        sum_over_processes: SumOverProcesses = one_process,
        watched: Mapping[str, Any] | None = None,
    ) -> ParamDict:
        return mean_over_samples(model, batches, self.squared_norm, torch.abs, sum_over_processes, self.precision)

    def squared_norm(self, output: Tensor, target: Tensor | None = None) -> Tensor:
        """The squared norm of each sample's output `(batch, classes, *spatial)`, a mean over its pixels: `(batch,)`."""
        if self.output == "softmax":
            squares = output.softmax(dim=1).square()
        elif self.output == "sigmoid":
            probability = output.sigmoid()
            squares = probability.square() + (1 - probability).square()
        else:
            squares = output.square()
        return squares.sum(dim=1).flatten(1).mean(dim=1) if squares.ndim > 2 else squares.sum(dim=1)
