"""Changes to what an optimizer's step does, whatever the optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from perdure.errors import MethodError
from perdure.regularization.partial_steps import Part, Pull
from perdure.regularization.quadratic import Quadratic, cost, multiplier

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from perdure.types import ParamDict


KNOWN = (
    torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adamax,
)  # fmt: skip
"""Optimizers that a proximal step goes with, because their rate is known, see `rate_of`."""


@contextmanager
def scaled_steps(
    model: nn.Module, optimizer: Optimizer, scale: Mapping[str, Tensor], floor: float = 0.0
) -> Iterator[None]:
    r"""Lets each parameter take only a share of the step that the optimizer computes.

    .. math:: \theta \leftarrow \theta_\mathrm{before} + s\,(\theta_\mathrm{after} - \theta_\mathrm{before})

    Args:
        model: its parameters are found by name.
        optimizer: any torch optimizer; its step may hold momentum, adaptive rates and decay.
        scale: parameter name to s in [0, 1], broadcastable to the parameter. Parameters without an entry take the
            whole step.
        floor: the least learning rate of any parameter that has an entry.

    Raises:
        MethodError: if an entry does not fit a parameter of the model.
    """
    parts = [Part(parameter, share, least=floor > 0) for parameter, share in _shares(model, scale)]

    def remember(*_: Any) -> None:
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]} if not floor else {}
        for part in parts:
            part.remember(optimizer, groups.get(id(part.parameter)))

    def rescale(*_: Any) -> None:
        if not has_stepped(optimizer):
            return
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]} if floor else {}
        for part in parts:
            rate = rates.get(id(part.parameter))
            part.rescale(optimizer, min(floor / rate, 1.0) if rate else 0.0)

    handles = [optimizer.register_step_pre_hook(remember), optimizer.register_step_post_hook(rescale)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def masked_gradients(model: nn.Module, optimizer: Optimizer, scale: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiplies gradients by s before each step; momentum, adaptive rates and decay act on what is left.

    Args:
        model: see `scaled_steps`.
        optimizer: see `scaled_steps`.
        scale: see `scaled_steps`.

    Raises:
        MethodError: if an entry does not fit a parameter of the model.
    """
    shares = _shares(model, scale)

    def mask(*_: Any) -> None:
        # an infinite gradient times 0 is NaN
        if not has_stepped(optimizer):
            return
        for parameter, share in shares:
            if parameter.grad is not None:
                parameter.grad.mul_(share)

    handle = optimizer.register_step_pre_hook(mask)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def pulled_steps(model: nn.Module, optimizer: Optimizer, quadratic: Quadratic, factor: float = 1.0) -> Iterator[None]:
    r"""Applies a quadratic penalty after each step, by its implicit (backward Euler, proximal) solution.

    .. math:: \theta \leftarrow \frac{\theta + a\,c}{1 + a}, \qquad a = f H r

    r is the parameter's `rate_of`. A bend of 0 leaves the step as it is, bit for bit; no bend, however large, diverges.

    Args:
        model: its parameters are found by name.
        optimizer: one of `KNOWN`.
        quadratic: f/2 Σ H (θ - c)² is the penalty.
        factor: f.
    """
    parameters = dict(model.named_parameters())
    pulls = {id(parameters[name]): Pull(quadratic, name, factor) for name in quadratic.bend}

    @torch.no_grad()
    def pull(*_: Any) -> None:
        if not has_stepped(optimizer):
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                one = pulls.get(id(parameter))
                if one is not None and parameter.requires_grad:
                    one(parameter, rate_of(optimizer, group, parameter))

    handle = optimizer.register_step_post_hook(pull)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def bounded_steps(
    model: nn.Module, optimizer: Optimizer, quadratic: Quadratic, budget: float, report: dict[str, float]
) -> Iterator[None]:
    """Brings the model back, after each step that went too far, to the nearest point where a quadratic costs a budget.

    Only trainable parameters are moved; what the others cost counts too. A step that stays within the budget is left
    as it is, bit for bit.

    Args:
        model: its parameters are found by name.
        optimizer: any torch optimizer.
        quadratic: V; its bend at a parameter of 0 leaves it free.
        budget: the most that V may be.
        report: gets `steps`, `shortened_steps`, and of the last one shortened `multiplier` (μ) and `strength` (the λ
            with which a penalty λV would have done the same: μ over the learning rate).
    """
    report.update(steps=0, shortened_steps=0, multiplier=0.0, strength=0.0)

    @torch.no_grad()
    def bound(*_: Any) -> None:
        if not has_stepped(optimizer):
            return
        report["steps"] += 1
        free, held = split_by_training(model, quadratic.distances(model, torch.float64))
        left = budget - cost(held, quadratic.bend)
        # one that is not finite is left to whoever watches the loss
        if not left < cost(free, quadratic.bend) < math.inf:
            return
        mu = _bring_back(model, quadratic, free, left)
        rate = _plain_rate(optimizer.param_groups[0])
        report["shortened_steps"] += 1
        report.update(multiplier=mu, strength=mu / rate if rate else math.inf)

    handle = optimizer.register_step_post_hook(bound)
    try:
        yield
    finally:
        handle.remove()


