from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from perdure.regularization import scaled_steps
from perdure.regularization.quadratic import Quadratic
from perdure.regularization.steps import pulled_steps

SHARES = {
    "few ends": lambda shape: torch.rand(shape).mul(0.9).add(0.05).flatten().index_fill(0, torch.tensor([3, 40]), 0.0)
    .index_fill(0, torch.tensor([5]), 1.0).reshape(shape),
    "a mask": lambda shape: (torch.rand(shape) > 0.5).float(),
    "a filter": lambda shape: torch.rand(shape[0], 1, 1, 1).expand(shape),
}  # fmt: skip


def stepped(
    share: Tensor,
    layout: torch.memory_format,
    optimizer: type[torch.optim.Optimizer],
    later: torch.memory_format,
    **how: float,
) -> tuple[nn.Conv2d, Tensor, Tensor]:
    """A convolution after three steps in part, where it was before the last, and where all of that would lead."""
    torch.manual_seed(1)
    model = nn.Conv2d(4, 6, 3, bias=False).to(memory_format=layout)
    steps = optimizer(model.parameters(), lr=0.1, **how)
    old = whole = model.weight.detach().clone()
    with scaled_steps(model, steps, {"weight": share}):
        for number in range(3):
            if number == 2:
                model.to(memory_format=later)
            old = model.weight.detach().clone()
            model.weight.grad = torch.randn(6, 4, 3, 3)
            twin = nn.Conv2d(4, 6, 3, bias=False)
            twin.load_state_dict(model.state_dict())
            alone = optimizer(twin.parameters(), lr=0.1, **how)
            state = copy.deepcopy(steps.state_dict())
            if state["state"]:
                alone.load_state_dict(state)
            twin.weight.grad = model.weight.grad.clone()
            alone.step()
            whole = twin.weight.detach()
            steps.step()
    return model, old, whole


@pytest.mark.parametrize("kind", SHARES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("later", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("optimizer", "how"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
        (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (torch.optim.SGD, {}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_a_part_of_the_whole_step_is_taken_and_both_ends_are_exact(
    kind: str,
    layout: torch.memory_format,
    later: torch.memory_format,
    optimizer: type[torch.optim.Optimizer],
    how: dict[str, float],
) -> None:
    """In whatever memory layout the weights are, also where it changes between two steps."""
    torch.manual_seed(0)
    share = SHARES[kind]((6, 4, 3, 3))
    model, old, whole = stepped(share, layout, optimizer, later, **how)
    new = model.weight.detach()
    torch.testing.assert_close(new, old + share * (whole - old), rtol=0, atol=1e-6)
    assert torch.equal(new[share == 0], old[share == 0])
    assert torch.equal(new[share == 1], whole[share == 1])


def test_a_parameter_without_a_gradient_stays_where_it_is() -> None:
    """Its momentum is still there from earlier steps, and moves nothing."""
    model = nn.Linear(8, 8, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with scaled_steps(model, optimizer, {"weight": torch.full((8, 8), 0.5)}):
        model.weight.grad = torch.ones(8, 8)
        optimizer.step()
        before = model.weight.detach().clone()
        model.weight.grad = None
        optimizer.step()
    assert torch.equal(model.weight.detach(), before)


def test_what_stays_is_what_somebody_else_has_put_there_between_two_steps() -> None:
    """The values before a step are not read again where nobody changed them; here somebody does."""
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with scaled_steps(model, optimizer, {"weight": torch.tensor([[False, True]])}):
        for value in (1.0, 1.0, 5.0):
            if value == 5.0:
                with torch.no_grad():
                    model.weight.fill_(value)
            model.weight.grad = torch.full((1, 2), 0.5)
            kept = model.weight[0, 0].item()
            optimizer.step()
            assert model.weight[0, 0].item() == kept
    assert model.weight.tolist() == [[5.0, 4.5]]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("centred", [False, True])
def test_a_pull_of_whole_filters_goes_by_the_rate_of_each_weight(
    optimizer: type[torch.optim.Optimizer], centred: bool
) -> None:
    """To (θ + a c) / (1 + a); a filter without a bend and one that is held fast are where they belong to the bit."""
    torch.manual_seed(3)
    bend = torch.tensor([0.0, 0.5, float("inf")]).reshape(3, 1, 1, 1)
    model = nn.Conv2d(2, 3, 3, bias=False)
    free = copy.deepcopy(model)
    anchor = torch.randn_like(model.weight)
    centre = {"weight": 0.1 * torch.randn_like(anchor)} if centred else {}
    ours, theirs = (optimizer(one.parameters(), lr=0.1) for one in (model, free))
    gradient = torch.randn_like(anchor)
    with pulled_steps(model, ours, Quadratic({"weight": bend}, {"weight": anchor}, centre), 2.0):
        for one, steps in ((model, ours), (free, theirs)):
            one.weight.grad = gradient.clone()
            steps.step()
    rate = 0.1 / (gradient.abs() + 1e-8) if optimizer is torch.optim.Adam else 0.1
    a, place = 2 * rate * bend, anchor + centre.get("weight", torch.zeros(()))
    expected = torch.where(a == torch.inf, place, (free.weight + a * place) / (1 + a))
    torch.testing.assert_close(model.weight, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(model.weight[0], free.weight[0])
    assert torch.equal(model.weight[2], place[2])
