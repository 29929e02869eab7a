"""What reaches each batch norm on scans without labels, a subject at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from perdure.models import evaluation_mode
from perdure.models.batch_norm import batch_norms

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

AT_ONCE = 8
"""Samples in one pass through the network."""


def standardised_activations(
    model: nn.Module, subjects: Mapping[str, Iterable[Tensor]], device: str = "cpu"
) -> dict[str, NDArray[np.float64]]:
    """The z of every batch norm that keeps statistics, see `shift.py`.

    Args:
        model: any network, with the statistics to compare with.
        subjects: by name the samples of each, in batches `(samples, channels, *spatial)`.
        device: where the network runs.

    Returns:
        By name of the batch norm `(subjects, 2 x channels)`; a batch norm that no value reaches is left out.
    """
    rows: dict[str, list[NDArray[np.float64]]] = {}
    model = model.to(device)
    with evaluation_mode(model), torch.inference_mode(), _sums(model) as sums:
        for batches in subjects.values():
            for batch in batches:
                model(batch.to(device))
            for name, (first, second, count) in sums.items():
                z = torch.cat([first / count, (second / count - 1) / 2])
                rows.setdefault(name, []).append(z.cpu().numpy())
            sums.clear()
    return {name: np.stack(values) for name, values in rows.items()}


@contextmanager
def _sums(model: nn.Module) -> Iterator[dict[str, tuple[Tensor, Tensor, int]]]:
    """By batch norm, a channel: the sums of (x - μ) / σ and of its square over all values, and how many there were."""
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}
    handles = []

    def hook(name: str, mean: Tensor, deviation: Tensor) -> None:
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].double().movedim(1, 0).flatten(1)
            z = (x - mean[:, None]) / deviation[:, None]
            first, second, count = sums.get(name, (torch.zeros_like(mean), torch.zeros_like(mean), 0))
            sums[name] = first + z.sum(dim=1), second + z.square().sum(dim=1), count + z.shape[1]

        handles.append(norms[name].register_forward_pre_hook(see))

    norms = {name: norm for name, norm in batch_norms(model).items() if norm.running_mean is not None}
    try:
        for name, norm in norms.items():
            assert norm.running_mean is not None
            assert norm.running_var is not None
            hook(name, norm.running_mean.double(), (norm.running_var.double() + norm.eps).sqrt())
        yield sums
    finally:
        for handle in handles:
            handle.remove()
