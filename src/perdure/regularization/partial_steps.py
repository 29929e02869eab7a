"""A step of one parameter that is taken in part only, or followed by a pull: exact at both ends, and at little cost.

Whoever is to stay stays bit for bit, and so does whoever is free. Between the two, an optimizer's own step reads and
writes each value some five times; what is done here adds one or two of these wherever it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from perdure.regularization.quadratic import Quadratic

FEW = 1 / 8
"""Of a parameter's values: up to so many at the ends are put back one by one."""
THIRD = 1 / 3
"""Of a parameter's values: where so many stay, to name the place of each takes as much memory as a copy of all."""


class Part:
    """The share of its steps that one parameter takes.

    Args:
        parameter: of the model.
        share: s in [0, 1], broadcastable to it; of bool where it is 0 or 1.
        least: whether no share may be below some least one, see `rescale`.
    """

    def __init__(self, parameter: nn.Parameter, share: Tensor, *, least: bool = False) -> None:
        self.parameter = parameter
        self.share = share
        is_mask = share.dtype == torch.bool or bool(((share == 0) | (share == 1)).all())
        self._staying = Staying(parameter, share == 0) if is_mask and not least else None
        self._left: Tensor | None = None
        self._layout: tuple[int, ...] | None = None
        self._ends: tuple[Tensor, Tensor] | None = None
        self._rate: float | None = None
        self._before: Tensor | None = None

    @torch.no_grad()
    def remember(self, optimizer: Optimizer, group: Mapping[str, Any] | None) -> None:
        """What has to be known of the parameter before the step.

        Args:
            optimizer: that will move it.
            group: of the optimizer; None where the step has to be looked at as a whole.
        """
        if self._staying is not None:
            self._staying.remember()
            return
        parameter = self.parameter
        self._rate = None
        if group is not None and _moves_by_its_buffer(optimizer, group) and parameter.grad is not None:
            ends = self._few_ends()
            if ends is not None:
                self._rate = float(group["lr"])
                self._before = _flat(parameter)[ends[0]] if ends[0].numel() else None
                return
        if self._before is None or self._before.shape != parameter.shape:
            self._before = torch.empty_like(parameter)
        self._before.copy_(parameter)

    @torch.no_grad()
    def rescale(self, optimizer: Optimizer, least: float = 0.0) -> None:
        """Takes back what the parameter moved too far.

        Args:
            optimizer: that has moved it.
            least: no share is below it.
        """
        if self._staying is not None:
            self._staying.put_back()
            return
        if self._rate is not None:
            self._compensate(optimizer.state[self.parameter]["momentum_buffer"], self._rate)
            return
        before = self._before
        assert before is not None
        share = self.share.to(self.parameter)
        share = share.clamp_min(least) if least else share
        new = torch.lerp(before, self.parameter, share)
        # lerp turns -0 into 0, and 0 times an infinite step into NaN
        new = torch.where(share == 0, before, new)
        self.parameter.copy_(torch.where(share == 1, self.parameter, new))

    def _compensate(self, moved: Tensor, rate: float) -> None:
        """The step was minus the rate times the buffer: what is too much of it is added again."""
        parameter, ends = self.parameter, self._ends
        assert ends is not None
        stays, goes = ends
        flat = _flat(parameter)
        free = flat[goes] if goes.numel() else None
        if self._left is None:
            self._left = 1 - self.share.to(parameter)
        parameter.addcmul_(moved, self._left, value=rate)
        if free is not None:
            flat[goes] = free
        if self._before is not None:
            flat[stays] = self._before

    def _few_ends(self) -> tuple[Tensor, Tensor] | None:
        """Where s is 0 and where it is 1, in the order of the parameter's memory; None where that is not few."""
        parameter = self.parameter
        if self._layout != parameter.stride():
            self._layout, self._ends = parameter.stride(), None
            if _is_dense(parameter):
                share = _flat(torch.empty_like(parameter).copy_(self.share))
                ends = (share == 0).nonzero()[:, 0], (share == 1).nonzero()[:, 0]
                if sum(end.numel() for end in ends) <= FEW * parameter.numel():
                    self._ends = ends
        return self._ends


