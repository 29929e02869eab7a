"""From one domain's importance to that of all domains so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from perdure.errors import check_choice

if TYPE_CHECKING:
    from torch import Tensor

    from perdure.types import ParamDict

Accumulation: TypeAlias = Literal["mean", "samples", "ema", "max", "sum"]


def running_mean(past: Mapping[str, Tensor], new: Mapping[str, Tensor], domains: int) -> ParamDict:
    r"""The mean importance over all domains, one step further.

    .. math:: \bar\Omega_d = \frac{(d - 1)\,\bar\Omega_{d-1} + \Omega_d}{d}

    Source: Özgün et al. 2020, section 2.1 ("moving average over all tasks").

    Open in the paper, decided here: every domain weighs the same, whatever the number of its samples, and what is
    averaged is the scaled importance.

    Args:
        past: the mean over the domains before.
        new: the importance of the newest domain.
        domains: d, how many domains there are with the newest.
    """
    return _between(past, new, 1 / domains)


def accumulate(
    past: Mapping[str, Tensor],
    new: Mapping[str, Tensor],
    how: Accumulation,
    *,
    domains: int,
    past_samples: int,
    new_samples: int,
) -> ParamDict:
    r"""The importance of all domains so far, one step further.

    `mean`: every domain weighs the same (see `running_mean`). `samples`: by the number of its samples, as in the code
    published with Özgün et al. 2020. `ema`: half the past, half the newest (avalanche's default). `max`: the largest,
    which never forgets. `sum`: as Aljundi et al. 2018 have it; it leaves [0, 1].

    Args:
        past: the importance over the domains before.
        new: the importance of the newest domain.
        how: one of the above.
        domains: how many domains there are with the newest.
        past_samples: on how many samples the past was measured.
        new_samples: on how many samples the newest was.
    """
    check_choice("accumulation", how, Accumulation)
    if how == "mean":
        return running_mean(past, new, domains)
    if how == "samples":
        return _between(past, new, new_samples / (past_samples + new_samples))
    if how == "ema":
        return _between(past, new, 0.5)
    merge = torch.maximum if how == "max" else torch.add
    return {name: merge(past[name].to(value), value) for name, value in new.items()}


def _between(past: Mapping[str, Tensor], new: Mapping[str, Tensor], share: float) -> ParamDict:
    # lerp, because it is exact where both are 0 or both are 1, on every device
    return {name: past[name].to(value).lerp(value, share) for name, value in new.items()}
