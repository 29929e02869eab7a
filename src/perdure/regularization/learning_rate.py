"""Learning rate regularization (MAS-LR's half of the method)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.regularization.base import Regularizer
from perdure.regularization.steps import scaled_steps

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


@dataclass(frozen=True)
class LearningRate(Regularizer):
    r"""Gives each parameter its own learning rate.

    .. math:: \alpha_i = (1 - \Omega_i)\,\alpha

    1 keeps parameter i as it is, bit for bit; 0 is fine-tuning, bit for bit. No further hyperparameter.

    Source: Özgün et al. 2020, Eq. 3.

    Open in the paper, decided here: the factor scales the whole step that the optimizer takes, momentum and weight
    decay included, not the gradient. Under SGD with constant importance the two are the same; under Adam a scaled
    gradient is normalised away and protects nothing. Importance outside [0, 1] is clamped.
    """

    @contextmanager
    def constrain(  # noqa: D102
        self, model: nn.Module, optimizer: Optimizer, weights: Mapping[str, Tensor], anchor: Mapping[str, Tensor]
    ) -> Iterator[None]:
        with scaled_steps(model, optimizer, {name: 1 - omega.clamp(0, 1) for name, omega in weights.items()}):
            yield
