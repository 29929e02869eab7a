"""Freezing important parameters (MAS-Fix's half of the method)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from perdure.errors import MethodError, check_choice
from perdure.regularization.base import Past, Regularizer
from perdure.regularization.steps import masked_gradients, scaled_steps

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


Of: TypeAlias = Literal["all", "free"]
Hold: TypeAlias = Literal["step", "gradient"]
Rank: TypeAlias = Literal["latest", "average"]


@dataclass(frozen=True)
class Freezing(Regularizer):
    r"""Holds the most important parameters fast, for this update and all later ones.

    .. math:: F_d = F_{d-1} \cup S_d, \qquad \alpha_i = 0 \text{ on } F_d, \quad \alpha_i = \alpha \text{ elsewhere}

    S_d are the parameters of highest importance, at most a share β of all that carry importance.

    Source: Özgün et al. 2020, section 2.2.

    Open in the paper, decided here: S_d is taken from all parameters, those already frozen included, so that nothing
    new is frozen where the newest domain relies on what is frozen already; the rank is that of importance to the newest
    domain before clipping (clipping makes ties); whole kernels or filters at a time, never above β; ties go to the
    lower index.

    Args:
        fraction: β in (0, 1].
        of: `all` parameters as above; `free` takes β of those not yet frozen, so that a share of the rest is frozen
            each time (the authors' "fixed capacity" too looks among those alone, but takes β of all each time).
        hold: `step` undoes the whole step of the optimizer, so that a frozen parameter does not move by a bit;
            `gradient` sets its gradient to 0, as the authors' code does, and momentum and decay can still move it.
        rank: `latest` ranks the raw importance to the newest domain; `average` that of all domains so far, scaled, as
            the authors' code does.
        random: draws S_d by this seed instead of by importance, anew for each domain: the control that says what
            ranking is worth.
    """

    name = "freezing"

    fraction: float = 0.25
    of: Of = "all"
    hold: Hold = "step"
    random: int | None = None
    rank: Rank = "latest"

    def __post_init__(self) -> None:
        check_choice("of", self.of, Of)
        check_choice("hold", self.hold, Hold)
        check_choice("rank", self.rank, Rank)
        if not 0 < self.fraction <= 1:
            raise MethodError(f"`fraction` must be in (0, 1]; got {self.fraction}.")
        if self.random is not None and not 0 <= self.random < 2**31:
            raise MethodError(f"`random` must be a seed in [0, 2**31); got {self.random}.")

    @contextmanager
    def constrain(self, model: nn.Module, optimizer: Optimizer, past: Past) -> Iterator[None]:  # noqa: D102
        share = {name: ~mask for name, mask in self.frozen(past).items()}
        held = scaled_steps if self.hold == "step" else masked_gradients
        with held(model, optimizer, share):
            yield

    def frozen(self, past: Past) -> Mapping[str, Tensor]:
        """F_d: parameter name to mask, at the granularity of what is ranked."""
        ranked = self._ranked(past)
        sizes = {name: past.anchor[name].numel() // omega.numel() for name, omega in ranked.items()}
        taken = {name: _whole_groups(past.frozen[name], omega) for name, omega in ranked.items() if name in past.frozen}
        chosen = top_share(ranked, sizes, self.fraction, taken if self.of == "free" else None)
        # what was frozen in finer groups stays so; what carries no importance now too
        grown = {name: mask | past.frozen[name] if name in past.frozen else mask for name, mask in chosen.items()}
        return {**past.frozen, **grown}

    def _ranked(self, past: Past) -> Mapping[str, Tensor]:
        if self.random is None:
            return past.latest if self.rank == "latest" else past.weights
        # how much is frozen tells the domains apart: the same draw again would freeze nothing new
        frozen = sum(int(mask.sum()) for mask in past.frozen.values())
        # a generator takes 32 bits of a seed
        generator = torch.Generator().manual_seed((self.random * 1_000_003 + frozen) % 2**32)
        return {name: torch.rand(omega.shape, generator=generator).to(omega) for name, omega in past.latest.items()}


def _whole_groups(mask: Tensor, omega: Tensor) -> Tensor:
    """Which groups of `omega` a mask at another granularity freezes as a whole."""
    full = mask.expand(torch.broadcast_shapes(mask.shape, omega.shape))
    for axis, (length, groups) in enumerate(zip(full.shape, omega.shape, strict=True)):
        if groups < length:
            full = full.all(dim=axis, keepdim=True)
    return full


def top_share(
    omega: Mapping[str, Tensor],
    sizes: Mapping[str, int],
    fraction: float,
    taken: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The groups of highest importance that together hold at most a share of all parameters.

    Args:
        omega: importance, one value a group (a parameter, kernel or filter).
        sizes: how many parameters a group of each tensor holds.
        fraction: the share, in (0, 1].
        taken: groups that are not to be counted or chosen.

    Returns:
        Masks of the shapes of `omega`.
    """
    ranks = _ranks(omega, taken or {})
    never = torch.iinfo(next(iter(ranks.values())).dtype).min if ranks else 0

    def above(rank: int) -> int:
        return sum(sizes[name] * int(torch.count_nonzero(one > rank)) for name, one in ranks.items())

    # a share such as 0.29 of 100 is 28.999... in floating point
    most = fraction * above(never) * (1 + 1e-12)
    # the lowest rank above which all fit, by halving: a sort would hold ten copies of all parameters
    low, edge = never, -never - 1
    while edge - low > 1:
        middle = (low + edge) // 2
        low, edge = (low, middle) if above(middle) <= most else (middle, edge)
    left = most - above(edge)
    masks = {}
    for name, rank in ranks.items():
        mask, ties = (rank > edge).flatten(), (rank == edge).flatten().nonzero()[:, 0]
        # nothing takes the place of the first group that does not fit
        fit = min(len(ties), int(left // sizes[name]))
        mask[ties[:fit]] = True
        left = 0.0 if fit < len(ties) else left - fit * sizes[name]
        masks[name] = mask.view_as(rank)
    return masks


def _ranks(omega: Mapping[str, Tensor], taken: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole numbers in the order of importance; the smallest that there is for what is taken."""
    is_double = any(value.dtype == torch.float64 for value in omega.values())
    kind, bits = (torch.float64, torch.int64) if is_double else (torch.float32, torch.int32)
    ranks = {}
    for name, value in omega.items():
        # without -0; of negative numbers the larger has the smaller bits
        rank = value.detach().to(kind).add(0.0).view(bits)
        rank = torch.where(rank < 0, rank ^ torch.iinfo(bits).max, rank)
        ranks[name] = rank.masked_fill_(taken[name].expand_as(rank), torch.iinfo(bits).min) if name in taken else rank
    return ranks


def frozen_said(frozen_share: float, settings: Mapping[str, Any]) -> str:
    """How much is frozen for good, and how many more updates fit, in words.

    Args:
        frozen_share: see `updates_left`.
        settings: of the `Freezing`, see `Regularizer.settings`.
    """
    fraction = float(settings["fraction"])
    said = f"{frozen_share:.0%} of the parameters are frozen for good"
    if settings.get("of", "all") == "free":
        return f"{said}; one more update makes that at most {1 - (1 - frozen_share) * (1 - fraction):.0%}"
    return f"{said}; at {fraction:.0%} an update, {updates_left(frozen_share, fraction)} more leave something to train"


def updates_left(frozen_share: float, fraction: float) -> int:
    """How many more updates leave something to train, at the least: where each freezes its whole share anew.

    Args:
        frozen_share: of all parameters that carry importance, in [0, 1], before the next update freezes its own.
        fraction: β.
    """
    return max(0, math.ceil((1 - frozen_share) / fraction - 1e-9) - 1)
