from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from perdure.errors import MethodError
from perdure.regularization import masked_gradients, scaled_steps
from perdure.regularization.quadratic import Quadratic
from perdure.regularization.steps import bounded_steps, pulled_steps
from reference.networks import NETWORKS, Tied, bits, network
from reference.steps import OPTIMIZERS, scaled_step, train


def one_weight(value: float) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model, torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.5)


def test_a_step_with_momentum_by_hand() -> None:
    """Gradient 4, rate 1, momentum .5, share .25: velocity 4 then 6, so 10 goes to 9 and then to 7.5.

    The velocity is not scaled: the whole step is.
    """
    model, optimizer = one_weight(10.0)
    with scaled_steps(model, optimizer, {"weight": torch.tensor([[0.25]])}):
        for expected in (9.0, 7.5):
            model.weight.grad = torch.tensor([[4.0]])
            optimizer.step()
            assert model.weight.item() == expected


@given(
    kind=st.sampled_from(sorted(NETWORKS)), optimizer=st.sampled_from(sorted(OPTIMIZERS)), seed=st.integers(0, 10_000)
)
def test_every_step_is_the_share_of_the_whole_step(kind: str, optimizer: str, seed: int) -> None:
    """Against float64 arithmetic on a copy, step by step: within two roundings of float32."""
    model = network(kind, seed).train()
    omega = {name: torch.rand_like(p) for name, p in model.named_parameters()}
    stepper = OPTIMIZERS[optimizer](model.parameters())
    expected: dict[str, Tensor] = {}
    with scaled_steps(model, stepper, {name: 1 - value for name, value in omega.items()}):
        for _ in train(model, stepper, seed, before_step=lambda: expected.update(scaled_step(model, stepper, omega))):
            for name, parameter in model.named_parameters():
                torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=3e-7, atol=3e-8)


def test_a_share_for_a_filter_holds_for_all_its_weights() -> None:
    model = nn.Conv2d(1, 2, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = model.weight.detach().clone()
    model.weight.grad = torch.ones_like(model.weight)
    with scaled_steps(model, optimizer, {"weight": torch.tensor([0.0, 0.5]).view(2, 1, 1, 1)}):
        optimizer.step()
    assert torch.equal(model.weight[0], before[0])
    torch.testing.assert_close(model.weight[1], before[1] - 0.5)


def test_a_parameter_without_a_share_takes_the_whole_step() -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = model.bias.item()
    model.weight.grad, model.bias.grad = torch.ones(1, 1), torch.ones(1)
    with scaled_steps(model, optimizer, {"weight": torch.zeros(1, 1)}):
        optimizer.step()
    assert model.bias.item() == before - 1


@pytest.mark.parametrize("value", [-0.0, 0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, float("inf"), float("nan")])
@pytest.mark.parametrize("gradient", [1.0, -1.0, 3e38, float("inf"), float("nan")])
def test_both_ends_hold_bit_for_bit_for_any_number(value: float, gradient: float) -> None:
    """Also where 0 times the step is NaN, or the step changes the sign of a zero."""
    whole, stepper = one_weight(value)
    whole.weight.grad = torch.tensor([[gradient]])
    stepper.step()
    for share, expected in ((0.0, torch.tensor([[value]])), (1.0, whole.weight)):
        model, optimizer = one_weight(value)
        model.weight.grad = torch.tensor([[gradient]])
        with scaled_steps(model, optimizer, {"weight": torch.tensor([[share]])}):
            optimizer.step()
        assert bits(model.weight) == bits(expected)


def test_steps_that_evaluate_a_closure_are_scaled_as_a_whole() -> None:
    """LBFGS moves a parameter several times within one step."""
    model = nn.Linear(3, 1)
    before = model.weight.detach().clone()
    optimizer = torch.optim.LBFGS(model.parameters())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(torch.eye(3)) - torch.tensor([[1.0], [2.0], [3.0]])).square().sum()
        loss.backward()
        return loss

    share = torch.tensor([[1.0, 0.0, 1.0]])
    with scaled_steps(model, optimizer, {"weight": share}):
        optimizer.step(closure)
    assert bits(model.weight[0, 1]) == bits(before[0, 1])
    assert (model.weight != before).tolist() == [[True, False, True]]


