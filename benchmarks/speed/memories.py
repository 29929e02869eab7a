"""Memories of any number of earlier domains, made by the library's own merging from numbers drawn at random."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perdure.importance import Importance, filter_axes
from perdure.models.batch_norm import statistics
from perdure.release import Memory
from perdure.release.memory import Accumulated, accumulated

CLIPPED = 0.12
"""The share of parameters that clipping leaves at importance 1, as measured on a trained QuickNAT."""


def memory_of(model: nn.Module, importance: Importance, domains: int) -> Memory:
    """What a model would remember of so many domains, each with an anchor of its own and the last one where it stands.

    Args:
        model: whose parameters it is of.
        importance: the measure; numbers stand in for what it would find.
        domains: how many.
    """
    draw = torch.Generator().manual_seed(domains)
    anchor = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    unit = importance.scaling.range == "unit"
    past: Accumulated | None = None
    before: dict[str, Tensor] = {}
    for left in reversed(range(domains)):
        # the nearer in time, the nearer in place
        after = {name: place if left == 0 else _near(place, left, draw) for name, place in anchor.items()}
        raw = {name: _drawn(place, draw) for name, place in anchor.items()}
        scaled = {name: (value / (1 - CLIPPED) ** 4).clamp(max=1) for name, value in raw.items()} if unit else raw
        past = accumulated(past, raw, scaled, importance.settings(), 64, before, after)
        before = after
    assert past is not None
    return Memory(anchor, {importance.key: past}, statistics(model), axes=filter_axes(model))


def _drawn(like: Tensor, draw: torch.Generator) -> Tensor:
    return (torch.rand(like.shape, generator=draw) ** 4).to(like.device)


def _near(place: Tensor, left: int, draw: torch.Generator) -> Tensor:
    return place + 1e-3 * left * torch.randn(place.shape, generator=draw).to(place.device)


def size_of(memory: Memory) -> int:
    """The bytes of all its tensors."""
    tensors = [*memory.anchor.values(), *memory.statistics.values(), *memory.frozen.values()]
    for measure in memory.measures.values():
        tensors += [*measure.weights.values(), *measure.latest.values(), *measure.centre.values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
