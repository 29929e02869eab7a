"""What the restraint did to the last step of an epoch, in cases small enough to work by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from perdure.regularization import LearningRate, Past, SurrogateLoss
from perdure.regularization.base import Regularizer
from perdure.regularization.steps import masked_gradients
from perdure.update.last_step import LastStep, last_step
from reference.networks import bits

START, SLOPE = torch.tensor([1.0, 1.0]), torch.tensor([3.0, 4.0])
"""The gradient of the task is (3, 4) everywhere, so that under SGD at a rate of 0.1 a step is 0.5 long."""


def line() -> nn.Module:
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(START)
    return model


def one_step(
    regularizer: Regularizer, past: Past, *, watched: bool = True
) -> tuple[nn.Module, dict[str, float | None]]:
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with last_step(model, optimizer, lambda value: value) as seen, regularizer.constrain(model, optimizer, past):
        penalty = regularizer.penalty(model, past)
        if watched:
            seen.begin(penalty)
        (model(SLOPE).sum() + penalty).backward()
        if watched:
            seen.gradients()
        optimizer.step()
        return model, seen.facts() if watched else {}


def past(omega: tuple[float, float], anchor: tuple[float, float] = (1.0, 1.0)) -> Past:
    return Past(weights={"weight": torch.tensor([omega])}, anchor={"weight": torch.tensor([anchor])})


@pytest.mark.parametrize(
    ("omega", "share", "change"),
    # the step is 0.1 (3, 4), of which (1 - omega) is taken and omega is not
    [((0.0, 0.0), 1.0, 0.0), ((1.0, 1.0), 0.0, 1.0), ((0.5, 0.5), 0.5, 0.5), ((1.0, 0.0), 4 / 5, 3 / 5)],
)
def test_a_form_that_scales_steps_says_how_much_it_let_through(
    omega: tuple[float, float], share: float, change: float
) -> None:
    _, facts = one_step(LearningRate(), past(omega))
    assert facts == pytest.approx(
        {"task_gradient": 5.0, "restraint_gradient": None, "step_share": share, "step_change": change}
    )


def test_an_explicit_penalty_gives_its_own_gradient_and_that_of_the_task_alone() -> None:
    # 2 s omega (theta - theta*) with s = 2, omega = (1, 0.5), theta - theta* = (-3, 4) is (-12, 8)
    form = SurrogateLoss(2.0, norm="none", step="explicit")
    _, facts = one_step(form, past((1.0, 0.5), (4.0, -3.0)))
    assert facts == pytest.approx(
        {"task_gradient": 5.0, "restraint_gradient": math.hypot(12, 8), "step_share": 1.0, "step_change": 0.0}
    )


def test_a_proximal_step_gives_what_it_pulled_back() -> None:
    # a = 2 s omega lr = 0.25 for both: theta becomes theta* + (theta - 0.1 (3, 4) - theta*) / 1.25, so that of the step
    # from the anchor 1 / 1.25 = 0.8 is left and 0.2 is pulled back
    _, facts = one_step(SurrogateLoss(1.25, norm="none"), past((1.0, 1.0)))
    assert facts == pytest.approx(
        {"task_gradient": 5.0, "restraint_gradient": None, "step_share": 0.8, "step_change": 0.2}
    )


def test_a_form_that_masks_gradients_let_through_what_it_left_of_them() -> None:
    class Masked(Regularizer):
        @contextmanager
        def constrain(self, model: nn.Module, optimizer: torch.optim.Optimizer, past: Past) -> Iterator[None]:
            with masked_gradients(model, optimizer, {"weight": torch.tensor([[1.0, 0.0]])}):
                yield

    _, facts = one_step(Masked(), past((0.0, 0.0)))
    assert (facts["step_share"], facts["step_change"]) == pytest.approx((3 / 5, 4 / 5))


@pytest.mark.parametrize(
    "form", [LearningRate(), SurrogateLoss(2.0, norm="none"), SurrogateLoss(2.0, norm="none", step="explicit")]
)
def test_looking_changes_nothing_by_a_bit(form: Regularizer) -> None:
    held = past((0.9, 0.3), (0.7, -0.1))
    seen, unseen = (one_step(form, held, watched=watched)[0] for watched in (True, False))
    assert bits(seen.weight) == bits(unseen.weight)


def test_steps_that_nobody_asked_for_are_not_looked_at() -> None:
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with last_step(model, optimizer, lambda value: value) as seen:
        model(SLOPE).sum().backward()
        optimizer.step()
        optimizer.step()
        seen.begin(torch.zeros(()))
        seen.gradients()
        optimizer.step()
        assert seen.facts()["step_share"] == 1.0
    optimizer.step()
    assert vars(seen)["_places"] == []


def test_where_the_optimizer_takes_no_step_there_is_no_share() -> None:
    model = line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with last_step(model, optimizer, lambda value: value) as seen:
        seen.begin(torch.zeros(()))
        (0 * model(SLOPE).sum()).backward()
        seen.gradients()
        optimizer.step()
        assert seen.facts() == {"task_gradient": 0.0, "restraint_gradient": None}


def test_a_gradient_that_is_no_number_is_none() -> None:
    model = line()
    seen = LastStep(model, lambda value: value)
    seen.begin(torch.zeros(()))
    (model(SLOPE).sum() * math.inf).backward()
    seen.gradients()
    assert vars(seen)["_gradients"]["task_gradient"] is None
