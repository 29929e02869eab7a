"""Stops training that has left the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from perdure.errors import DivergenceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

EXPLOSION = 100.0
ADVICE = "Lower the learning rate (--learning-rate), or clip gradients (--clip-norm 1)."


@dataclass
class Guard:
    """Watches the loss and the gradient of each step, before the step is taken.

    Args:
        first_loss: the first loss seen; a loss 100 times as large (and above 100) counts as an explosion.
    """

    first_loss: float | None = None

    def check(self, loss: float, gradient_norm: float, epoch: int, step: int) -> None:
        """Passes if all is well.

        Raises:
            DivergenceError: saying what was seen, where, and what helps.
        """
        if self.first_loss is None:
            self.first_loss = loss
        where = f"epoch {epoch + 1}, step {step + 1}"
        if not math.isfinite(loss):
            raise DivergenceError(f"The loss became {loss} in {where}. {ADVICE}")
        if not math.isfinite(gradient_norm):
            raise DivergenceError(f"The gradient's norm became {gradient_norm} in {where} (loss {loss:.4g}). {ADVICE}")
        if loss > EXPLOSION * max(self.first_loss, 1.0):
            raise DivergenceError(f"The loss rose from {self.first_loss:.4g} to {loss:.4g} by {where}. {ADVICE}")

    @staticmethod
    def check_validation(loss: float, epoch: int) -> None:
        """Passes if the validation loss is a number; it may rise as it likes.

        Raises:
            DivergenceError: saying what was seen, where, and what helps.
        """
        if not math.isfinite(loss):
            raise DivergenceError(f"The validation loss became {loss} after epoch {epoch + 1}. {ADVICE}")


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients together; 0 where there is none."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
