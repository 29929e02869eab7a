"""What must hold of any regularizer."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from perdure.importance import Fisher
from perdure.models import evaluation_mode
from perdure.regularization import Past, Regularizer, form_from
from perdure.testing.claims import Claims, differing, everything, require
from perdure.testing.domain import tiny_domain, tiny_network

REGULARIZER: Claims[RegularizerCase] = Claims("Regularizer")
"""The claims that `check_regularizer` checks."""

Make: TypeAlias = Callable[[Iterable[nn.Parameter]], Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05),
    "SGD with momentum and decay": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}
# as a form has it that predicts a loss, which only this measure can
MEASURED = Fisher().settings()
STEPS = 3
ROUNDING = 1e-6


@dataclass(frozen=True)
class RegularizerCase:
    """A regularizer, and what it is tried on.

    Args:
        form: the regularizer.
        model: the model before the update; never changed.
        inputs: samples for the model.
        target: their classes.
    """

    form: Regularizer
    model: nn.Module
    inputs: Tensor
    target: Tensor

    def past(self, importance: float | None = None) -> Past:
        """A past with this importance everywhere, or one drawn from [0, 1]."""
        anchor = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
        generator = torch.Generator().manual_seed(0)
        omega = {
            name: torch.rand(value.shape, generator=generator)
            if importance is None
            else torch.full_like(value, importance)
            for name, value in anchor.items()
        }
        teacher = copy.deepcopy(self.model).eval()
        return Past(omega, anchor, omega, curvature=omega, measured=MEASURED, teacher=teacher)

    def step(self, model: nn.Module, optimizer: Optimizer, past: Past | None, seed: int) -> None:
        """One step of the optimizer, with the penalty if there is a past."""
        torch.manual_seed(seed)
        output = model(self.inputs)
        loss = nn.functional.cross_entropy(output, self.target)
        if past is not None:
            loss = loss + self.form.penalty(model, past, self.inputs, output)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def trained(self, optimizer: str, past: Past | None) -> nn.Module:
        """A copy of the model after a few steps, restrained if there is a past."""
        model = copy.deepcopy(self.model).train()
        made = OPTIMIZERS[optimizer](model.parameters())
        if past is None:
            for number in range(STEPS):
                self.step(model, made, None, number)
            return model
        with self.form.constrain(model, made, past):
            for number in range(STEPS):
                self.step(model, made, past, number)
        return model


def check_regularizer(form: Regularizer, without: Collection[str] = ()) -> None:
    """Checks all of `REGULARIZER` for a form of restraint.

    Args:
        form: any regularizer.
        without: claims that do not hold of it by intent: one that freezes a fixed share of the network, for example,
            does so with importance 0 too.

    Raises:
        AssertionError: naming the claim that does not hold, and what was seen.
    """
    inputs, target = tiny_domain().samples("train")
    REGULARIZER.check(RegularizerCase(form, tiny_network(), inputs, target), form.name, without)


@REGULARIZER("its settings are plain JSON, from which it is made again")
def _settings(case: RegularizerCase) -> None:
    form = case.form
    settings = form.settings()
    require(json.loads(json.dumps(settings)) == settings, f"settings are {settings}")
    again = form_from(settings, {form.name: type(form)})
    require(again == form, f"made again it is {again}, and it was {form}")
    hash(form)


@REGULARIZER("with importance 0 it is plain training, bit for bit")
def _zero(case: RegularizerCase) -> None:
    if not case.form.needs_importance:
        return
    for optimizer in OPTIMIZERS:
        found = case.trained(optimizer, case.past(0.0)).state_dict()
        others = differing(found, case.trained(optimizer, None).state_dict())
        require(not others, f"under {optimizer} these differ from plain training: {others}")


@REGULARIZER("steps stay finite, and the penalty is finite and at least 0 on the way")
def _finite(case: RegularizerCase) -> None:
    past = case.past()
    for optimizer in OPTIMIZERS:
        model = case.trained(optimizer, past)
        broken = [name for name, value in model.state_dict().items() if not bool(value.isfinite().all())]
        require(not broken, f"under {optimizer} these are not finite: {broken[:5]}")
        with evaluation_mode(model):
            penalty = case.form.penalty(model, past, case.inputs, model(case.inputs))
        require(penalty.shape == (), f"the penalty has shape {tuple(penalty.shape)}")
        for what, value in (("penalty", float(penalty.detach())), ("value", case.form.value(model, past))):
            require(-ROUNDING <= value < float("inf"), f"after training by {optimizer} the {what} is {value:.4g}")


@REGULARIZER("the penalty is 0 where the model stands at the anchor")
def _anchor(case: RegularizerCase) -> None:
    model, past = copy.deepcopy(case.model), case.past()
    with evaluation_mode(model):
        penalty = float(case.form.penalty(model, past, case.inputs, model(case.inputs)).detach())
    value = case.form.value(model, past)
    require(abs(penalty) <= ROUNDING, f"the penalty is {penalty:.4g}")
    require(abs(value) <= ROUNDING, f"the value is {value:.4g}")


@REGULARIZER("asking for the penalty changes neither model nor teacher")
def _reads(case: RegularizerCase) -> None:
    model, past = copy.deepcopy(case.model).train(), case.past()
    teacher = past.teacher or model
    output = model(case.inputs)
    before = everything(model), everything(teacher)
    case.form.penalty(model, past, case.inputs, output)
    case.form.value(model, past)
    require(not differing(before[0], everything(model)), f"of the model: {differing(before[0], everything(model))}")
    require(not differing(before[1], everything(teacher)), f"the teacher: {differing(before[1], everything(teacher))}")


@REGULARIZER("when it ends, also by an error, steps are the optimizer's own again")
def _ends(case: RegularizerCase) -> None:
    for fails in (False, True):
        held, plain = copy.deepcopy(case.model).train(), copy.deepcopy(case.model).train()
        optimizers = [torch.optim.SGD(model.parameters(), lr=0.05) for model in (held, plain)]
        try:
            with case.form.constrain(held, optimizers[0], case.past()):
                if fails:
                    raise _FailureError
        except _FailureError:
            pass
        case.step(held, optimizers[0], None, 0)
        case.step(plain, optimizers[1], None, 0)
        others = differing(held.state_dict(), plain.state_dict())
        require(not others, f"{'after an error' if fails else 'afterwards'} these differ: {others}")


class _FailureError(Exception):
    pass


@REGULARIZER("what is frozen is a mask of parameters, only grows, and does not move in plain descent")
def _frozen(case: RegularizerCase) -> None:
    past = case.past()
    masks = case.form.frozen(past)
    for name, mask in masks.items():
        require(name in past.anchor, f"{name!r} is no parameter: only of parameters may anything be remembered")
        require(mask.dtype == torch.bool, f"the mask of {name!r} is {mask.dtype}")
        _fits(name, mask, past.anchor[name])
    turned = {name: 1 - value for name, value in past.latest.items()}
    later = replace(past, frozen=masks, latest=turned, weights=turned)
    grown = case.form.frozen(later)
    for name, mask in masks.items():
        require(name in grown and bool(grown[name][mask].all()), f"some of {name!r} was set free again")
    model = case.trained("SGD", past)
    for name, mask in masks.items():
        full = mask.expand_as(past.anchor[name])
        moved = model.get_parameter(name).detach()[full] != past.anchor[name][full]
        require(not bool(moved.any()), f"{int(moved.sum())} frozen values of {name!r} moved")


def _fits(name: str, tensor: Tensor, parameter: Tensor) -> None:
    fits = tensor.ndim == parameter.ndim and all(
        length in (1, full) for length, full in zip(tensor.shape, parameter.shape, strict=True)
    )
    shapes = f"{tuple(tensor.shape)}, the parameter {tuple(parameter.shape)}"
    require(fits, f"what is remembered of {name!r} has shape {shapes}")
