"""What every form of restraint has in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


class Regularizer:
    """A restraint on training: a term of the loss, a change of the optimizer's step, or both.

    The defaults restrain nothing; a form overrides what it needs.
    """

    needs_importance: bool = True
    """Whether it can do nothing without importance weights."""

    def penalty(self, model: nn.Module, weights: Mapping[str, Tensor], anchor: Mapping[str, Tensor]) -> Tensor:
        """The term that is added to the loss: a scalar of at least 0, and 0 where the model stands at the anchor.

        Args:
            model: the model in training.
            weights: parameter name to importance, broadcastable to the parameter.
            anchor: parameter name to the parameter before the update.
        """
        return torch.zeros((), device=next(model.parameters()).device)

    @contextmanager
    def constrain(
        self, model: nn.Module, optimizer: Optimizer, weights: Mapping[str, Tensor], anchor: Mapping[str, Tensor]
    ) -> Iterator[None]:
        """Changes what the optimizer's steps do, for as long as the context lasts.

        Args:
            model: the model in training, not wrapped.
            optimizer: the optimizer whose `step` moves the model, not wrapped.
            weights: as in `penalty`.
            anchor: as in `penalty`.
        """
        yield
