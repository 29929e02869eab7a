from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from perdure.errors import MethodError
from perdure.regularization import (
    FORMS,
    Distillation,
    Freezing,
    LearningRate,
    Past,
    Regularizer,
    SurrogateLoss,
    Unrestrained,
    form_from,
)
from reference.networks import NETWORKS, bits, network, samples
from reference.steps import OPTIMIZERS, train

FISHER = {"measure": "fisher"}
EVERY: dict[str, Regularizer] = {
    "unrestrained": Unrestrained(),
    "mas": SurrogateLoss(1e3),
    "ewc": SurrogateLoss(1e3, "half", "each"),
    "mas, explicit": SurrogateLoss(1e-3, "none", step="explicit"),
    "ewc, explicit": SurrogateLoss(1e-3, "half", "each", "explicit"),
    "found strength": SurrogateLoss("auto", allowed=0.1),
    "found strength, each": SurrogateLoss("auto", anchors="each", allowed=0.1),
    "learning rate": LearningRate(),
    "freezing": Freezing(0.5),
    "freezing, free": Freezing(0.5, of="free", hold="gradient"),
    "freezing, random": Freezing(0.5, random=1),
    "freezing, average": Freezing(0.5, rank="average"),
    "distillation": Distillation(),
}
# a quadratic or a rate; what is frozen is a matter of rank, and distillation has no importance
BY_IMPORTANCE = [name for name, form in EVERY.items() if isinstance(form, SurrogateLoss | LearningRate)]

kinds = st.sampled_from(sorted(NETWORKS))
optimizers = st.sampled_from(sorted(OPTIMIZERS))
seeds = st.integers(0, 10_000)


def past_of(model: nn.Module, value: float | None) -> Past:
    """Anchors where the model stands, and importance of one value, or drawn."""
    anchor = {name: p.detach().clone() for name, p in model.named_parameters()}
    full = {n: torch.rand_like(p) if value is None else torch.full_like(p, value) for n, p in anchor.items()}
    return Past(
        weights=full, latest=full, curvature={n: 2 * v for n, v in full.items()}, anchor=anchor, measured=FISHER,
        teacher=network("linear", 3),
    )  # fmt: skip


@given(kind=kinds, optimizer=optimizers, seed=seeds, form=st.sampled_from(BY_IMPORTANCE))
def test_importance_zero_is_plain_training_bit_for_bit(kind: str, optimizer: str, seed: int, form: str) -> None:
    """Anchors elsewhere: nothing pulls to them."""
    plain, model = network(kind, seed).train(), network(kind, seed).train()
    list(train(plain, OPTIMIZERS[optimizer](plain.parameters()), seed))
    stepper, past = OPTIMIZERS[optimizer](model.parameters()), past_of(network(kind, seed + 1), 0.0)
    with EVERY[form].constrain(model, stepper, past):
        for _ in train(model, stepper, seed):
            assert EVERY[form].penalty(model, past).item() == 0
            assert EVERY[form].value(model, past) == 0
    for name, tensor in plain.state_dict().items():
        assert bits(model.state_dict()[name]) == bits(tensor)


@given(kind=kinds, optimizer=optimizers, seed=seeds)
def test_importance_one_moves_nothing_under_a_learning_rate(kind: str, optimizer: str, seed: int) -> None:
    model = network(kind, seed).train()
    before = {name: bits(p) for name, p in model.named_parameters()}
    stepper = OPTIMIZERS[optimizer](model.parameters())
    with LearningRate().constrain(model, stepper, past_of(model, 1.0)):
        list(train(model, stepper, seed))
    assert {name: bits(p) for name, p in model.named_parameters()} == before


@given(kind=kinds, optimizer=optimizers, seed=seeds)
def test_allowing_nothing_moves_nothing_of_importance(kind: str, optimizer: str, seed: int) -> None:
    model = network(kind, seed).train()
    before = {name: bits(p) for name, p in model.named_parameters()}
    stepper = OPTIMIZERS[optimizer](model.parameters())
    with SurrogateLoss("auto", allowed=0.0).constrain(model, stepper, past_of(model, 1e-20)):
        list(train(model, stepper, seed))
    assert {name: bits(p) for name, p in model.named_parameters()} == before


