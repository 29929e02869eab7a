"""Learning rate regularization (MAS-LR's half of the method)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.errors import MethodError
from perdure.regularization.base import Past, Regularizer
from perdure.regularization.steps import scaled_steps

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


@dataclass(frozen=True)
class LearningRate(Regularizer):
    r"""Gives each parameter its own learning rate.

    .. math:: \alpha_i = (1 - \Omega_i)\,\alpha

    1 keeps parameter i as it is, bit for bit; 0 is fine-tuning, bit for bit. No further hyperparameter.

    Source: Özgün et al. 2020, Eq. 3.

    Open in the paper, decided here: the factor scales the whole step that the optimizer takes, momentum and weight
    decay included, not the gradient. Under SGD with constant importance the two are the same; under Adam a scaled
    gradient is normalised away and protects nothing. Importance outside [0, 1] is clamped (a sum over domains leaves
    it); raw importance, which is on another scale, is refused.

    Args:
        power: of (1 - Ω); the authors' code has 2 as an option.
        multiplier: of the whole, an option of the authors' code.
        floor: the least rate of any parameter; 1e-7 in the authors' code, so that Ω = 1 moves a little there.
    """

    name = "learning-rate"
    needs_unit_range = True

    power: float = 1.0
    multiplier: float = 1.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("power", "multiplier"):
            if not getattr(self, name) > 0:
                raise MethodError(f"`{name}` must be above 0; got {getattr(self, name)}.")
        if not self.floor >= 0:
            raise MethodError(f"`floor` must be at least 0; got {self.floor}.")

    @contextmanager
    def constrain(self, model: nn.Module, optimizer: Optimizer, past: Past) -> Iterator[None]:  # noqa: D102
        share = {name: self.multiplier * (1 - omega.clamp(0, 1)) ** self.power for name, omega in past.weights.items()}
        with scaled_steps(model, optimizer, share, floor=self.floor):
            yield
