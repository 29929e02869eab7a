from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
import torch

from perdure.methods import built_in
from perdure.regularization import FORMS, Distillation, Freezing, LearningRate, Regularizer, SurrogateLoss, Unrestrained
from perdure.regularization.steps import scaled_steps
from perdure.testing import REGULARIZER, check_regularizer

ZERO_IS_PLAIN = "with importance 0 it is plain training, bit for bit"
OURS = [
    Unrestrained(), SurrogateLoss(1.0), SurrogateLoss(1e6, "none"), SurrogateLoss(1.0, "half", "each"),
    SurrogateLoss(1.0, "none", step="explicit"), SurrogateLoss(0.0), LearningRate(), LearningRate(2, floor=1e-7),
    Distillation(), Distillation(2.0, 1.0),
]  # fmt: skip
# a fixed share of the network, whatever the numbers
FREEZING = [
    Freezing(),
    Freezing(0.5, hold="gradient"),
    Freezing(0.1, of="free"),
    Freezing(random=1),
    Freezing(rank="average"),
]


@pytest.mark.parametrize("form", OURS, ids=repr)
def test_every_form_of_ours_keeps_every_claim(form: Regularizer) -> None:
    check_regularizer(form)


@pytest.mark.parametrize("form", FREEZING, ids=repr)
def test_freezing_keeps_all_but_one_which_it_breaks_by_intent(form: Regularizer) -> None:
    check_regularizer(form, without=[ZERO_IS_PLAIN])
    with pytest.raises(AssertionError, match=ZERO_IS_PLAIN):
        check_regularizer(form)


def test_no_form_of_a_method_or_by_name_is_left_out() -> None:
    checked = {type(form) for form in OURS + FREEZING}
    assert {type(method().regularizer) for method in built_in().values()} <= checked
    assert set(FORMS.values()) == checked


@dataclass(frozen=True)
class Broken(Regularizer):
    """The form that others below break in one way each."""

    name = "broken"
    strength: float = 1.0

    def penalty(self, model, past, inputs=None, output=None):
        terms = [(w * (model.get_parameter(n) - past.anchor[n]) ** 2).sum() for n, w in past.weights.items()]
        return self.strength * torch.stack(terms).sum() / 1000


@dataclass(frozen=True)
class Forgetful(Broken):
    def settings(self):
        return {"form": self.name}


@dataclass(frozen=True)
class Slow(Broken):
    """Half of every step, whatever the importance."""

    @contextmanager
    def constrain(self, model, optimizer, past):
        with scaled_steps(model, optimizer, {n: torch.tensor(0.5) for n in past.weights}):
            yield


@dataclass(frozen=True)
class Rewarding(Broken):
    """0 at the anchor and below 0 elsewhere."""

    def penalty(self, model, past, inputs=None, output=None):
        return -super().penalty(model, past, inputs, output)


@dataclass(frozen=True)
class Exploding(Broken):
    def penalty(self, model, past, inputs=None, output=None):
        return 1e30 * super().penalty(model, past, inputs, output)


@dataclass(frozen=True)
class ElsewhereAnchored(Broken):
    def penalty(self, model, past, inputs=None, output=None):
        anchor = {name: value + 1 for name, value in past.anchor.items()}
        return super().penalty(model, replace(past, anchor=anchor), inputs, output)


@dataclass(frozen=True)
class Evaluating(Broken):
    def penalty(self, model, past, inputs=None, output=None):
        return super().penalty(model.eval(), past, inputs, output)


@dataclass(frozen=True)
class Training(Broken):
    def penalty(self, model, past, inputs=None, output=None):
        past.teacher.train()
        return super().penalty(model, past, inputs, output)


@dataclass(frozen=True)
class Staying(Broken):
    @contextmanager
    def constrain(self, model, optimizer, past):
        def hook(*_):
            with torch.no_grad():
                for name, omega in past.weights.items():
                    model.get_parameter(name).add_(omega * 1e-3)

        optimizer.register_step_post_hook(hook)
        yield


@dataclass(frozen=True)
class StayingAfterAnError(Broken):
    @contextmanager
    def constrain(self, model, optimizer, past):
        handle = optimizer.register_step_post_hook(
            lambda *_: [model.get_parameter(n).data.add_(w * 1e-3) for n, w in past.weights.items()] and None
        )
        yield
        handle.remove()


@dataclass(frozen=True)
class Remembering(Broken):
    def frozen(self, past):
        return {"images": torch.ones(8, 1, 6, 6, dtype=torch.bool)}


@dataclass(frozen=True)
class Thawing(Freezing):
    def frozen(self, past):
        return super().frozen(replace(past, frozen={}))


@dataclass(frozen=True)
class Lying(Broken):
    """Says what is frozen, and moves it."""

    def frozen(self, past):
        return past.frozen or {name: value > 0.9 for name, value in past.weights.items()}


@pytest.mark.parametrize(
    ("form", "claim"),
    [
        (Forgetful(2.0), "its settings are plain JSON"),
        (Slow(), ZERO_IS_PLAIN),
        (Rewarding(), "the penalty is finite and at least 0"),
        (Exploding(), "steps stay finite"),
        (ElsewhereAnchored(), "the penalty is 0 where the model stands at the anchor"),
        (Evaluating(), "changes neither model nor teacher.*of the model"),
        (Training(), "changes neither model nor teacher.*the teacher"),
        (Staying(), "steps are the optimizer's own again.*afterwards"),
        (StayingAfterAnError(), "steps are the optimizer's own again.*after an error"),
        (Remembering(), "is frozen is a mask of parameters.*'images' is no parameter"),
        (Thawing(), "only grows.*set free again"),
        (Lying(), "does not move in plain descent.*frozen values of"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Regularizer) else "",
)
def test_each_claim_is_broken_by_what_breaks_it(form: Regularizer, claim: str) -> None:
    without = [ZERO_IS_PLAIN] if claim != ZERO_IS_PLAIN else []
    with pytest.raises(AssertionError, match="(?s)^Regularizer '.*' breaks the claim .*" + claim):
        check_regularizer(form, without=without)


def test_what_keeps_all_of_them_is_not_accused() -> None:
    check_regularizer(Broken())
    assert len(list(REGULARIZER)) == 7