class Staying:
    """Those values of one parameter that stay, bit for bit, while the others take whole steps.

    Args:
        parameter: of the model.
        stays: which, broadcastable to it.
    """

    def __init__(self, parameter: nn.Parameter, stays: Tensor) -> None:
        self._parameter = parameter
        self._stays = stays
        self._any = bool(stays.any())
        self._where = stays
        self._kept: Tensor | None = None
        self._seen: tuple[int, tuple[int, ...]] | None = None

    def remember(self) -> None:
        """What they are; after `put_back` they are still that, unless somebody has changed the parameter since."""
        parameter = self._parameter
        if not self._any or self._seen == (parameter._version, parameter.stride()):
            return
        if self._seen is None or self._seen[1] != parameter.stride():
            stays = self._values(torch.empty_like(parameter, dtype=torch.bool).copy_(self._stays))
            is_few = stays.ndim == 1 and int(stays.sum()) <= THIRD * stays.numel()
            self._where = stays.nonzero()[:, 0] if is_few else stays
        values = self._values(parameter)
        self._kept = values[self._where] if self._where.dtype == torch.int64 else values.masked_select(self._where)

    def put_back(self) -> None:
        """Gives them their values again."""
        if not self._any:
            return
        parameter, kept = self._parameter, self._kept
        assert kept is not None
        values = self._values(parameter)
        if self._where.dtype == torch.int64:
            values.index_copy_(0, self._where, kept)
        else:
            values.masked_scatter_(self._where, kept)
        self._seen = parameter._version, parameter.stride()

    def _values(self, tensor: Tensor) -> Tensor:
        return _flat(tensor) if _is_dense(self._parameter) else tensor


class Pull:
    """The pull of a quadratic on one parameter, after its step.

    Args:
        quadratic: with its bend H and its centre c.
        name: of the parameter.
        factor: of the bend.
    """

    def __init__(self, quadratic: Quadratic, name: str, factor: float) -> None:
        self._quadratic = quadratic
        self._name = name
        self._factor = factor
        self._share: Tensor | None = None
        self._rate: float | None = None
        self._free: Staying | None = None
        self._held: Tensor | None = None

    def __call__(self, parameter: nn.Parameter, rate: float | Tensor) -> None:
        """Pulls it, by the share a / (1 + a) with a = f H r.

        Args:
            parameter: after the step.
            rate: r, see `steps.rate_of`.
        """
        # under SGD it changes with the learning rate alone
        if not isinstance(rate, float) or rate != self._rate or self._share is None:
            self._rate = rate if isinstance(rate, float) else None
            self._share = self._share_at(parameter, rate)
        if self._free is not None:
            self._free.remember()
        quadratic, name, share = self._quadratic, self._name, self._share
        anchor, centre = quadratic.anchor[name].to(parameter), quadratic.centre.get(name)
        torch.lerp(parameter, anchor, share, out=parameter)
        if centre is not None:
            parameter.addcmul_(share, centre.to(parameter))
        # lerp turns -0 into 0, and infinity into NaN
        if self._free is not None:
            self._free.put_back()
        if self._held is not None:
            place = anchor if centre is None else anchor + centre.to(parameter)
            parameter.copy_(torch.where(self._held, place, parameter))

    def _share_at(self, parameter: nn.Parameter, rate: float | Tensor) -> Tensor:
        # a strength beyond the type of the parameters times an importance of 0 is NaN, and has to be 0
        bend = (self._factor * self._quadratic.bend[self._name]).nan_to_num_(0.0, float("inf"))
        # 1 / (1 + 1 / a), so that an a of 0 and of infinity give 0 and 1
        a = bend.mul_(rate) if isinstance(rate, float) else rate * bend
        share = a.reciprocal_().add_(1).reciprocal_().to(parameter)
        free, held = share == 0, share == 1
        self._free = Staying(parameter, free) if bool(free.any()) else None
        self._held = held if bool(held.any()) else None
        return share


def _moves_by_its_buffer(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Whether a step is minus the learning rate times the momentum that the optimizer keeps."""
    plain = not group.get("nesterov") and not group.get("maximize")
    return isinstance(optimizer, torch.optim.SGD) and bool(group.get("momentum")) and plain


def _is_dense(tensor: Tensor) -> bool:
    layouts = [torch.contiguous_format]
    layouts += [torch.channels_last] if tensor.ndim == 4 else [torch.channels_last_3d] if tensor.ndim == 5 else []
    return any(tensor.is_contiguous(memory_format=layout) for layout in layouts)


def _flat(tensor: Tensor) -> Tensor:
    """Its values in the order of memory."""
    return torch.as_strided(tensor.detach(), (tensor.numel(),), (1,))
