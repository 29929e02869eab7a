r"""What intensities a domain has, in a few numbers of all its subjects together.

.. math:: F_c(t) = P(x_c \le t), \qquad t = 0, \tfrac{1}{32}, \dots, \tfrac{31}{32}

over all pixels of all training samples of a domain, for each input channel c, where x is the scaled intensity before
mean and deviation are taken off. A release carries it of each domain, so that `perdure check` can compare scans that
come later. 32 numbers a channel over five subjects or more say nothing of one of them that could be told from the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from perdure.types import Contract, Domain

LEVELS = 32
FEWEST_SUBJECTS = 5
"""Of fewer training subjects no intensities are kept, see docs/decisions/0024."""


def intensities_of(domain: Domain) -> tuple[tuple[float, ...], ...] | None:
    """F at each level, a row a channel; None where the domain has too few training subjects."""
    if domain.counts.subjects.get("train", 0) < FEWEST_SUBJECTS:
        return None
    total, samples = torch.zeros(domain.contract.channels, LEVELS, dtype=torch.float64), 0
    for inputs, _ in domain.batches("train", 8):
        total += distribution(inputs, domain.contract).sum(dim=0)
        samples += len(inputs)
    return tuple(tuple(row) for row in (total / max(samples, 1)).round(decimals=6).tolist())


def distribution(inputs: Tensor, contract: Contract) -> Tensor:
    """F of each sample, `(samples, channels, levels)`, float64.

    Args:
        inputs: as the network takes them, `(samples, channels, *spatial)`.
        contract: that they follow.
    """
    values = inputs.flatten(2)
    shape = (1, -1, 1)
    if contract.intensity.std is not None:
        values = values * values.new_tensor(contract.intensity.std).reshape(shape)
    if contract.intensity.mean is not None:
        values = values + values.new_tensor(contract.intensity.mean).reshape(shape)
    # half a level of 16-bit images: what was 0 before mean and deviation may come back as 1e-8
    levels = torch.arange(LEVELS, dtype=values.dtype, device=values.device) / LEVELS + 1e-6
    counts = torch.searchsorted(
        values.sort(dim=2).values, levels.expand(*values.shape[:2], LEVELS).contiguous(), right=True
    )
    return counts.double().cpu() / values.shape[2]
