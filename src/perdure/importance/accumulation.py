"""From one domain's importance to that of all domains so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from perdure.types import ParamDict


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
    # lerp, because it is exact where both are 0 or both are 1, on every device
    return {name: past[name].to(value).lerp(value, 1 / domains) for name, value in new.items()}
