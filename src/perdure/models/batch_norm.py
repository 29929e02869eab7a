r"""What batch norm does while a network is trained on another domain.

.. math:: y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

Under `target`, :math:`\mu` and :math:`\sigma` are those of the batch, and the running statistics follow the new domain.
Under `original` they are the running statistics that the network came with, for training and for inference, and never
change; :math:`\gamma` and :math:`\beta` train.

Source: Gupta et al. 2020, "The unreasonable effectiveness of Batch-Norm statistics in addressing catastrophic
forgetting across medical institutions". Özgün et al. 2020 do not mention batch norm; their network is trained as under
`target`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from perdure.errors import BatchNormError
from perdure.types import ParamDict, Statistics

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Every batch-norm module by its full name, `SyncBatchNorm` included; instance norm is none."""
    return {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}


def check(model: nn.Module, statistics: Statistics) -> str | None:
    """Whether a network can follow a batch-norm policy.

    Returns:
        A note for the user where the policy has no effect on this network, else None.

    Raises:
        BatchNormError: under `original`, if a batch norm keeps no running statistics.
    """
    if statistics == "target":
        return None
    norms = batch_norms(model)
    if not norms:
        return (
            'The network has no batch norm: batch_norm="original" and "target" are the same for it. '
            "Instance, group and layer norm keep no statistics of a domain."
        )
    without = [name for name, norm in norms.items() if norm.running_mean is None or norm.running_var is None]
    if without:
        raise BatchNormError(
            f'batch_norm="original" needs running statistics, and {_listed(without)} has none '
            '(track_running_stats=False). Use batch_norm="target", or a network that tracks them.'
        )
    return None


@contextmanager
def training_mode(model: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Puts a network into training mode under a batch-norm policy; every module's mode is restored at the end.

    Nobody else calls `model.train()`. If a user's loop does so inside, the policy still holds.

    Args:
        model: any network.
        statistics: `target`: all of it in training mode. `original`: all but its batch norm, so that dropout is
            active while no running statistic changes by a bit.

    Raises:
        BatchNormError: if the network cannot follow the policy.
    """
    check(model, statistics)
    modes = {module: module.training for module in model.modules()}
    hold = _InEvaluation()
    handles = []
    try:
        model.train()
        if statistics == "original":
            for norm in batch_norms(model).values():
                norm.training = False
                handles.append(norm.register_forward_pre_hook(hold))
        yield
    finally:
        hold.active = False
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode


class _InEvaluation:
    """A forward pre-hook that keeps a module in evaluation mode, whoever calls `train()` meanwhile.

    A copy or a pickle made of the network inside carries the hook away: copies share `active`, pickles are inert.
    """

    def __init__(self) -> None:
        self.active = True

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self.active:
            module.training = False

    def __deepcopy__(self, memo: object) -> _InEvaluation:
        return self

    def __getstate__(self) -> dict[str, bool]:
        return {"active": False}


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts all of a network into evaluation mode, to measure it; every module's mode is restored at the end.

    Raises:
        BatchNormError: at the end, if a buffer has changed by a bit. Measuring must not change what is measured.
    """
    modes = {module: module.training for module in model.modules()}
    before = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
    after = dict(model.named_buffers())
    moved = [name for name in before.keys() | after.keys() if not _is_same(before.get(name), after.get(name))]
    if moved:
        raise BatchNormError(
            f"In evaluation mode no buffer may change; {_listed(sorted(moved))} did. The network, or code around it, "
            "switched a module back to training mode or writes to the buffer in `forward`: measure without that."
        )


def _is_same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two tensors agree bit for bit (NaN included)."""
    if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def statistics(model: nn.Module) -> ParamDict:
    """Copies of the running statistics of every batch norm, by full name (`encode1.batchnorm1.running_mean`)."""
    return {name: buffer.detach().clone() for name, buffer in _statistics(model).items()}


def load_statistics(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Writes running statistics, as `statistics` returned them, into a network.

    Raises:
        BatchNormError: unless names and shapes are exactly those of the network; nothing is written then.
    """
    own = _statistics(model)
    if missing := sorted(own.keys() - values.keys()):
        raise BatchNormError(f"Batch-norm statistics are missing for {_listed(missing)}; give all or none.")
    if unexpected := sorted(values.keys() - own.keys()):
        raise BatchNormError(f"The network has no batch-norm statistics called {_listed(unexpected)}.")
    for name, buffer in own.items():
        if buffer.shape != values[name].shape:
            raise BatchNormError(
                f"Batch-norm statistics {name}: found shape {tuple(values[name].shape)}; "
                f"the network has {tuple(buffer.shape)}."
            )
    with torch.no_grad():
        for name, buffer in own.items():
            buffer.copy_(values[name])


def _statistics(model: nn.Module) -> ParamDict:
    found: ParamDict = {}
    for name, norm in batch_norms(model).items():
        for key in BUFFERS:
            buffer = getattr(norm, key)
            if buffer is not None:
                found[f"{name}.{key}" if name else key] = buffer
    return found


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
