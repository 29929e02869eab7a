from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from perdure.errors import MethodError
from perdure.importance import MAS, SI
from perdure.regularization import scaled_steps
from perdure.update import Recipe, train
from reference.domains import TinyDomain, classifier
from reference.networks import bits, network, samples, target_for


class Point(nn.Module):
    """θ, in float64."""

    def __init__(self, *start: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(start, dtype=torch.float64))


def descend(model, optimizer, h, steps: int, state: dict, measure: SI | None = None) -> dict:
    """Steps on L = ½ Σ h θ², watched."""
    with (measure or SI()).watching(model, optimizer, state):
        for _ in range(steps):
            optimizer.zero_grad()
            (0.5 * h * model.theta.square()).sum().backward()
            optimizer.step()
    return state


@given(
    h=st.floats(0.1, 3), start=st.floats(-3, 3), rate=st.floats(0.01, 0.5), steps=st.integers(1, 20),
    damping=st.floats(1e-3, 1),
)  # fmt: skip
def test_a_quadratic_under_plain_descent_in_closed_form(h, start, rate, steps, damping) -> None:
    r"""On L = h θ² / 2 each step multiplies θ by r = 1 - η h, and does the work g (θ_t - θ_{t+1}) = η h² θ_t². In all

    η h² θ_0² Σ_{t<T} r^{2t} = η h² θ_0² (1 - r^{2T}) / (1 - r²), over a way of θ_0 (1 - r^T).
    """
    model = Point(start)
    state = descend(model, torch.optim.SGD(model.parameters(), lr=rate), h, steps, {})
    r = 1 - rate * h
    work = rate * h**2 * start**2 * (1 - r ** (2 * steps)) / (1 - r**2)
    expected = torch.tensor([work / ((start * (1 - r**steps)) ** 2 + damping)], dtype=torch.float64)
    assert_close(SI(damping).estimate(model, [], watched=state)["theta"], expected, rtol=1e-10, atol=1e-12)


def test_the_work_of_small_steps_is_the_fall_of_the_loss() -> None:
    """The path integral of the gradient is the loss at the start less that at the end, parameter by parameter."""
    model, h = Point(1.0, -2.0), torch.tensor([1.0, 0.5], dtype=torch.float64)
    before = 0.5 * h * model.theta.detach().square()
    state = descend(model, torch.optim.SGD(model.parameters(), lr=1e-3), h, 1000, {})
    assert_close(state["work"]["theta"], before - 0.5 * h * model.theta.detach().square(), rtol=1e-3, atol=0)


def test_work_against_the_loss_counts_for_nothing() -> None:
    """Uphill every step does negative work."""
    model = Point(1.0)
    state = descend(model, torch.optim.SGD(model.parameters(), lr=0.1, maximize=True), 1.0, 3, {})
    assert state["work"]["theta"].item() < 0
    assert SI().estimate(model, [], watched=state)["theta"].item() == 0


def test_what_counts_is_the_step_that_was_really_taken() -> None:
    """Three quarters of every step is a learning rate of three quarters; a restraint is entered before."""
    held, slow = Point(1.0, 2.0), Point(1.0, 2.0)
    optimizer = torch.optim.SGD(held.parameters(), lr=0.1)
    with scaled_steps(held, optimizer, {"theta": torch.tensor([0.75], dtype=torch.float64)}):
        one = descend(held, optimizer, 1.0, 5, {})
    other = descend(slow, torch.optim.SGD(slow.parameters(), lr=0.075), 1.0, 5, {})
    assert_close(one["work"]["theta"], other["work"]["theta"], rtol=1e-10, atol=0)


