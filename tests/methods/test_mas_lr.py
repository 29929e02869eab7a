from __future__ import annotations

import pytest
import torch
from torch import nn

from perdure.importance import MAS, Scaling
from perdure.methods import mas_lr
from perdure.regularization import LearningRate
from perdure.update import consolidate, retain


def test_it_is_published_with_filters_and_trains_with_target_statistics() -> None:
    method = mas_lr()
    assert (method.importance, method.regularizer) == (MAS(scaling=Scaling()), LearningRate())
    assert (method.granularity, method.batch_norm, method.data) == ("filter", "target", "target")


@pytest.mark.parametrize("granularity", ["parameter", "kernel", "filter"])
def test_granularity_and_batch_norm_are_settings(granularity) -> None:
    method = mas_lr(granularity, "original")
    assert (method.granularity, method.batch_norm) == (granularity, "original")


def test_a_step_by_hand() -> None:
    r"""Eq. 1, scaling, filter means and Eq. 3 on F(x) = W x with two outputs and logits as output.

    One sample x = (1, 2), W = [[1, 0], [0, 0.25]]: F = (1, 0.5), and d‖F‖²/dW_ij = 2 F_i x_j gives
    Ω = [[2, 4], [1, 2]]. Quartiles 1.75 and 2.5 reach from 0.625 to 3.625, so 4 becomes 3.625. Mapped to [0, 1]:
    [[1, 2.625], [0, 1]] / 2.625; filter (row) means: 3.625 / 5.25 and 1 / 5.25.
    A step of SGD at rate 1 with gradient 1 then moves the rows by 1 - 0.690476 and 1 - 0.190476.
    """
    model = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.25]]))
    method = mas_lr()
    memory = consolidate(model, [torch.tensor([[1.0, 2.0]]).double()], MAS("logits"), method.granularity)
    assert memory.weights["weight"].flatten().tolist() == pytest.approx([3.625 / 5.25, 1 / 5.25], abs=1e-10)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.weight.grad = torch.ones(2, 2).double()
    with retain(model, optimizer, memory, method.regularizer, method.batch_norm):
        optimizer.step()
    expected = torch.tensor([[1 - 3.625 / 5.25], [1 - 1 / 5.25]], dtype=torch.float64).expand(2, 2)
    torch.testing.assert_close(memory.anchor["weight"] - model.weight.detach(), expected, rtol=0, atol=1e-10)
