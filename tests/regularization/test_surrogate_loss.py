from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, Optimizer, RMSprop

from perdure.errors import MethodError
from perdure.methods import Method, ewc, ewc_bn, ewc_online
from perdure.regularization import Past, SurrogateLoss, form_from
from perdure.regularization.surrogate_loss import Norm
from perdure.release import Accumulated, Memory
from perdure.update import retain
from perdure.update.recipe import Recipe
from perdure.update.train import train, update
from reference.domains import SEGMENTER, TinyDomain, state
from reference.networks import bits, network, samples, target_for

FISHER = {"measure": "fisher", "scaling": {"outliers": "keep", "range": "raw"}, "accumulation": "mean"}


def three() -> tuple[nn.Linear, Past]:
    """Three parameters 2, -2 and 2 away from their anchors, with importance 1/2, 1 and 1/4."""
    model = nn.Linear(2, 1).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, -1.0]]))
        model.bias.fill_(2.0)
    anchor = {"weight": torch.ones(1, 2, dtype=torch.float64), "bias": torch.zeros(1, dtype=torch.float64)}
    weights = {"weight": torch.tensor([[0.5, 1.0]]).double(), "bias": torch.tensor([0.25]).double()}
    return model, Past(weights=weights, anchor=anchor)


@pytest.mark.parametrize(("norm", "s"), [("parameters", 2.0), ("half", 3.0), ("none", 6.0)])
def test_value_and_gradient_by_hand(norm: Norm, s: float) -> None:
    """Σ Ω (θ - θ*)² = 1/2 4 + 1 4 + 1/4 4 = 7, and its gradient 2 Ω (θ - θ*) = (2, -4, 1).

    With λ = 6: MAS divides by P = 3 and has no half, so s = 2 (Eq. 2); EWC has the half, so s = 3.
    """
    model, past = three()
    form = SurrogateLoss(6.0, norm, step="explicit")
    penalty = form.penalty(model, past)
    penalty.backward()
    assert penalty.item() == pytest.approx(7 * s, abs=1e-10)
    torch.testing.assert_close(model.weight.grad, torch.tensor([[2.0, -4.0]]).double() * s, rtol=0, atol=1e-10)
    torch.testing.assert_close(model.bias.grad, torch.tensor([1.0]).double() * s, rtol=0, atol=1e-10)
    assert form.value(model, past) == pytest.approx(7 * s, abs=1e-10)
    proximal = SurrogateLoss(6.0, norm)
    assert proximal.value(model, past) == form.value(model, past)
    assert proximal.penalty(model, past).item() == 0


def test_several_anchors_by_hand() -> None:
    """H = 3, c one above the anchor, offset 5, at distance 2 from the anchor, λ = 2: λ/2 (3 (2 - 1)² + 5) = 8."""
    model, past = three()
    one = torch.ones(1).double()
    past = Past(past.weights, past.anchor, curvature={"bias": 3 * one}, centre={"bias": one}, offset=5.0)
    form = SurrogateLoss(2.0, "half", "each", "explicit")
    penalty = form.penalty(model, past)
    penalty.backward()
    assert penalty.item() == pytest.approx(8.0, abs=1e-10)
    assert model.bias.grad.item() == pytest.approx(6.0, abs=1e-10)
    assert form.value(model, past) == pytest.approx(8.0, abs=1e-10)


def test_importance_of_a_filter_counts_for_all_its_weights() -> None:
    """P is the number of parameters, not of values of importance."""
    model = nn.Conv2d(1, 2, 2, bias=False).double()
    past = Past(
        weights={"weight": torch.tensor([1.0, 0.5]).double().view(2, 1, 1, 1)},
        anchor={"weight": model.weight.detach() - 1},
    )
    assert SurrogateLoss(8.0).value(model, past) == pytest.approx(4 * 1.0 + 4 * 0.5, abs=1e-10)


# ---- the proximal step


def implicit(theta: Tensor, a: Tensor | float, anchor: Tensor) -> Tensor:
    return (theta + a * anchor) / (1 + a)