def split_by_training(model: nn.Module, tensors: ParamDict) -> tuple[ParamDict, ParamDict]:
    """Those of parameters that train, and those of parameters that do not."""
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return (
        {name: tensor for name, tensor in tensors.items() if name in trainable},
        {name: tensor for name, tensor in tensors.items() if name not in trainable},
    )


def has_stepped(optimizer: Optimizer) -> bool:
    """Whether a step that is being taken moves anything, asked in a hook of the step.

    `GradScaler` leaves out a step whose gradients overflowed; but that of a fused optimizer it calls, hooks included,
    and tells it not to move.
    """
    overflows = getattr(optimizer, "found_inf", None)
    return overflows is None or not bool(overflows)


def check_rate(optimizer: Optimizer) -> None:
    """Passes if `rate_of` knows an optimizer.

    Raises:
        MethodError: if not, with those that it knows.
    """
    if not isinstance(optimizer, KNOWN):
        raise MethodError(
            f"A proximal step has to know how far the optimizer moves a parameter for its gradient, and of "
            f"{type(optimizer).__name__} it does not: the strength would mean something else. Use one of "
            f'{", ".join(kind.__name__ for kind in KNOWN)}, or add the penalty to the loss: step="explicit".'
        )


def rate_of(optimizer: Optimizer, group: Mapping[str, Any], parameter: Tensor) -> float | Tensor:
    r"""How far an optimizer moves a parameter, all in all, for a gradient of 1 at one step.

    ===============  =====================================================================================
    SGD              :math:`lr\,(1 - \text{dampening}) / (1 - \text{momentum})`
    Adam and AdamW   :math:`lr / (\sqrt{\hat v} + \epsilon)`
    RMSprop          :math:`lr / (\sqrt{v} + \epsilon) / (1 - \text{momentum})`, v centred where it is centred
    Adagrad          :math:`lr_t / (\sqrt{\sum g^2} + \epsilon)`, with the rate as it has decayed
    Adamax           :math:`lr / u`, u the infinity norm
    ===============  =====================================================================================

    with the moments of the step just taken, one value an element. A parameter that the optimizer has not moved yet has
    the rate of SGD.

    Args:
        optimizer: one of `KNOWN`, after its step.
        group: the one of its groups that holds the parameter.
        parameter: the parameter.
    """
    rate, state = _plain_rate(group), optimizer.state.get(parameter, {})
    if isinstance(optimizer, torch.optim.SGD) or not (steps := float(state.get("step", 0))):
        return rate
    if isinstance(optimizer, torch.optim.Adamax):
        return torch.as_tensor(rate / state["exp_inf"])
    if isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        second = state.get("max_exp_avg_sq", state["exp_avg_sq"]) / (1 - group["betas"][1] ** steps)
    elif isinstance(optimizer, torch.optim.RMSprop):
        second = state["square_avg"]
        if group["centered"]:
            second = second - state["grad_avg"].square()
    else:
        second = state["sum"]
        rate /= 1 + (steps - 1) * group["lr_decay"]
    return torch.as_tensor(rate / (second.sqrt() + group["eps"]))


def _plain_rate(group: Mapping[str, Any]) -> float:
    dampening, momentum = float(group.get("dampening", 0.0)), float(group.get("momentum", 0.0))
    return float(group["lr"]) * (1 - dampening) / (1 - momentum)


def _bring_back(model: nn.Module, quadratic: Quadratic, distances: ParamDict, budget: float) -> float:
    """Shrinks the distances of the parameters that train until they cost the budget; returns μ."""
    # rounding may lead out of the budget again by a little
    for slack in (1e-6, 1e-3):
        mu = multiplier(distances, quadratic.bend, budget * (1 - slack))
        _shrink(model, quadratic, distances, mu)
        now, _ = split_by_training(model, quadratic.distances(model, torch.float64))
        if cost(now, quadratic.bend) <= budget:
            return mu
    _shrink(model, quadratic, distances, math.inf)
    return math.inf


def _shrink(model: nn.Module, quadratic: Quadratic, distances: ParamDict, mu: float) -> None:
    """Puts each parameter at d / (1 + μ H) from the centre."""
    parameters = dict(model.named_parameters())
    for name, distance in distances.items():
        H = quadratic.bend[name].double()
        kept = torch.where(H > 0, 1 / (1 + mu * H), 1.0)
        moved = (quadratic.place(name, torch.float64) + distance * kept).to(parameters[name])
        parameters[name].copy_(torch.where(kept == 1, parameters[name], moved))


def _shares(model: nn.Module, scale: Mapping[str, Tensor]) -> list[tuple[nn.Parameter, Tensor]]:
    parameters = dict(model.named_parameters())
    shares = []
    for name, share in scale.items():
        if name not in parameters:
            raise MethodError(
                f"Importance names the parameter {name!r}, which the model does not have. Use the memory of a model "
                "with the same architecture."
            )
        parameter = parameters[name]
        try:
            share.expand_as(parameter)
        except RuntimeError as error:
            raise MethodError(
                f"Importance of {name!r} has shape {tuple(share.shape)}, which does not broadcast to the parameter's "
                f"{tuple(parameter.shape)}."
            ) from error
        # one that is frozen now too: it may be set free before the context ends
        shares.append((parameter, share.to(parameter.device) if share.dtype == torch.bool else share.to(parameter)))
    return shares
