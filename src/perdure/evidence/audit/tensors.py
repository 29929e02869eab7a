"""Is every tensor one that this network, or a memory of it, has; and could one be an image or a row of samples?

A tensor passes by its name, its shape and its type, which the network gives. What a layer of torch learns cannot have
a sample axis. What is left are tensors that a network brings of its own: a buffer passes if a network built anew has
the same, number by number (an index of positions, a fixed filter), a parameter unless its axes are those of an image or
count the cases of a domain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from perdure.evidence.audit.objection import MEMORY, WEIGHTS, Kind, Objection
from perdure.models.batch_norm import AFFINE, BUFFERS, tensors_of

if TYPE_CHECKING:
    from torch import Tensor

    from perdure.release import Identity

_LEARNT_LAYERS = (
    nn.Linear, nn.modules.conv._ConvNd, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.PReLU, nn.MultiheadAttention,
)  # fmt: skip
_SMALLEST_PICTURE = 8
"""Pixels along each of two axes from which a tensor is called image-like; patches of other networks begin there."""

_SAVE_AGAIN = "Take it out of the network or the memory, and save the release again."


def weight_objections(state: Mapping[str, Tensor], network: nn.Module, identity: Identity) -> Iterator[Objection]:
    """Objections to the tensors of `weights.safetensors`.

    Args:
        state: the tensors by name.
        network: the same network, built anew.
        identity: of the release.
    """
    own = network.state_dict()
    statistics = _running_statistics(network)
    for name in sorted(own.keys() - state.keys()):
        yield _objection("tensor", WEIGHTS, name, "nothing", "The network has such a tensor.", _SAVE_AGAIN)
    for name, tensor in state.items():
        yield from _values(WEIGHTS, name, tensor)
        if name not in own:
            yield _foreign(WEIGHTS, name, tensor, identity, "the network has no such tensor")
        elif tensor.shape != own[name].shape or tensor.dtype != own[name].dtype:
            wanted = f"the network has {tuple(own[name].shape)} of {own[name].dtype}"
            yield _foreign(WEIGHTS, name, tensor, identity, wanted)
        elif name not in statistics and not torch.equal(tensor, own[name]):
            yield from _brought(name, tensor, network, identity)
        if name.endswith("running_var") and bool((tensor < 0).any()):
            yield _objection("values", WEIGHTS, name, "a variance below 0", "No data give this.", _SAVE_AGAIN)


def memory_objections(memory: Mapping[str, Tensor], network: nn.Module, identity: Identity) -> Iterator[Objection]:
    """Objections to the tensors of `memory.safetensors`.

    Args:
        memory: the tensors by `<kind>/<name>`.
        network: the network, built anew.
        identity: of the release.
    """
    parameters = dict(network.named_parameters())
    buffers = tensors_of(network, BUFFERS)
    sets = tensors_of(network, AFFINE + BUFFERS)
    allowed: dict[str, Mapping[str, Tensor]] = {"statistics/": buffers, "frozen/": parameters}
    allowed |= {f"norm/{seen.domain}/": sets for seen in identity.domains}
    allowed |= {
        f"{kind}/{key}/": parameters for kind in ("importance", "latest", "centre") for key in identity.measures
    }
    lengths = sorted({len(prefix) for prefix in allowed}, reverse=True)
    for name, tensor in memory.items():
        yield from _values(MEMORY, name, tensor)
        prefix = next((name[:n] for n in lengths if name[:n] in allowed), "")
        like = allowed.get(prefix, {}).get(name.removeprefix(prefix))
        if like is None:
            yield _foreign(MEMORY, name, tensor, identity, "a memory of this network has no such tensor")
            continue
        whole = prefix.startswith(("statistics/", "norm/"))
        fits = len(like.shape) == tensor.ndim and all(
            a == b or (a == 1 and not whole) for a, b in zip(tensor.shape, like.shape, strict=True)
        )
        kind = torch.bool if prefix == "frozen/" else like.dtype
        if not fits or tensor.dtype != kind:
            wanted = f"a memory has one number a value of {tuple(like.shape)}, or means over axes, of {kind}"
            yield _foreign(MEMORY, name, tensor, identity, wanted)
        negative = prefix.startswith(("importance/", "latest/")) or name.endswith("running_var")
        if negative and tensor.dtype != torch.bool and bool((tensor < 0).any()):
            yield _objection(
                "values", MEMORY, name, "numbers below 0", "Importance and variance have none.", _SAVE_AGAIN
            )


def _running_statistics(network: nn.Module) -> set[str]:
    """Running statistics of batch and instance norm, by full name."""
    found = set()
    for name, module in network.named_modules():
        if isinstance(module, _NormBase):
            found |= {f"{name}.{key}" if name else key for key in BUFFERS}
    return found


def _brought(name: str, tensor: Tensor, network: nn.Module, identity: Identity) -> Iterator[Objection]:
    """Objections to a tensor of the network that is no running statistic, and other than in a network built anew."""
    way, _, attribute = name.rpartition(".")
    module = network.get_submodule(way)
    is_buffer = attribute in module._buffers
    if is_buffer:
        shape = "image-like " if _is_picture(tensor, identity) else ""
        yield _objection(
            "image" if shape else "buffer", WEIGHTS, name, f"a {shape}buffer of shape {tuple(tensor.shape)}",
            "It is no running statistic, and a network built anew has other numbers there: it may hold data.",
            "Do not register data as a buffer; if the numbers are drawn or computed, accept it.",
        )  # fmt: skip
    elif tuple(tensor.shape[-len(identity.contract.size) :]) == identity.contract.size:
        yield _objection(
            "image", WEIGHTS, name, f"a parameter of shape {tuple(tensor.shape)}, as an image has",
            "A parameter with the axes of an image can hold one, or the mean of a few.",
            "Use a network without it; if no image can be read from it, accept it.",
        )  # fmt: skip
    elif not isinstance(module, _LEARNT_LAYERS) and (axis := _sample_axis(tensor.shape[:1], identity)):
        yield _objection(
            "sample axis", WEIGHTS, name, f"a parameter of shape {tuple(tensor.shape)}, {axis}",
            "A row for each case, as an embedding of patients has, describes single patients.",
            "Use a network without it; if the rows are no cases, accept it.",
        )  # fmt: skip


def _sample_axis(lengths: Sequence[int], identity: Identity) -> str:
    """What an axis counts, if one of these lengths is the number of training cases of a domain."""
    for seen in identity.domains:
        for what in ("samples", "cases", "subjects"):
            count = getattr(seen.counts, what).get("train", 0)
            if count > 1 and count in lengths:
                return f"with as many rows as domain {seen.domain!r} has training {what}"
    return ""


def _is_picture(tensor: Tensor, identity: Identity) -> bool:
    same = tuple(tensor.shape[-len(identity.contract.size) :]) == identity.contract.size
    return same or (tensor.ndim >= 2 and min(tensor.shape[-2:]) >= _SMALLEST_PICTURE)


def _foreign(file: str, name: str, tensor: Tensor, identity: Identity, wanted: str) -> Objection:
    found = f"shape {tuple(tensor.shape)} of {tensor.dtype}; {wanted}"
    if axis := _sample_axis(tensor.shape, identity):
        why = "Its first axis, or another, may count cases: then it describes single patients."
        return _objection("sample axis", file, name, f"{found}, {axis}", why, _SAVE_AGAIN)
    if _is_picture(tensor, identity):
        return _objection("image", file, name, found, "It is large enough to be an image.", _SAVE_AGAIN)
    return _objection("tensor", file, name, found, "Only what is listed can be vouched for.", _SAVE_AGAIN)


def _values(file: str, name: str, tensor: Tensor) -> Iterator[Objection]:
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        number = int((~tensor.isfinite()).sum())
        yield _objection(
            "values", file, name, f"{number} value(s) that are no finite number",
            "A NaN has bits to spare, which hold whatever was written there.", _SAVE_AGAIN,
        )  # fmt: skip


def _objection(kind: Kind, file: str, field: str, found: str, why: str, what_to_do: str) -> Objection:
    return Objection(kind=kind, file=file, field=field, found=found, why=why, what_to_do=what_to_do)