def loop(
    model: nn.Module, optimizer: Optimizer, after: Callable[[dict[str, Tensor]], None] = lambda _: None, steps: int = 5
) -> None:
    """Two batches a step, clipping, and a rate that falls; `after` gets where the optimizer alone would have gone."""
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
    for step in range(steps):
        optimizer.zero_grad()
        for part in range(2):
            x = samples(3, 10 * step + part).double()
            nn.functional.cross_entropy(model(x), target_for(model, x, step)).backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 0.5)
        gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        twin, stepper = copy.deepcopy((model, optimizer))
        for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
            parameter.grad = gradient
        stepper.step()
        optimizer.step()
        after({name: p.detach() for name, p in twin.named_parameters()})
        schedule.step()


def held(model: nn.Module) -> Past:
    generator = torch.Generator().manual_seed(5)
    return Past(
        weights={n: torch.rand(p.shape, generator=generator).to(p) for n, p in model.named_parameters()},
        anchor={n: p.detach() + torch.rand(p.shape, generator=generator).to(p) for n, p in model.named_parameters()},
    )


@pytest.mark.parametrize("arguments", [{}, {"momentum": 0.9, "weight_decay": 0.1}, {"momentum": 0.9, "nesterov": True}])
@pytest.mark.parametrize("strength", [0.1, 1e3])
def test_under_sgd_it_solves_its_implicit_equation(arguments: dict, strength: float) -> None:
    """θ ← (θ' + aθ*) / (1 + a), a = λΩ lr / (1 - momentum), with each group's own rate; frozen parameters stay."""
    model = network("dropout", 1).double().eval()
    model[1].bias.requires_grad_(False)
    past = held(model)
    groups = [{"params": [model[1].weight, model[1].bias]}, {"params": list(model[4].parameters()), "lr": 0.3}]
    optimizer = SGD(groups, lr=0.1, **arguments)
    before = bits(model[1].bias)

    def check(alone: dict[str, Tensor]) -> None:
        for name, parameter in model.named_parameters():
            if name == "1.bias":
                continue
            rate = optimizer.param_groups[0 if name == "1.weight" else 1]["lr"] / (1 - arguments.get("momentum", 0))
            expected = implicit(alone[name], strength * past.weights[name] * rate, past.anchor[name])
            torch.testing.assert_close(parameter.detach(), expected, rtol=1e-10, atol=1e-10)

    with SurrogateLoss(strength, "half").constrain(model, optimizer, past):
        loop(model, optimizer, check)
    assert bits(model[1].bias) == before


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_under_adam_the_rate_is_that_of_adams_own_step(kind: type[Optimizer], amsgrad: bool) -> None:
    """One parameter, three gradients; the second moment worked out here: a = λΩ lr / (√v̂ + ε)."""
    model = nn.Linear(1, 1, bias=False).double()
    past = Past(
        weights={"weight": torch.full((1, 1), 0.5).double()}, anchor={"weight": torch.full((1, 1), 2.0).double()}
    )
    optimizer = kind(model.parameters(), lr=0.1, betas=(0.8, 0.9), eps=1e-3, amsgrad=amsgrad)
    second = largest = 0.0
    with SurrogateLoss(4.0, "half").constrain(model, optimizer, past):
        for step, gradient in enumerate((3.0, -0.1, 0.2), 1):
            twin, stepper = copy.deepcopy((model, optimizer))
            model.weight.grad, twin.weight.grad = (torch.full((1, 1), gradient).double() for _ in range(2))
            stepper.step()
            optimizer.step()
            second = 0.9 * second + 0.1 * gradient**2
            largest = max(largest, second) if amsgrad else second
            a = 4 * 0.5 * 0.1 / (math.sqrt(largest / (1 - 0.9**step)) + 1e-3)
            expected = implicit(twin.weight.detach(), a, past.anchor["weight"])
            torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-10, atol=1e-10)


RESTING: dict[str, Callable[[object], Optimizer]] = {
    "sgd": lambda p: SGD(p, lr=0.05),
    "momentum": lambda p: SGD(p, lr=0.02, momentum=0.9),
    "dampening": lambda p: SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "nesterov": lambda p: SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "adam": lambda p: Adam(p, lr=0.01, betas=(0.9, 0.95)),
    "adamw": lambda p: AdamW(p, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0),
    "rmsprop": lambda p: RMSprop(p, lr=0.01),
    "rmsprop, momentum": lambda p: RMSprop(p, lr=0.002, momentum=0.9),
    "adagrad": lambda p: Adagrad(p, lr=1.0),
    "adagrad, decay": lambda p: Adagrad(p, lr=1.0, lr_decay=1e-3),
    "adamax": lambda p: Adamax(p, lr=0.01, betas=(0.9, 0.99)),
}


