"""Which parameters train in an update: all, batch norm only, or the last layer only."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import nn
from torch.nn.modules.conv import _ConvNd

from perdure.errors import BatchNormError, NetworkError
from perdure.models.batch_norm import batch_norms

Trainable: TypeAlias = Literal["all", "batch-norm", "head"]


def head(model: nn.Module) -> set[str]:
    """Names of the parameters of the last linear or convolutional layer, in the order in which layers were defined.

    Raises:
        NetworkError: if there is no such layer.
    """
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | _ConvNd)]
    if not layers:
        raise NetworkError("The network has no linear or convolutional layer, so it has no head.")
    return _parameters_of(model, layers[-1:])


def trainable_parameters(model: nn.Module, which: Trainable) -> set[str]:
    r"""Names of the parameters that train; a parameter that the user froze (`requires_grad=False`) is never among them.

    Args:
        model: any network.
        which: `all`; `batch-norm`: :math:`\gamma` and :math:`\beta` of every batch norm and nothing else, not even the
            head; `head`: the last layer.

    Raises:
        BatchNormError: for `batch-norm`, if there is no batch norm with parameters.
        NetworkError: for `head`, if there is no layer with weights.

    Source: batch norm only: Gupta et al. 2020.
    """
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if which == "all":
        return trainable
    if which == "head":
        return trainable & head(model)
    affine = _parameters_of(model, list(batch_norms(model)))
    if not affine:
        raise BatchNormError("Only batch norm should train, and the network has no batch norm with parameters.")
    return trainable & affine


def _parameters_of(model: nn.Module, modules: list[str]) -> set[str]:
    parameters = (
        f"{module}.{name}" if module else name
        for module in modules
        for name, _ in model.get_submodule(module).named_parameters(recurse=False)
    )
    return set(parameters)