def test_a_parameter_that_is_set_free_inside_is_restrained_too() -> None:
    """As in gradual unfreezing."""
    model, optimizer = one_weight(1.0)
    model.weight.requires_grad_(False)
    with scaled_steps(model, optimizer, {"weight": torch.zeros(1, 1)}):
        model.weight.requires_grad_(True)
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()
    assert model.weight.item() == 1.0


def test_a_shared_parameter_is_restrained_under_its_first_name() -> None:
    model = Tied()
    before = model.same.weight.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    with scaled_steps(model, optimizer, {"twice.weight": torch.zeros(4, 4)}):
        model(torch.ones(1, 2, 6, 6)).sum().backward()
        optimizer.step()
    assert bits(model.same.weight) == bits(before)


@pytest.mark.parametrize("failing", [False, True])
def test_outside_the_context_steps_are_whole_again(failing: bool) -> None:
    model, optimizer = one_weight(1.0)
    try:
        with scaled_steps(model, optimizer, {"weight": torch.zeros(1, 1)}):
            if failing:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert failing
    model.weight.grad = torch.ones(1, 1)
    optimizer.step()
    assert model.weight.item() == 0.0


def test_a_step_that_fails_does_not_spoil_the_next() -> None:
    model, optimizer = one_weight(1.0)

    def broken() -> float:
        raise OSError

    with scaled_steps(model, optimizer, {"weight": torch.tensor([[0.5]])}):
        with pytest.raises(OSError):  # noqa: PT011 - our own
            optimizer.step(broken)
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
    assert model.weight.item() == 0.5


FUSED: dict[str, Callable[[nn.Module, torch.optim.Optimizer], AbstractContextManager[None]]] = {
    "scaled": lambda m, o: scaled_steps(m, o, {"weight": torch.tensor([[0.5]])}),
    "masked": lambda m, o: masked_gradients(m, o, {"weight": torch.tensor([[0.0]])}),
    "pulled": lambda m, o: pulled_steps(m, o, around(1.0)),
    "bounded": lambda m, o: bounded_steps(m, o, around(1.0), 0.0, {}),
}


def around(place: float) -> Quadratic:
    return Quadratic({"weight": torch.ones(1, 1)}, {"weight": torch.full((1, 1), place)}, {})


@pytest.mark.parametrize("form", FUSED)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad])
def test_a_step_that_a_fused_optimizer_leaves_out_is_left_out_by_every_form(form: str, kind: type) -> None:
    """`GradScaler` calls it although the gradients overflowed, the first ones too, and so its hooks."""
    model, _ = one_weight(5.0)
    optimizer = kind(model.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu")
    with FUSED[form](model, optimizer):
        scaler.scale(model(torch.full((1, 1), math.inf)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert model.weight.item() == 5.0
        # as it was, and not NaN
        assert model.weight.grad.item() == math.inf
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(1, 1)).sum()).backward()
        scaler.step(optimizer)
    # the next one is taken; the weight that is masked moves by its decay alone
    assert model.weight.isfinite().all()
    assert form == "masked" or model.weight.item() != 5.0


def test_importance_of_another_network_is_refused() -> None:
    model, optimizer = one_weight(1.0)
    with (
        pytest.raises(MethodError, match="names the parameter 'conv1.weight', which the model does not have"),
        scaled_steps(model, optimizer, {"conv1.weight": torch.ones(1)}),
    ):
        pass


def test_importance_that_does_not_fit_is_refused_with_both_shapes() -> None:
    model, optimizer = one_weight(1.0)
    with (
        pytest.raises(MethodError, match=r"Importance of 'weight' has shape \(3, 1\), which .* parameter's \(1, 1\)"),
        scaled_steps(model, optimizer, {"weight": torch.ones(3, 1)}),
    ):
        pass
