from __future__ import annotations

import pytest
from torch import nn

from perdure.errors import BatchNormError, NetworkError
from perdure.models import QuickNAT, head, trainable_parameters


@pytest.fixture
def model() -> QuickNAT:
    return QuickNAT(filters=2, kernel_size=3, classes=3)


def test_all_means_every_parameter(model: QuickNAT) -> None:
    assert trainable_parameters(model, "all") == {name for name, _ in model.named_parameters()}


def test_batch_norm_means_its_two_affine_parameters_and_not_the_head(model: QuickNAT) -> None:
    names = trainable_parameters(model, "batch-norm")
    assert len(names) == 9 * 3 * 2
    assert all(".batchnorm" in name and name.endswith(("weight", "bias")) for name in names)


def test_the_head_is_the_last_layer_with_weights(model: QuickNAT) -> None:
    assert trainable_parameters(model, "head") == {"classifier.conv.weight", "classifier.conv.bias"}
    assert head(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())) == {"0.weight", "0.bias"}
    assert head(nn.Linear(3, 4, bias=False)) == {"weight"}


@pytest.mark.parametrize("which", ["all", "batch-norm", "head"])
def test_a_parameter_that_the_user_froze_stays_frozen(model: QuickNAT, which: str) -> None:
    frozen = {"encode1.batchnorm1.weight", "classifier.conv.bias"}
    for name in frozen:
        model.get_parameter(name).requires_grad_(requires_grad=False)
    assert not trainable_parameters(model, which) & frozen


def test_batch_norm_cannot_train_where_there_is_none() -> None:
    with pytest.raises(BatchNormError, match="no batch norm with parameters"):
        trainable_parameters(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)), "batch-norm")


def test_a_network_without_layers_has_no_head() -> None:
    with pytest.raises(NetworkError, match="no linear or convolutional layer"):
        head(nn.Sequential(nn.BatchNorm1d(2)))