@pytest.mark.parametrize("optimizer", RESTING)
def test_training_rests_where_loss_and_penalty_balance_whatever_the_optimizer(optimizer: str) -> None:
    """Of c/2 (θ - t)² + λΩ/2 (θ - θ*)² the minimum is (ct + λΩθ*) / (c + λΩ). One λ means one thing."""
    model = nn.Linear(4, 1, bias=False).double()
    c, t = torch.tensor([[1.0, 2.0, 0.5, 3.0]]).double(), torch.tensor([[1.0, -1.0, 2.0, 0.5]]).double()
    anchor, omega = torch.zeros(1, 4).double(), torch.tensor([[0.3, 1.0, 0.1, 0.7]]).double()
    stepper = RESTING[optimizer](model.parameters())
    with SurrogateLoss(2.0, "half").constrain(
        model, stepper, Past(weights={"weight": omega}, anchor={"weight": anchor})
    ):
        for _ in range(1500):
            model.weight.grad = c * (model.weight.detach() - t)
            stepper.step()
    torch.testing.assert_close(model.weight.detach(), c * t / (c + 2 * omega), rtol=0, atol=1e-6)


RATES: dict[str, tuple[Callable[[object], Optimizer], tuple[float, ...]]] = {
    "rmsprop": (
        lambda p: RMSprop(p, lr=0.1, alpha=0.5, eps=0.25, momentum=0.75),
        (0.1 / (math.sqrt(0.5 * 4) + 0.25) / 0.25, 0.1 / (math.sqrt(0.25 * 4 + 0.5) + 0.25) / 0.25),
    ),
    # the mean gradient is 1 and then 0
    "rmsprop, centred": (
        lambda p: RMSprop(p, lr=0.1, alpha=0.5, eps=0.25, centered=True),
        (0.1 / (math.sqrt(0.5 * 4 - 1) + 0.25), 0.1 / (math.sqrt(0.25 * 4 + 0.5) + 0.25)),
    ),
    "adagrad": (
        lambda p: Adagrad(p, lr=0.1, lr_decay=0.5, initial_accumulator_value=3, eps=0.25),
        (0.1 / (math.sqrt(3 + 4) + 0.25), 0.1 / 1.5 / (math.sqrt(3 + 4 + 1) + 0.25)),
    ),
    "adamax": (lambda p: Adamax(p, lr=0.1, betas=(0.5, 0.75), eps=0.25), (0.1 / (2 + 0.25), 0.1 / (2.25 * 0.75))),
}


@pytest.mark.parametrize("optimizer", RATES)
def test_the_rate_of_other_optimizers_by_hand(optimizer: str) -> None:
    """Gradients 2 and -1: with what each optimizer's own formula makes of them, a = λΩ r."""
    make, rates = RATES[optimizer]
    model = nn.Linear(1, 1, bias=False).double()
    past = Past(weights={"weight": torch.ones(1, 1).double()}, anchor={"weight": torch.full((1, 1), 2.0).double()})
    stepper = make(model.parameters())
    with SurrogateLoss(4.0, "half").constrain(model, stepper, past):
        for gradient, rate in zip((2.0, -1.0), rates, strict=True):
            twin, alone = copy.deepcopy((model, stepper))
            model.weight.grad, twin.weight.grad = (torch.full((1, 1), gradient).double() for _ in range(2))
            alone.step()
            stepper.step()
            expected = implicit(twin.weight.detach(), 4 * rate, past.anchor["weight"])
            torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [torch.optim.RAdam, torch.optim.NAdam, torch.optim.Adadelta, torch.optim.Rprop])
def test_an_optimizer_whose_rate_is_not_known_takes_no_proximal_step(kind: type[Optimizer]) -> None:
    """One λ would mean something else under each; added to the loss it means what it says."""
    model, past = three()
    optimizer = kind(model.parameters())
    message = rf'of {kind.__name__} it does not.*SGD, Adam, AdamW, RMSprop, Adagrad, Adamax, or .*: step="explicit"'
    with pytest.raises(MethodError, match=message), SurrogateLoss(1.0).constrain(model, optimizer, past):
        pass
    with SurrogateLoss(1.0, step="explicit").constrain(model, optimizer, past):
        pass


