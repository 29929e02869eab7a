r"""What batch norm does while a network is trained on another domain.

.. math:: y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

Under `target`, :math:`\mu` and :math:`\sigma` are those of the batch, and the running statistics follow the new domain.
Under `original` they are the running statistics that the network came with, for training and for inference, and never
change; :math:`\gamma` and :math:`\beta` train. Under `frozen` those two stand still as well. `per-domain` and
`recalibrated` train as `target` does: the first keeps what each domain had (see `per_domain.py`), the second estimates
the statistics anew afterwards (see `recalibration.py`).

Source: Gupta et al. 2020, "The unreasonable effectiveness of Batch-Norm statistics in addressing catastrophic
forgetting across medical institutions". Özgün et al. 2020 do not mention batch norm; their network is trained as under
`target`. `frozen` is our name: old outputs stay bit for bit only where weights and statistics both stand still.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from perdure.errors import BatchNormError
from perdure.types import ParamDict, Statistics

AFFINE = ("weight", "bias")
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
HOLDING: tuple[Statistics, ...] = ("original", "frozen")
"""The policies under which no running statistic changes."""

_FUSED = ("torch.ao.nn.intrinsic", "torch.ao.nn.quantized")


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Every batch-norm module by its full name, `SyncBatchNorm` included; instance norm is none."""
    return {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}


def check(model: nn.Module, statistics: Statistics) -> str | None:
    """Whether a network can follow a batch-norm policy.

    Batch norm is out of reach where torch.ao has fused it with its layer, where the network is compiled to TorchScript
    or exported, and where a module that is no torch batch norm keeps running statistics (instance norm can). Batch norm
    that was folded into the weights of a plain convolution leaves no trace: such a network counts as one without.

    Returns:
        A note for the user where the policy has no effect on this network, else None.

    Raises:
        BatchNormError: if there is no such policy; under any but `target`, if batch norm is out of reach or keeps no
            running statistics.
    """
    if statistics not in get_args(Statistics):
        raise BatchNormError(f"There is no batch-norm policy {statistics!r}; allowed are {get_args(Statistics)}.")
    if statistics == "target":
        return None
    if beyond := [name or type(module).__name__ for name, module in model.named_modules() if _is_out_of_reach(module)]:
        raise BatchNormError(
            f'batch_norm="{statistics}" cannot reach {_listed(beyond)}: batch norm fused with its layer, or running '
            "statistics kept by something else than torch's batch norm. Use the network as it was before it was fused, "
            'compiled or exported, or batch_norm="target".'
        )
    norms = batch_norms(model)
    if not norms:
        return (
            f'The network has no batch norm: batch_norm="{statistics}" and "target" are the same for it. '
            "Instance, group and layer norm keep no statistics of a domain."
        )
    without = [name for name, norm in norms.items() if norm.running_mean is None or norm.running_var is None]
    if without:
        raise BatchNormError(
            f'batch_norm="{statistics}" needs running statistics, and {_listed(without)} has none '
            '(track_running_stats=False). Use batch_norm="target", or a network that tracks them.'
        )
    return None


def _is_out_of_reach(module: nn.Module) -> bool:
    if type(module).__module__.startswith(_FUSED):
        return True
    buffers = {name for name, _ in module.named_buffers(recurse=False)}
    return "running_mean" in buffers and not isinstance(module, _BatchNorm)


@contextmanager
def training_mode(model: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Puts a network into training mode under a batch-norm policy; what it changes is restored at the end.

    Nobody else calls `model.train()`. If a user's loop does so inside, the policy still holds.

    Args:
        model: any network. A copy of it made inside, under `frozen`, stays with batch norm that does not train.
        statistics: `target`, `per-domain`, `recalibrated`: all of it in training mode; for the last, call `recalibrate`
            when training is over. `original`: all but its batch norm, so that dropout is active while no running
            statistic changes by a bit. `frozen`: as `original`, and the affine parameters of batch norm have no
            gradient, so that no optimizer moves them, not by momentum or decay either.

    Raises:
        BatchNormError: if the network cannot follow the policy.
    """
    check(model, statistics)
    modes = {module: module.training for module in model.modules()}
    frozen = list(affine_parameters(model).values()) if statistics == "frozen" else []
    trained = [parameter.requires_grad for parameter in frozen]
    hold = _InEvaluation()
    handles = []
    try:
        model.train()
        if statistics in HOLDING:
            for norm in batch_norms(model).values():
                norm.training = False
                handles.append(norm.register_forward_pre_hook(hold))
        for parameter in frozen:
            parameter.requires_grad = False
            # an optimizer that holds it already steps wherever there is a gradient, were it of zeros
            parameter.grad = None
        yield
    finally:
        hold.active = False
        for handle in handles:
            handle.remove()
        for parameter, trains in zip(frozen, trained, strict=True):
            parameter.requires_grad = trains
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
    return {name: buffer.detach().clone() for name, buffer in tensors_of(model, BUFFERS).items()}


def load_statistics(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Writes running statistics, as `statistics` returned them, into a network.

    Raises:
        BatchNormError: unless names and shapes are exactly those of the network; nothing is written then.
    """
    write(tensors_of(model, BUFFERS), values, "statistics")


@contextmanager
def swapped_statistics(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Gives a network other running statistics for a while; its own are back at the end, bit for bit.

    With those of before an update, it shows how much of the forgetting sits in the statistics, not in the weights.

    Raises:
        BatchNormError: unless names and shapes are exactly those of the network.
    """
    own = statistics(model)
    load_statistics(model, values)
    try:
        yield
    finally:
        load_statistics(model, own)


def affine_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    r""":math:`\gamma` and :math:`\beta` of every batch norm, the parameters themselves, by full name."""
    return {name: value for name, value in tensors_of(model, AFFINE).items() if isinstance(value, nn.Parameter)}


def write(own: ParamDict, values: Mapping[str, Tensor], what: str) -> None:
    """Writes values into tensors of the same names and shapes; `what` names them in errors.

    Raises:
        BatchNormError: unless names and shapes are exactly the same; nothing is written then.
    """
    if missing := sorted(own.keys() - values.keys()):
        raise BatchNormError(f"Batch-norm {what} are missing for {_listed(missing)}; give all or none.")
    if unexpected := sorted(values.keys() - own.keys()):
        raise BatchNormError(f"The network has no batch-norm {what} called {_listed(unexpected)}.")
    for name, tensor in own.items():
        if tensor.shape != values[name].shape:
            raise BatchNormError(
                f"Batch-norm {what} {name}: found shape {tuple(values[name].shape)}; "
                f"the network has {tuple(tensor.shape)}."
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(values[name])


def tensors_of(model: nn.Module, keys: tuple[str, ...]) -> ParamDict:
    """The tensors themselves that every batch norm holds under these attributes, by full name."""
    found: ParamDict = {}
    for name, norm in batch_norms(model).items():
        for key in keys:
            tensor = getattr(norm, key)
            if tensor is not None:
                found[f"{name}.{key}" if name else key] = tensor
    return found


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
