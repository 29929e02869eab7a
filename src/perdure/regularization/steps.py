"""Changes to what an optimizer's step does, whatever the optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from perdure.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


@contextmanager
def scaled_steps(model: nn.Module, optimizer: Optimizer, scale: Mapping[str, Tensor]) -> Iterator[None]:
    r"""Lets each parameter take only a share of the step that the optimizer computes.

    .. math:: \theta \leftarrow \theta_\mathrm{before} + s\,(\theta_\mathrm{after} - \theta_\mathrm{before})

    Args:
        model: its parameters are found by name.
        optimizer: any torch optimizer; its step may hold momentum, adaptive rates and decay.
        scale: parameter name to s in [0, 1], broadcastable to the parameter. Parameters without an entry take the
            whole step.

    Raises:
        MethodError: if an entry does not fit a parameter of the model.
    """
    shares = _shares(model, scale)
    parameters = [parameter for parameter, _ in shares]
    before: list[Tensor] = []

    def remember(*_: Any) -> None:
        before[:] = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def rescale(*_: Any) -> None:
        for (parameter, share), old in zip(shares, before, strict=True):
            # at both ends bit for bit: lerp turns -0 into 0, and 0 times an infinite step into NaN
            end = torch.where(share == 0, old, parameter)
            parameter.copy_(torch.where((share == 0) | (share == 1), end, torch.lerp(old, parameter, share)))
        before.clear()

    handles = [optimizer.register_step_pre_hook(remember), optimizer.register_step_post_hook(rescale)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shares(model: nn.Module, scale: Mapping[str, Tensor]) -> list[tuple[nn.Parameter, Tensor]]:
    parameters = dict(model.named_parameters())
    shares = []
    for name, share in scale.items():
        if name not in parameters:
            raise MethodError(
                f"Importance names the parameter {name!r}, which the model does not have. Use the memory of a model "
                "with the same architecture."
            )
        parameter = parameters[name]
        try:
            full = share.to(parameter).expand_as(parameter)
        except RuntimeError as error:
            raise MethodError(
                f"Importance of {name!r} has shape {tuple(share.shape)}, which does not broadcast to the parameter's "
                f"{tuple(parameter.shape)}."
            ) from error
        # one that is frozen now too: it may be set free before the context ends
        shares.append((parameter, full))
    return shares