def test_importance_beyond_half_precision_still_pulls() -> None:
    """Ω = 1e-12 is 0 in float16, and times λ = 1e12 it is 1. A step of -2^-13 from the anchor with a = 1: half of it.

    The square of what is left is 0 in float16 too.
    """
    for step, expected in (("proximal", -(2**-14)), ("explicit", -(2**-13))):
        model = nn.Linear(1, 1, bias=False).half()
        nn.init.zeros_(model.weight)
        memory = Memory({"weight": torch.zeros(1, 1).half()}, {"fisher": Accumulated({"weight": OMEGA}, {}, 1, {})})
        optimizer = SGD(model.parameters(), lr=1.0)
        with retain(model, optimizer, memory, SurrogateLoss(1e12, "half", step=step)) as retained:
            model.weight.grad = torch.full_like(model.weight, 2**-13)
            optimizer.step()
            assert model.weight.item() == expected
            cost = pytest.approx(expected**2 / 2, rel=1e-6, abs=0)
            assert retained.value() == cost
            assert step == "proximal" or retained.penalty().item() == cost


OMEGA = torch.full((1, 1), 1e-12)


def test_for_a_small_rate_it_is_the_explicit_step() -> None:
    """The two differ by lr² h g and terms of higher order: a hundredth for a tenth of the rate."""

    def difference(rate: float) -> float:
        places = []
        for step in ("proximal", "explicit"):
            model, past = three()
            optimizer = SGD(model.parameters(), lr=rate)
            form = SurrogateLoss(6.0, step=step)
            with form.constrain(model, optimizer, past):
                (model(torch.ones(1, 2).double()).square().sum() + form.penalty(model, past)).backward()
                optimizer.step()
            places.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        return float((places[0] - places[1]).norm())

    assert difference(1e-3) / difference(1e-4) == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("strength", [1e12, 1e38, 1e300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [lambda p: SGD(p, lr=0.1, momentum=0.95), lambda p: Adam(p, lr=0.1)])
def test_no_strength_diverges(strength: float, dtype: torch.dtype, kind: Callable[[object], Optimizer]) -> None:
    """It gives the anchor; parameters without importance go where they like, also to infinity."""
    model = nn.Linear(3, 1, bias=False).to(dtype)
    anchor = {"weight": torch.tensor([[0.1, -0.3, 0.7]], dtype=dtype)}
    optimizer = kind(model.parameters())
    past = Past(weights={"weight": torch.tensor([[1.0, 1e-3, 0.0]], dtype=dtype)}, anchor=anchor)
    with SurrogateLoss(strength, "none").constrain(model, optimizer, past):
        for _ in range(5):
            model.weight.grad = torch.full((1, 3), 7.0, dtype=dtype)
            optimizer.step()
    torch.testing.assert_close(model.weight[:, :2].detach(), anchor["weight"][:, :2], rtol=0, atol=1e-7)
    assert bool(model.weight.isfinite().all())


@pytest.mark.parametrize("value", [-0.0, 3e38, math.inf, math.nan])
def test_importance_zero_leaves_any_number_bit_for_bit(value: float) -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    past = Past(weights={"weight": torch.zeros(1, 1)}, anchor={"weight": torch.ones(1, 1)})
    optimizer = SGD(model.parameters(), lr=1.0)
    model.weight.grad = torch.zeros(1, 1)
    before = bits(model.weight)
    with SurrogateLoss(10.0).constrain(model, optimizer, past):
        optimizer.step()
    assert bits(model.weight) == before


def test_a_step_that_mixed_precision_skips_pulls_nothing() -> None:
    model, past = three()
    optimizer = SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    before = [bits(p) for p in model.parameters()]
    with SurrogateLoss(1.0).constrain(model, optimizer, past):
        scaler.scale(model(torch.full((1, 2), math.inf).double()).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert [bits(p) for p in model.parameters()] == before
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(1, 2).double()).sum()).backward()
        scaler.step(optimizer)
    assert [bits(p) for p in model.parameters()] != before