def test_a_path_in_two_parts_is_one_path() -> None:
    """The state of the first part is saved, read and given back; momentum goes on in between."""
    whole, parts = Point(1.0, -3.0), Point(1.0, -3.0)
    expected = descend(whole, torch.optim.SGD(whole.parameters(), lr=0.1, momentum=0.5), 1.0, 6, {})
    optimizer = torch.optim.SGD(parts.parameters(), lr=0.1, momentum=0.5)
    state = copy.deepcopy(descend(parts, optimizer, 1.0, 2, {}))
    found = descend(parts, optimizer, 1.0, 4, state)
    assert bits(SI().estimate(parts, [], watched=found)["theta"]) == bits(
        SI().estimate(whole, [], watched=expected)["theta"]
    )


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_watching_changes_no_step(make) -> None:
    def trained(watched: bool) -> dict[str, bytes]:
        model = network("batch norm", 0).train()
        optimizer = make(model.parameters(), lr=0.05)
        torch.manual_seed(0)
        x = samples(4, 1)
        with SI().watching(model, optimizer if watched else make([nn.Parameter(torch.ones(1))], lr=1), {}):
            for _ in range(3):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), target_for(model, x, 1)).backward()
                optimizer.step()
        return {name: bits(value) for name, value in model.state_dict().items()}

    assert trained(watched=True) == trained(watched=False)


def test_after_watching_nothing_is_gathered_any_more() -> None:
    model = Point(1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = descend(model, optimizer, 1.0, 2, {})
    before = bits(state["work"]["theta"])
    model.theta.grad = torch.ones_like(model.theta)
    optimizer.step()
    assert bits(state["work"]["theta"]) == before


def test_what_was_frozen_or_not_trained_did_nothing_for_the_loss() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).double()
    model[0].requires_grad_(False)
    optimizer, state = torch.optim.SGD(model[1].parameters(), lr=0.1), {}
    with SI().watching(model, optimizer, state):
        model(torch.ones(1, 1, dtype=torch.float64)).sum().backward()
        optimizer.step()
    model[0].requires_grad_(True)
    omega = SI().estimate(model, [], watched=state)
    assert [omega[f"0.{name}"].item() for name in ("weight", "bias")] == [0, 0]
    assert omega["1.bias"].item() > 0
    assert not any(value.any() for value in SI().estimate(model, [], watched={}).values())


def test_a_step_that_mixed_precision_leaves_out_did_no_work() -> None:
    """A fused optimizer's hooks run although it does not move; 0 times an infinite gradient is NaN."""
    model, state = Point(1.0), {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu")
    with SI().watching(model, optimizer, state):
        scaler.scale((model.theta * float("inf")).sum()).backward()
        scaler.step(optimizer)
    assert state["work"]["theta"].item() == 0


def test_small_importance_of_half_precision_is_kept() -> None:
    """g = 1e-3 and a step of 1e-6 from 0 do the work 1e-9, over 1e-12 + 0.1: float16 ends at 6e-8."""
    model = Point(0.0).half()
    model.theta.grad = torch.full((1,), 1e-3, dtype=torch.float16)
    optimizer, state = torch.optim.SGD(model.parameters(), lr=1e-3), {}
    with SI().watching(model, optimizer, state):
        optimizer.step()
    omega = SI().estimate(model, [], watched=state)["theta"]
    assert omega.dtype == torch.float32
    assert omega.item() == pytest.approx(1e-8, rel=0.1)


def test_a_model_trained_elsewhere_has_no_path() -> None:
    with pytest.raises(MethodError, match="SI is gathered while a model trains; this one was trained elsewhere"):
        SI().estimate(Point(1.0), [])


@pytest.mark.parametrize("damping", [0.0, -1.0, float("inf"), float("nan")])
def test_damping_must_be_a_number_above_0(damping: float) -> None:
    with pytest.raises(MethodError, match="`damping` must be above 0 and finite"):
        SI(damping)


def test_a_run_that_is_stopped_and_continued_has_the_same_importance_bit_for_bit(tmp_path: Path) -> None:
    def stop(rank: int, epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    recipe = Recipe(epochs=3, batch_size=4, learning_rate=0.05)
    domain = TinyDomain(task="classification")

    def base(of: TinyDomain, out: Path):
        torch.manual_seed(0)
        return train(classifier(dropout=0.5), of, recipe=recipe, measures=(SI(), SI(0.5), MAS()), out=out)

    whole = base(domain, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        base(replace(domain, watch=stop), tmp_path / "parts")
    parts = base(domain, tmp_path / "parts")
    assert parts.memory.measures.keys() == {"si", "si-damping0.5", "mas"}
    for key, measure in whole.memory.measures.items():
        assert any(value.any() for value in measure.latest.values())
        for name, value in measure.latest.items():
            assert bits(parts.memory.measures[key].latest[name]) == bits(value)
