"""What keeps the outputs on the old domain bit for bit: frozen weights and frozen statistics, neither alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from perdure.models import (
    QuickNAT,
    batch_norm_state,
    evaluation_mode,
    load_batch_norm_state,
    recalibrate,
    statistics,
    swapped_statistics,
    training_mode,
    training_only,
)


class Extended(nn.Module):
    """A deployed network, and a new layer on its logits that may learn the new domain."""

    def __init__(self, deployed: nn.Module) -> None:
        super().__init__()
        self.deployed = deployed
        self.new = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.new(self.deployed(x))
        return output


def quicknat() -> nn.Module:
    return QuickNAT(classes=3, filters=4, kernel_size=3, dropout=0.2)


def monai_unet() -> nn.Module:
    from monai.networks.nets import UNet

    return UNet(2, 1, 3, channels=(4, 8), strides=(2,), num_res_units=1, norm="batch", dropout=0.1)


@pytest.fixture(params=[quicknat, monai_unet])
def model(request: pytest.FixtureRequest) -> Extended:
    """Trained a little on the old domain, so that its statistics are not the initial ones."""
    model = Extended(request.param())
    with training_mode(model, "target"):
        train(model, old())
    return model


def old() -> Tensor:
    return torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def new() -> Tensor:
    return 2 - 3 * torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(2))


def train(model: Extended, x: Tensor) -> None:
    """With momentum and decay, by an optimizer that holds every parameter."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (model(x) - x).square().mean().backward()
        optimizer.step()


def outputs(model: Extended) -> Tensor:
    with torch.no_grad(), evaluation_mode(model):
        result: Tensor = model.deployed(old())
        return result


def is_same(a: Tensor, b: Tensor) -> bool:
    return a.numpy().tobytes() == b.numpy().tobytes()


def parameters(model: nn.Module) -> dict[str, bytes]:
    return {name: parameter.detach().numpy().tobytes() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("policy", ["original", "frozen"])
def test_frozen_weights_and_frozen_statistics_keep_the_old_outputs_bit_for_bit(model: Extended, policy: str) -> None:
    before, head = outputs(model), model.new.weight.detach().clone()
    with training_mode(model, policy), training_only(model, "head"):
        train(model, new())
    assert is_same(outputs(model), before)
    assert not torch.equal(model.new.weight, head), "the new layer must have learnt"


@pytest.mark.parametrize("policy", ["target", "per-domain", "recalibrated"])
def test_frozen_weights_alone_are_not_enough(model: Extended, policy: str) -> None:
    """No weight of the deployed network moves by a bit, and its outputs on the old domain are others."""
    before, weights = outputs(model), parameters(model.deployed)
    with training_mode(model, policy), training_only(model, "head"):
        train(model, new())
    assert parameters(model.deployed) == weights
    assert (outputs(model) - before).abs().max() > 0.01


def test_frozen_weights_are_not_enough_for_statistics_estimated_anew(model: Extended) -> None:
    before, weights = outputs(model), parameters(model)
    recalibrate(model, [new()])
    assert parameters(model) == weights
    assert (outputs(model) - before).abs().max() > 0.01


@pytest.mark.parametrize("policy", ["original", "frozen"])
def test_frozen_statistics_alone_are_not_enough(model: Extended, policy: str) -> None:
    before, tracked = outputs(model), statistics(model)
    with training_mode(model, policy):
        train(model, new())
    assert all(is_same(value, tracked[name]) for name, value in statistics(model).items())
    assert (outputs(model) - before).abs().max() > 0.01


def test_old_statistics_put_back_show_that_all_of_it_sat_in_them(model: Extended) -> None:
    """Frozen weights, drifted statistics: with the old ones the outputs are the old ones, bit for bit."""
    before, tracked = outputs(model), statistics(model)
    with training_mode(model, "target"), training_only(model, "head"):
        train(model, new())
    with swapped_statistics(model, tracked):
        assert is_same(outputs(model), before)
    assert not is_same(outputs(model), before)


def test_the_old_set_put_back_brings_the_old_outputs_back_where_only_batch_norm_trained(model: Extended) -> None:
    before, own = outputs(model), batch_norm_state(model)
    with training_mode(model, "per-domain"), training_only(model, "batch-norm"):
        train(model, new())
    updated = copy.deepcopy(model)
    load_batch_norm_state(model, own)
    assert is_same(outputs(model), before)
    assert not is_same(outputs(updated), before)