def test_afterwards_nothing_is_pulled() -> None:
    model, past = three()
    optimizer = SGD(model.parameters(), lr=0.1)
    for step in ("proximal", "explicit"):
        with SurrogateLoss(0.1, step=step).constrain(model, optimizer, past):
            pass
    before = [bits(p) for p in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert [bits(p) for p in model.parameters()] == before


# ---- explicit steps


@given(momentum=st.floats(0, 0.9), nesterov=st.booleans(), rate=st.floats(1e-3, 1.0), below=st.booleans())
@settings(max_examples=20)
def test_explicit_steps_diverge_just_above_the_limit_and_converge_just_below(
    momentum: float, nesterov: bool, rate: float, below: bool
) -> None:
    """lr h < 2 (1 + m), Nesterov: 2 (1 + m) / (1 + 2 m). The penalty alone, h = 2 λ Ω with Ω = 1, 5 % off the limit."""
    nesterov &= momentum > 0
    limit = 2 * (1 + momentum) / (1 + 2 * momentum if nesterov else 1)
    strength = (0.95 if below else 1.05) * limit / rate / 2
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 1.0)
    past = Past(weights={"weight": torch.ones(1, 1).double()}, anchor={"weight": torch.zeros(1, 1).double()})
    optimizer = SGD(model.parameters(), lr=rate, momentum=momentum, nesterov=nesterov)
    form = SurrogateLoss(strength, "none", step="explicit")
    if below:
        form.check(model, optimizer, past)
    else:
        with pytest.raises(MethodError, match="cannot be stable at a learning rate of"):
            form.check(model, optimizer, past)
    for _ in range(300):
        model.weight.grad = 2 * strength * model.weight.detach()
        optimizer.step()
    assert abs(model.weight.item()) < 1e-2 if below else abs(model.weight.item()) > 1e2


def test_the_limit_is_that_of_each_groups_own_parameters() -> None:
    """Importance of 10 in a slow group is fine; the same in the fast one is not. What does not train does not count."""
    model = nn.Linear(2, 1).double()
    anchor = {name: p.detach().clone() for name, p in model.named_parameters()}
    groups = [{"params": [model.weight], "lr": 0.01}, {"params": [model.bias], "lr": 1.0}]
    form = SurrogateLoss(1.0, "none", step="explicit")

    def past(weight: float, bias: float) -> Past:
        full = {"weight": torch.full((1, 2), weight).double(), "bias": torch.full((1,), bias).double()}
        return Past(weights=full, anchor=anchor)

    form.check(model, SGD(groups), past(10, 0.1))
    with pytest.raises(MethodError, match="rate of 1: it has to be under 0.1"):
        form.check(model, SGD(groups), past(0.1, 10))
    model.bias.requires_grad_(False)
    form.check(model, SGD(groups), past(0.1, 10))


def test_a_schedule_that_raises_the_rate_is_stopped_before_the_step() -> None:
    model, past = three()
    optimizer = SGD(model.parameters(), lr=0.1)
    with SurrogateLoss(3.0, step="explicit").constrain(model, optimizer, past):
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 1.0
        with pytest.raises(MethodError, match=r"has to be under 1\. .* a strength under 3,"):
            optimizer.step()


def test_adam_is_not_refused_and_stays_near_the_anchor() -> None:
    """It divides by the size of the gradient: an explicit penalty, however strong, moves it by a rate a step."""
    model, past = three()
    optimizer = Adam(model.parameters(), lr=0.1)
    form = SurrogateLoss(1e9, step="explicit")
    with form.constrain(model, optimizer, past):
        for _ in range(200):
            optimizer.zero_grad()
            form.penalty(model, past).backward()
            optimizer.step()
    assert all(float((p.detach() - past.anchor[name]).abs().max()) < 1 for name, p in model.named_parameters())


