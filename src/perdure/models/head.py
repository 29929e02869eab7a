"""Which parameters train in an update: all, batch norm only, or the last layer only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias, get_args

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from perdure.errors import BatchNormError, NetworkError
from perdure.models.batch_norm import affine_parameters

Trainable: TypeAlias = Literal["all", "batch-norm", "head"]


def head(model: nn.Module) -> set[str]:
    """Names of the parameters of the last linear or convolutional layer, in the order in which layers were defined.

    Deep supervision may define its auxiliary heads last, as MONAI's DynUNet does; those are found then.

    Raises:
        NetworkError: if there is no such layer.
    """
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | _ConvNd)]
    if not layers:
        raise NetworkError("The network has no linear or convolutional layer, so it has no head.")
    last = layers[-1]
    own = model.get_submodule(last).named_parameters(recurse=False)
    return {f"{last}.{name}" if last else name for name, _ in own}


def trainable_parameters(model: nn.Module, which: Trainable) -> set[str]:
    r"""Names of the parameters that train; a parameter that the user froze (`requires_grad=False`) is never among them.

    Args:
        model: any network.
        which: `all`; `batch-norm`: :math:`\gamma` and :math:`\beta` of every batch norm and nothing else, not even the
            head; `head`: the last layer.

    Raises:
        BatchNormError: for `batch-norm`, if there is no batch norm with parameters.
        NetworkError: for `head`, if there is no layer with weights; if there is no such choice.

    Source: batch norm only: Gupta et al. 2020.
    """
    if which not in get_args(Trainable):
        raise NetworkError(f"`trainable` must be one of {get_args(Trainable)}; got {which!r}.")
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if which == "all":
        return set(trainable)
    if which == "head":
        chosen = [model.get_parameter(name) for name in head(model)]
    else:
        chosen = list(affine_parameters(model).values())
        if not chosen:
            raise BatchNormError("Only batch norm should train, and the network has no batch norm with parameters.")
    # by identity: a shared parameter may have its name from the other layer that uses it
    wanted = {id(parameter) for parameter in chosen}
    return {name for name, parameter in trainable.items() if id(parameter) in wanted}


@contextmanager
def training_only(model: nn.Module, which: Trainable) -> Iterator[None]:
    """Lets only some parameters train; which of them train is restored at the end.

    The gradients of the others are cleared, so that an optimizer which holds them does not move them by momentum or
    decay. Enter it inside `training_mode`, which may freeze batch norm.

    Args:
        model: any network.
        which: see `trainable_parameters`.

    Raises:
        BatchNormError: for `batch-norm`, if there is no batch norm with parameters.
        NetworkError: for `head`, if there is no layer with weights; if nothing is left to train.
    """
    names = trainable_parameters(model, which)
    if not names:
        raise NetworkError(
            f'trainable="{which}" leaves nothing to train: all those parameters are frozen (requires_grad=False), by '
            'you or by batch_norm="frozen". Choose others, or set them free.'
        )
    trained = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for name, parameter in model.named_parameters():
            if name not in names:
                parameter.requires_grad = False
                parameter.grad = None
        yield
    finally:
        for parameter, trains in trained.items():
            parameter.requires_grad = trains


def has_dropout(model: nn.Module) -> bool:
    """Whether any dropout layer of a network drops something."""
    return any(isinstance(module, _DropoutNd) and module.p > 0 for module in model.modules())
