r"""A quadratic with a bend and a centre for each parameter, and the nearest point where it costs no more than it may.

.. math:: V(\theta) = \tfrac{1}{2} \sum_i H_i\,d_i^2, \qquad d = \theta - c

The nearest point to θ with :math:`V \le B` lies at :math:`d_i / (1 + \mu H_i)`, with the :math:`\mu \ge 0` for which
V is B: the step of an implicit penalty whose strength is found instead of set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perdure.types import ParamDict

MOST_ITERATIONS = 100
EXACT = 1e-12


@dataclass(frozen=True)
class Quadratic:
    """V above, for the parameters that have a bend.

    Args:
        bend: H, parameter name to values of at least 0, broadcastable to the parameter.
        anchor: parameter name to a place near the centre.
        centre: the distance from there to c; 0 where there is no entry.
    """

    bend: Mapping[str, Tensor]
    anchor: Mapping[str, Tensor]
    centre: Mapping[str, Tensor]

    def place(self, name: str, dtype: torch.dtype) -> Tensor:
        """C of one parameter."""
        anchor = self.anchor[name].to(dtype)
        return anchor + self.centre[name].to(dtype) if name in self.centre else anchor

    def distances(self, model: nn.Module, dtype: torch.dtype | None = None) -> ParamDict:
        """D by name, in a precision or that of each parameter, but at least in float32."""
        parameters = dict(model.named_parameters())
        found = {}
        for name in self.bend:
            # the square of a small distance would be 0 in half precision
            exact = dtype or torch.promote_types(parameters[name].dtype, torch.float32)
            parameter = parameters[name].to(exact)
            # first the anchor: the difference of two near numbers is exact
            distance = parameter - self.anchor[name].to(parameter)
            found[name] = distance - self.centre[name].to(parameter) if name in self.centre else distance
        return found


def cost(distances: Mapping[str, Tensor], bend: Mapping[str, Tensor]) -> float:
    """V: half the sum of H d², in float64.

    Args:
        distances: d by name.
        bend: H by name, at least 0, broadcastable to d.
    """
    terms = [(bend[name].double() * d.double().square()).sum() for name, d in distances.items()]
    return 0.5 * float(torch.stack(terms).sum()) if terms else 0.0


def multiplier(distances: Mapping[str, Tensor], bend: Mapping[str, Tensor], budget: float) -> float:
    r"""μ, so that the point at d / (1 + μ H) costs the budget.

    Newton's method on :math:`V(\mu)^{-1/2} = B^{-1/2}`, whose left side is concave in μ and rises: from 0 it comes up
    to the solution without ever passing it.

    Args:
        distances: see `cost`; they cost more than the budget.
        bend: see `cost`.
        budget: B; at 0 and below μ is infinite.
    """
    if budget <= 0:
        return math.inf
    mu = 0.0
    for _ in range(MOST_ITERATIONS):
        sums = []
        for name, d in distances.items():
            H = bend[name].double()
            shrink = 1 / (1 + mu * H)
            spent = H * d.double().square() * shrink.square()
            sums.append(torch.stack([spent.sum(), (spent * H * shrink).sum()]))
        spent_twice, fall = torch.stack(sums).sum(dim=0).tolist()
        excess = math.sqrt(0.5 * spent_twice / budget) - 1
        if excess <= EXACT:
            break
        mu += spent_twice * excess / fall
    return mu