# ---- what cannot be meant


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": -1.0}, "`strength` must be a number of at least 0"),
        ({"strength": math.nan}, "`strength` must be a number of at least 0"),
        ({"strength": math.inf}, "`strength` must be a number of at least 0"),
        ({"strength": "much"}, "`strength` must be a number of at least 0, or \"auto\"; got 'much'"),
        ({"strength": 1.0, "norm": "third"}, "`norm` must be one of"),
        ({"strength": 1.0, "anchors": "all"}, "`anchors` must be one of"),
        ({"strength": 1.0, "step": "implicit"}, "`step` must be one of"),
        ({"strength": 1.0, "allowed": 0.1}, "leave it out with strength 1"),
        ({"strength": "auto"}, "needs `allowed`.*got None"),
        ({"strength": "auto", "allowed": -0.1}, "needs `allowed`.*got -0.1"),
        ({"strength": "auto", "allowed": math.nan}, "needs `allowed`.*got nan"),
        ({"strength": "auto", "allowed": "some"}, "needs `allowed`.*got 'some'"),
        ({"strength": "auto", "allowed": 0.1, "step": "explicit"}, "acts after the optimizer's step"),
    ],
)
def test_settings_that_mean_nothing_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        SurrogateLoss(**arguments)


def test_domains_that_were_not_added_up_have_no_anchors_of_their_own() -> None:
    """Else nothing would be protected, without a word."""
    model, past = three()
    past = Past(past.weights, past.anchor, measured={"accumulation": "max"})
    optimizer = SGD(model.parameters(), lr=0.1)
    with (
        pytest.raises(MethodError, match=r"no sum over them \(max\)"),
        SurrogateLoss(1.0, anchors="each").constrain(model, optimizer, past),
    ):
        pass


# ---- strength that is found


def domain(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A linear-Gaussian domain with inputs that are orthogonal: Fisher and Hessian are the same diagonal matrix."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([2.0, 1.0, 0.5, 0.0]).double()
    inputs = torch.cat([torch.diag(scale), -torch.diag(scale)])
    optimum = torch.randn(4, generator=generator).double()
    return inputs, inputs @ optimum, optimum


def nats(weight: Tensor, inputs: Tensor, target: Tensor) -> float:
    """The mean over samples of -log N(y; x θ, 1), without its constant."""
    return float(0.5 * (inputs @ weight.flatten() - target).square().mean())


def learnt(seed: int = 0) -> tuple[nn.Linear, Past]:
    inputs, _, optimum = domain(seed)
    model = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(optimum)
    fisher = {"weight": inputs.square().mean(0, keepdim=True)}
    return model, Past(weights=fisher, anchor={"weight": optimum.view(1, 4).clone()}, measured=FISHER)


def learn(model: nn.Linear, past: Past, form: SurrogateLoss, optimizer: Optimizer, steps: int = 60) -> None:
    inputs, target, _ = domain(1)
    with form.constrain(model, optimizer, past):
        for _ in range(steps):
            optimizer.zero_grad()
            loss = 0.5 * (model(inputs).flatten() - target).square().mean()
            (loss + form.penalty(model, past)).backward()
            optimizer.step()


FOUND: dict[str, Callable[[object], Optimizer]] = {
    "sgd": lambda p: SGD(p, lr=0.5),
    "momentum": lambda p: SGD(p, lr=0.2, momentum=0.9, nesterov=True),
    "adamw": lambda p: AdamW(p, lr=0.1),
}


@pytest.mark.parametrize("optimizer", FOUND)
@pytest.mark.parametrize("allowed", [0.0, 1e-9, 1e-3, 0.05])
def test_where_the_prediction_is_exact_the_old_loss_rises_by_what_is_allowed(optimizer: str, allowed: float) -> None:
    """Here the predicted rise is the true one, and the new domain wants more than what is allowed."""
    model, past = learnt()
    form = SurrogateLoss("auto", allowed=allowed)
    inputs, target, _ = domain(0)
    before = nats(model.weight.detach(), inputs, target)
    learn(model, past, form, FOUND[optimizer](model.parameters()))
    rise = nats(model.weight.detach(), inputs, target) - before
    assert form.value(model, past) <= allowed
    assert rise == pytest.approx(form.value(model, past), abs=1e-12)
    assert rise == pytest.approx(allowed, rel=1e-5, abs=1e-12)


def test_it_finds_the_strength_that_spends_what_is_allowed() -> None:
    """At rest the loss's gradient is -λF(θ - θ*); that λ as a fixed strength ends at the same place."""
    found, past = learnt()
    learn(found, past, SurrogateLoss("auto", allowed=0.05), SGD(found.parameters(), lr=0.5), 400)
    strength = past.report["strength"]
    assert past.report["steps"] == 400
    assert 0 < past.report["shortened_steps"] <= 400
    given_, other = learnt()
    learn(given_, other, SurrogateLoss(strength, "half"), SGD(given_.parameters(), lr=0.5), 400)
    torch.testing.assert_close(given_.weight[:, :3], found.weight[:, :3], rtol=0, atol=1e-6)


def test_it_goes_to_the_nearest_place_that_is_allowed() -> None:
    """d / (1 + μH) by hand: H = (1, 3), d = (3, 2), and μ = 1 leave (3/2, 1/2), which cost (9/4 + 3/4) / 2 = 3/2."""
    model = nn.Linear(2, 1, bias=False).double()
    H = torch.tensor([[1.0, 3.0]]).double()
    past = Past(weights={"weight": H}, anchor={"weight": torch.ones(1, 2).double()}, measured=FISHER)
    optimizer = SGD(model.parameters(), lr=0.25, momentum=0.5)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[4.0, 3.0]]))
    model.weight.grad = torch.zeros(1, 2).double()
    with SurrogateLoss("auto", allowed=1.5).constrain(model, optimizer, past):
        optimizer.step()
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[2.5, 1.5]]).double(), rtol=0, atol=1e-6)
    assert past.report == pytest.approx(
        {"steps": 1, "shortened_steps": 1, "multiplier": 1.0, "strength": 2.0}, rel=1e-5
    )


