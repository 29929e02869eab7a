from __future__ import annotations

import torch

from perdure.regularization import Past, Regularizer
from reference.networks import bits, network


def test_the_defaults_restrain_nothing() -> None:
    model = network("linear", 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    weights = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    anchor = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    model(torch.ones(1, 2, 6, 6)).sum().backward()
    expected = {name: (p - p.grad).detach() for name, p in model.named_parameters()}
    with Regularizer().constrain(model, optimizer, Past(weights=weights)):
        penalty = Regularizer().penalty(model, Past(weights=weights, anchor=anchor))
        optimizer.step()
    assert penalty.shape == ()
    assert penalty.item() == 0
    assert all(bits(p) == bits(expected[name]) for name, p in model.named_parameters())
