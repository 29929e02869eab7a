r"""Weights between a parent and what training made of it.

.. math:: \theta(s) = (1 - s)\,\theta_\mathrm{parent} + s\,\theta

Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", which does so after fine-tuning.
Decided here: running variances lie on the line as running means do. Neither are exactly the statistics of the network
between; `recalibrate` estimates those where images are at hand.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from perdure.errors import NetworkError
from perdure.types import ParamDict


def interpolated(model: nn.Module, start: Mapping[str, Tensor], share: float) -> ParamDict:
    """A state dict on the line from a parent's state to the model's own.

    Parameters and floating-point buffers are interpolated; others (counters) are those of the nearer end, of the model
    halfway. What is equal at both ends is so between, bit for bit.

    Args:
        model: the end of the line; unchanged.
        start: the parent's state dict.
        share: of the way, in [0, 1]: 0 is the parent and 1 the model, both bit for bit.

    Raises:
        NetworkError: if `share` is out of range, or names, shapes or types of the two differ.
    """
    if not 0 <= share <= 1:
        raise NetworkError(f"`share` must be in [0, 1]; got {share}.")
    end: ParamDict = model.state_dict()
    if other := sorted(start.keys() ^ end.keys()):
        raise NetworkError(f"No line between two different networks: only one of them has {other[:5]}.")
    for name, value in end.items():
        first = start[name]
        if (first.shape, first.dtype) != (value.shape, value.dtype):
            raise NetworkError(
                f"No line between two different networks: {name} is {first.dtype} {tuple(first.shape)} at the start "
                f"and {value.dtype} {tuple(value.shape)} in the model."
            )
    return {name: _between(start[name].detach().to(value.device), value, share) for name, value in end.items()}


def _between(start: Tensor, end: Tensor, share: float) -> Tensor:
    if share in (0, 1) or not (end.is_floating_point() or end.is_complex()):
        return (start if share < 0.5 else end).clone()
    # lerp turns -0 into 0, and infinity into NaN
    return torch.where(start == end, end, torch.lerp(start, end, share))