@given(seed=st.integers(0, 1000), allowed=st.floats(1e-8, 10.0), spread=st.integers(0, 8))
def test_the_bound_holds_in_float32_for_any_spread_of_importance(seed: int, allowed: float, spread: int) -> None:
    """And what has no importance moves as in plain training, bit for bit."""
    torch.manual_seed(seed)
    plain, model = network("batch norm", seed).train(), network("batch norm", seed).train()
    omega = {
        n: 10 ** (torch.rand_like(p) * spread - spread / 2) * torch.randint(2, p.shape)
        for n, p in model.named_parameters()
    }
    past = Past(weights=omega, anchor={n: p.detach().clone() for n, p in model.named_parameters()}, measured=FISHER)
    form = SurrogateLoss("auto", allowed=allowed)
    stepper = SGD(model.parameters(), lr=0.5)
    with form.constrain(model, stepper, past):
        for _ in range(2):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
            stepper.step()
            assert form.value(model, past) <= allowed
    for name, parameter in plain.named_parameters():
        free = omega[name] == 0
        expected = parameter.detach() - 0.5 - 0.5
        assert torch.equal(dict(model.named_parameters())[name].detach()[free], expected[free])


def test_allowing_everything_is_plain_training_bit_for_bit() -> None:
    plain, model = (network("dropout", 2).double().eval() for _ in range(2))
    past = Past(**{**vars(held(model)), "measured": FISHER})
    loop(plain, Adam(plain.parameters(), lr=0.1))
    optimizer = Adam(model.parameters(), lr=0.1)
    with SurrogateLoss("auto", allowed=math.inf).constrain(model, optimizer, past):
        loop(model, optimizer)
    assert [bits(p) for p in model.parameters()] == [bits(p) for p in plain.parameters()]
    assert past.report["shortened_steps"] == 0


def test_what_does_not_train_counts_but_does_not_move() -> None:
    model, past = three()
    past = Past(past.weights, past.anchor, measured=FISHER)
    model.bias.requires_grad_(False)
    optimizer = SGD([model.weight], lr=0.1)
    model.weight.grad = torch.zeros(1, 2).double()
    form = SurrogateLoss("auto", allowed=1.0)
    with form.constrain(model, optimizer, past):
        optimizer.step()
    assert model.bias.item() == 2.0
    assert form.value(model, past) == pytest.approx(1.0, rel=1e-5)
    with (
        pytest.raises(MethodError, match="spent 0.5 nats a sample already, and `allowed` is 0.4"),
        SurrogateLoss("auto", allowed=0.4).constrain(model, optimizer, past),
    ):
        pass


