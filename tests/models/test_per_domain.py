from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from perdure.errors import BatchNormError
from perdure.models import (
    QuickNAT,
    batch_norm_state,
    evaluation_mode,
    load_batch_norm_state,
    training_mode,
    training_only,
)

KEYS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@pytest.fixture
def model() -> QuickNAT:
    return QuickNAT(filters=2, kernel_size=3, classes=3)


def output(model: nn.Module, x: Tensor) -> bytes:
    with torch.no_grad(), evaluation_mode(model):
        return model(x).numpy().tobytes()


def train(model: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def bits(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()}


def test_a_set_holds_affine_parameters_and_statistics_of_every_batch_norm_and_nothing_else(model: QuickNAT) -> None:
    blocks = [*(f"encode{i}" for i in range(1, 5)), "bottleneck", *(f"decode{i}" for i in range(1, 5))]
    expected = {f"{block}.batchnorm{i}.{key}" for block in blocks for i in (1, 2, 3) for key in KEYS}
    assert set(batch_norm_state(model)) == expected
    assert set(batch_norm_state(nn.BatchNorm1d(2))) == set(KEYS)
    assert set(batch_norm_state(nn.BatchNorm1d(2, affine=False))) == set(KEYS[2:])
    assert set(batch_norm_state(nn.BatchNorm1d(2, track_running_stats=False))) == set(KEYS[:2])
    assert batch_norm_state(nn.Linear(2, 2)) == {}


def test_a_set_is_a_copy(model: QuickNAT) -> None:
    before = bits(model.state_dict())
    for tensor in batch_norm_state(model).values():
        assert not tensor.requires_grad
        tensor.fill_(9)
    assert bits(model.state_dict()) == before


def test_one_network_serves_every_domain_with_the_set_of_that_domain(model: QuickNAT) -> None:
    """Three domains, of which each trains batch norm only: the outputs on all three stay bit for bit."""
    sets, outputs, images = [], [], [scale * torch.rand(2, 1, 32, 32) for scale in (1, 3, 9)]
    for x in images:
        with training_mode(model, "per-domain"), training_only(model, "batch-norm"):
            train(model, x)
        sets.append(batch_norm_state(model))
        outputs.append(output(model, x))
    for own, x, expected in zip(sets, images, outputs, strict=True):
        load_batch_norm_state(model, own)
        assert output(model, x) == expected
    load_batch_norm_state(model, sets[0])
    assert output(model, images[1]) != outputs[1], "the set of another domain must matter"


def test_where_shared_weights_train_too_the_old_set_does_not_bring_the_old_outputs_back(model: QuickNAT) -> None:
    x = torch.rand(2, 1, 32, 32)
    own, before = batch_norm_state(model), output(model, x)
    with training_mode(model, "per-domain"):
        train(model, 3 * x)
    load_batch_norm_state(model, own)
    assert output(model, x) != before


def test_loading_leaves_the_parameters_themselves_in_place(model: QuickNAT) -> None:
    """An optimizer that holds them still does, and what was frozen stays so."""
    parameters = dict(model.named_parameters())
    parameters["encode1.batchnorm1.weight"].requires_grad = False
    load_batch_norm_state(model, {name: tensor + 1 for name, tensor in batch_norm_state(model).items()})
    assert all(parameters[name] is parameter for name, parameter in model.named_parameters())
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {"encode1.batchnorm1.weight"}
    assert model.encode1.batchnorm1.weight.item() == 2


def test_a_set_that_does_not_fit_is_refused_and_nothing_is_written(model: QuickNAT) -> None:
    before = bits(model.state_dict())
    other = {name: tensor + 1 for name, tensor in batch_norm_state(model).items()}
    missing = {name: tensor for name, tensor in other.items() if name != "decode1.batchnorm2.bias"}
    with pytest.raises(BatchNormError, match=r"values are missing for 'decode1\.batchnorm2\.bias'"):
        load_batch_norm_state(model, missing)
    with pytest.raises(BatchNormError, match=r"no batch-norm values called 'classifier\.conv\.bias'"):
        load_batch_norm_state(model, other | {"classifier.conv.bias": torch.zeros(3)})
    with pytest.raises(BatchNormError, match=r"batchnorm2\.bias: found shape \(9,\); the network has \(6,\)"):
        load_batch_norm_state(model, other | {"decode1.batchnorm2.bias": torch.zeros(9)})
    assert bits(model.state_dict()) == before
