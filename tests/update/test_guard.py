from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from perdure.errors import DivergenceError
from perdure.update.guard import Guard, gradient_norm

NAN, INF = math.nan, math.inf


def test_a_good_step_passes_and_the_first_loss_is_kept() -> None:
    guard = Guard()
    guard.check(2.5, 1.0, 0, 0)
    guard.check(1.0, 1e9, 0, 1)
    assert guard.first_loss == 2.5


@pytest.mark.parametrize(
    ("loss", "norm", "message"),
    [
        (NAN, 1.0, r"The loss became nan in epoch 3, step 8\."),
        (INF, 1.0, r"The loss became inf in epoch 3, step 8\."),
        (1.0, NAN, r"The gradient's norm became nan in epoch 3, step 8 \(loss 1\)\."),
        (1.0, INF, r"The gradient's norm became inf in epoch 3, step 8 \(loss 1\)\."),
        (251.0, 1.0, r"The loss rose from 2\.5 to 251 by epoch 3, step 8\."),
    ],
)
def test_it_says_what_was_seen_where_and_what_helps(loss: float, norm: float, message: str) -> None:
    with pytest.raises(DivergenceError, match=message + r" Lower the learning rate \(--learning-rate\), or clip"):
        Guard(first_loss=2.5).check(loss, norm, epoch=2, step=7)


@pytest.mark.parametrize(("first", "largest"), [(2.5, 250.0), (0.001, 100.0)])
def test_a_loss_explodes_at_a_hundred_times_the_first_and_above_100(first: float, largest: float) -> None:
    """So that a network that is good already may lose a little."""
    Guard(first).check(largest, 1.0, 0, 0)
    with pytest.raises(DivergenceError):
        Guard(first).check(math.nextafter(largest, INF), 1.0, 0, 0)


@pytest.mark.parametrize("loss", [NAN, INF])
def test_a_validation_loss_must_be_a_number(loss: float) -> None:
    with pytest.raises(DivergenceError, match=f"The validation loss became {loss} after epoch 3. Lower"):
        Guard().check_validation(loss, epoch=2)
    Guard(first_loss=1.0).check_validation(1e6, epoch=2)


def test_the_norm_is_over_all_gradients_together() -> None:
    model = nn.Linear(1, 1)
    assert gradient_norm(model.parameters()).item() == 0
    model.weight.grad = torch.tensor([[3.0]])
    assert gradient_norm(model.parameters()).item() == 3
    model.bias.grad = torch.tensor([-4.0])
    assert gradient_norm(model.parameters()).item() == 5