def test_several_anchors_count_from_where_each_domain_was_learnt() -> None:
    """Offset 2 is half spent already: 1 of 1.5; the other half a nat is left around the centre."""
    model, past = three()
    H = {"bias": torch.ones(1).double()}
    past = Past(
        past.weights, past.anchor, curvature=H, centre={"bias": torch.ones(1).double()}, offset=2.0, measured=FISHER
    )
    optimizer = SGD(model.parameters(), lr=0.1)
    model.bias.grad = -torch.full((1,), 100.0).double()
    form = SurrogateLoss("auto", anchors="each", allowed=1.5)
    with form.constrain(model, optimizer, past):
        optimizer.step()
    assert model.bias.item() == pytest.approx(2.0, rel=1e-5)
    assert form.value(model, past) == pytest.approx(1.5, rel=1e-5)
    with (
        pytest.raises(MethodError, match="earlier updates spent 1 nats a sample already"),
        SurrogateLoss("auto", anchors="each", allowed=0.9).constrain(model, optimizer, past),
    ):
        pass


def test_a_model_that_left_the_numbers_is_not_hidden() -> None:
    """Whoever watches the loss has to see it."""
    model, past = learnt()
    optimizer = SGD(model.parameters(), lr=0.1)
    for gradient in (math.nan, math.inf):
        model.weight.grad = torch.full((1, 4), gradient).double()
        with SurrogateLoss("auto", allowed=0.1).constrain(model, optimizer, past):
            optimizer.step()
        assert not bool(model.weight.isfinite().any())


@pytest.mark.parametrize(
    ("measured", "found"),
    [
        ({"measure": "mas"}, "this is mas"),
        ({}, "this is None"),
        ({"measure": "fisher", "scaling": {"outliers": "clip", "range": "unit"}}, "with other outliers and range"),
        ({"measure": "fisher", "scaling": {"averaged_first": "filter"}}, "with other averaged_first"),
    ],
)
def test_only_a_fisher_information_as_it_was_measured_is_a_loss(measured: dict, found: str) -> None:
    model, past = three()
    with pytest.raises(MethodError, match=f"{found}.*Use ewc"):
        SurrogateLoss("auto", allowed=0.1).check(
            model, SGD(model.parameters()), Past(past.weights, past.anchor, measured=measured)
        )


def test_nor_is_one_that_was_averaged_over_filters() -> None:
    model, past = three()
    past = Past({"weight": torch.ones(1, 1).double()}, past.anchor, measured=FISHER)
    with pytest.raises(MethodError, match="with other granularity"):
        SurrogateLoss("auto", allowed=0.1).check(model, SGD(model.parameters()), past)


@pytest.mark.parametrize("allowed", [0.05, 0.0, math.inf])
def test_the_setting_survives_a_record(allowed: float) -> None:
    form = SurrogateLoss("auto", anchors="each", allowed=allowed)
    assert form_from(form.settings()) == form


@pytest.mark.parametrize("make", [ewc, ewc_online, ewc_bn])
def test_ewc_takes_an_allowed_loss_in_place_of_a_strength(make: Callable[..., Method]) -> None:
    """Over two updates of a release. Fine-tuning alone would have gone past it."""
    recipe = Recipe(epochs=2, batch_size=4, learning_rate=0.05)
    base = train(SEGMENTER, TinyDomain("site-a"), recipe=recipe, trusted=["reference"])
    first = update(base, TinyDomain("site-b", contrast=0.5), method=make("auto", allowed=0.002), recipe=recipe)
    method = make("auto", allowed=0.003)
    second = update(first, TinyDomain("site-c", contrast=0.3), method=method, recipe=recipe)
    for parent, child, allowed in ((base, first, 0.002), (first, second, 0.003)):
        predicted = method.regularizer.value(child.model, parent.memory.past("fisher"))
        assert 0.5 * allowed < predicted <= allowed
        assert form_from(child.identity.method["regularizer"]) == make("auto", allowed=allowed).regularizer
    free = update(base, TinyDomain("site-b", contrast=0.5), method=make("auto", allowed=math.inf), recipe=recipe)
    assert method.regularizer.value(free.model, base.memory.past("fisher")) > 0.002
    plain = update(base, TinyDomain("site-b", contrast=0.5), method=make(0.0), recipe=recipe)
    assert state(free.model) == state(plain.model)
    assert form_from(free.identity.method["regularizer"]) == make("auto", allowed=math.inf).regularizer
