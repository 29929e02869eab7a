from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from perdure.regularization import LearningRate, Past
from reference.networks import NETWORKS, bits, network
from reference.steps import OPTIMIZERS, train

kinds = st.sampled_from(sorted(NETWORKS))
optimizers = st.sampled_from(sorted(OPTIMIZERS))
seeds = st.integers(0, 10_000)


@given(kind=kinds, optimizer=optimizers, seed=seeds)
def test_importance_one_keeps_each_value_bit_for_bit(kind: str, optimizer: str, seed: int) -> None:
    """Half of the values of every parameter have importance 1, under accumulation, clipping and a schedule."""
    model = network(kind, seed).train()
    weights = {name: torch.randint(2, p.shape).float() for name, p in model.named_parameters()}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    stepper = OPTIMIZERS[optimizer](model.parameters())
    with LearningRate().constrain(model, stepper, Past(weights=weights)):
        list(train(model, stepper, seed))
    moved = False
    for name, parameter in model.named_parameters():
        kept = weights[name] == 1
        assert bits(parameter.detach()[kept]) == bits(before[name][kept])
        moved |= bool((parameter.detach() != before[name])[~kept].any())
    assert moved


@given(kind=kinds, optimizer=optimizers, seed=seeds)
def test_importance_zero_is_plain_training_bit_for_bit(kind: str, optimizer: str, seed: int) -> None:
    plain, model = network(kind, seed).train(), network(kind, seed).train()
    list(train(plain, OPTIMIZERS[optimizer](plain.parameters()), seed))
    weights = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    stepper = OPTIMIZERS[optimizer](model.parameters())
    with LearningRate().constrain(model, stepper, Past(weights=weights)):
        list(train(model, stepper, seed))
    for name, tensor in plain.state_dict().items():
        assert bits(model.state_dict()[name]) == bits(tensor)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_is_a_learning_rate_of_its_own_for_each_parameter(optimizer: str) -> None:
    """Eq. 3: with one importance a tensor, the same as one parameter group a tensor with the rate (1 - Ω) α."""
    grouped, model = (network("dropout", 3).double().train() for _ in range(2))
    omega = dict(zip(dict(model.named_parameters()), (0.0, 0.25, 0.5, 1.0), strict=True))
    theirs = OPTIMIZERS[optimizer]([{"params": [p]} for p in grouped.parameters()])
    for group, share in zip(theirs.param_groups, omega.values(), strict=True):
        group["lr"] *= 1 - share
    ours = OPTIMIZERS[optimizer](model.parameters())
    weights = {name: torch.tensor(value, dtype=torch.float64) for name, value in omega.items()}
    with LearningRate().constrain(model, ours, Past(weights=weights)):
        for step in range(3):
            for one, stepper in ((grouped, theirs), (model, ours)):
                torch.manual_seed(step)
                stepper.zero_grad()
                one(torch.randn(4, 2, 6, 6, dtype=torch.float64)).square().sum().backward()
                stepper.step()
    for parameter, expected in zip(model.parameters(), grouped.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-9, atol=1e-12)


def test_importance_outside_the_unit_range_is_clamped() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.weight.grad = torch.ones(1, 2)
    with LearningRate().constrain(model, optimizer, Past(weights={"weight": torch.tensor([[-3.0, 7.0]])})):
        optimizer.step()
    assert model.weight.tolist() == [[0.5, 1.0]]


def test_the_penalty_is_zero_because_it_acts_on_the_step() -> None:
    model = network("linear", 0)
    weights = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    anchor = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    assert LearningRate().penalty(model, Past(weights=weights, anchor=anchor)).item() == 0
