r"""A network in a form that exporters can take, with the same parameters and the same answers.

QuickNAT's index unpooling remembers a place in the whole image. Of a 2x2 window only four places are possible, so the
offset o in {0, 1, 2, 3} within the window says the same:

.. math:: y_{2i + a,\, 2j + b} = x_{ij}\,[\,o_{ij} = 2a + b\,]

which is a comparison and a rearrangement (`pixel_shuffle`), operations that every exporter knows. Where a window has
its largest value several times, both take the first in reading order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from perdure.models.quicknat import QuickNAT


def exportable(model: nn.Module) -> nn.Module:
    """A network that computes what `model` does, bit for bit, and shares its parameters; `model` stays as it is.

    Args:
        model: any network. QuickNAT alone is written anew; all others are returned as they are.
    """
    return _ByOffset(model) if isinstance(model, QuickNAT) else model


class _ByOffset(nn.Module):
    """QuickNAT without an index of the whole image."""

    def __init__(self, network: QuickNAT) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, x: Tensor) -> Tensor:
        return self.network.segmented(x, _pooled, _unpooled)


def _pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of each window `(batch, channels, h, w)`, and its offset `(batch, channels, 1, h, w)`."""
    windows = functional.pixel_unshuffle(x, 2).unflatten(1, (x.shape[1], 4))
    return functional.max_pool2d(x, 2), windows.argmax(dim=2, keepdim=True)


def _unpooled(x: Tensor, offsets: Tensor) -> Tensor:
    every = torch.arange(4, device=x.device).view(4, 1, 1)
    windows = torch.where(offsets == every, x.unsqueeze(2), torch.zeros((), dtype=x.dtype, device=x.device))
    return functional.pixel_shuffle(windows.flatten(1, 2), 2)