@pytest.mark.parametrize("form", EVERY)
@given(kind=kinds, optimizer=optimizers, seed=seeds)
def test_a_penalty_is_never_negative_and_zero_at_the_anchor(form: str, kind: str, optimizer: str, seed: int) -> None:
    model = network(kind, seed).eval()
    restraint, past, x = EVERY[form], past_of(model, None), samples(2, seed)
    if not isinstance(restraint, Distillation):
        assert restraint.penalty(model, past, x, model(x)).item() == 0
    assert restraint.value(model, past) == 0
    stepper = OPTIMIZERS[optimizer](model.parameters())
    with restraint.constrain(model, stepper, past):
        for _ in train(model, stepper, seed, 2):
            output = model(x).flatten(2).mean(2) if model(x).ndim > 2 else model(x)
            assert restraint.penalty(model, past, x, output).item() >= 0
            assert restraint.value(model, past) >= 0


@given(kind=kinds, optimizer=optimizers, seed=seeds, strength=st.floats(0, 1e6))
def test_a_pull_never_passes_the_anchor(kind: str, optimizer: str, seed: int, strength: float) -> None:
    """After each step a parameter stands between where the optimizer alone would have put it and its anchor."""
    model = network(kind, seed).train()
    past = past_of(network(kind, seed + 1), None)
    stepper = OPTIMIZERS[optimizer](model.parameters())
    alone: dict[str, torch.Tensor] = {}
    stepper.register_step_post_hook(
        lambda *_: alone.update({n: p.detach().clone() for n, p in model.named_parameters()})
    )
    with SurrogateLoss(strength, "none").constrain(model, stepper, past):
        for _ in train(model, stepper, seed, 2):
            for name, parameter in model.named_parameters():
                ends = torch.stack([alone[name], past.anchor[name]])
                inside = (parameter >= ends.min(0).values) & (parameter <= ends.max(0).values)
                assert bool(inside.all())


def test_the_learning_rate_of_equation_three_by_hand() -> None:
    """θ - (1 - Ω) α g: 3 - 3/4 0.1 2 = 2.85; squared, 3 - 9/16 0.2 = 2.8875; Ω = 1 has the floor 0.01: 3 - 0.02."""
    for form, expected in (
        (LearningRate(), (2.85, 3.0)),
        (LearningRate(power=2), (2.8875, 3.0)),
        (LearningRate(multiplier=0.5), (2.925, 3.0)),
        (LearningRate(floor=0.01), (2.85, 2.98)),
    ):
        model = nn.Linear(2, 1, bias=False).double()
        nn.init.constant_(model.weight, 3.0)
        model.weight.grad = torch.full((1, 2), 2.0).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with form.constrain(model, optimizer, Past(weights={"weight": torch.tensor([[0.25, 1.0]]).double()})):
            optimizer.step()
        torch.testing.assert_close(
            model.weight.detach(), torch.tensor([expected], dtype=torch.float64), rtol=0, atol=1e-10
        )


@pytest.mark.parametrize("form", EVERY)
def test_a_form_survives_its_settings(form: str) -> None:
    assert form_from(EVERY[form].settings()) == EVERY[form]


def test_every_form_has_an_example_here() -> None:
    assert {form.name for form in EVERY.values()} == set(FORMS)


def test_what_does_not_exist_is_named_with_what_does() -> None:
    with pytest.raises(MethodError, match="no regularizer 'surrogate'. Regularizers: unrestrained, surrogate-loss, "):
        form_from({"form": "surrogate"})
    with pytest.raises(MethodError, match="no regularizer None"):
        form_from({"strength": 1.0})
    with pytest.raises(MethodError, match="Regularizer 'freezing': .*unexpected keyword argument 'share'"):
        form_from({"form": "freezing", "share": 0.25})
    with pytest.raises(MethodError, match="Regularizer 'surrogate-loss': .*missing.*'strength'"):
        form_from({"form": "surrogate-loss"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"power": 0.0}, "`power` must be above 0; got 0"),
        ({"multiplier": -1.0}, "`multiplier` must be above 0; got -1"),
        ({"floor": -1e-9}, "`floor` must be at least 0"),
        ({"floor": math.nan}, "`floor` must be at least 0"),
    ],
)
def test_a_learning_rate_that_means_nothing_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        LearningRate(**arguments)
