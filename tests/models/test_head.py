from __future__ import annotations

import pytest
import torch
from torch import nn

from perdure.errors import BatchNormError, NetworkError
from perdure.models import QuickNAT, head, trainable_parameters, training_mode, training_only


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


def test_a_choice_that_does_not_exist_is_refused(model: QuickNAT) -> None:
    with pytest.raises(NetworkError, match=r"`trainable` must be one of .*'batch-norm'.*; got 'bn'"):
        trainable_parameters(model, "bn")


def test_a_head_that_shares_its_weights_with_another_layer_is_found_by_identity() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    assert trainable_parameters(model, "head") == {"0.weight", "2.bias"}


@pytest.mark.parametrize("which", ["all", "batch-norm", "head"])
def test_only_what_was_chosen_moves_though_the_optimizer_holds_everything(model: QuickNAT, which: str) -> None:
    """With momentum and decay, and with gradients from a step before."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)

    def step() -> None:
        model(torch.rand(2, 1, 32, 32)).square().sum().backward()
        optimizer.step()

    with training_mode(model, "target"):
        step()
        chosen = trainable_parameters(model, which)
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        with training_only(model, which):
            step()
            step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == chosen


@pytest.mark.parametrize("which", ["all", "batch-norm", "head"])
def test_what_trains_is_restored_also_after_an_exception(model: QuickNAT, which: str) -> None:
    model.encode1.conv1.weight.requires_grad = False
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    names = trainable_parameters(model, which)
    for error in (False, True):
        try:
            with training_only(model, which):
                assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == names
                if error:
                    raise KeyError
        except KeyError:
            pass
        assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before


def test_gradients_of_the_others_are_cleared_and_those_of_the_chosen_kept(model: QuickNAT) -> None:
    model(torch.rand(2, 1, 32, 32)).sum().backward()
    with training_only(model, "head"):
        with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {"classifier.conv.weight", "classifier.conv.bias"}


@pytest.mark.parametrize("which", ["all", "batch-norm", "head"])
def test_nothing_left_to_train_is_an_error_that_says_so(model: QuickNAT, which: str) -> None:
    model.requires_grad_(False)
    with (
        pytest.raises(NetworkError, match=rf'trainable="{which}" leaves nothing to train'),
        training_only(model, which),
    ):
        pass


def test_batch_norm_cannot_be_all_that_trains_where_it_is_frozen(model: QuickNAT) -> None:
    with training_mode(model, "frozen"), pytest.raises(NetworkError, match='batch_norm="frozen"'):  # noqa: SIM117
        with training_only(model, "batch-norm"):
            pass


def test_training_only_says_where_there_is_no_batch_norm_and_no_head() -> None:
    with pytest.raises(BatchNormError, match="no batch norm with parameters"):  # noqa: SIM117
        with training_only(nn.Linear(2, 2), "batch-norm"):
            pass
    with pytest.raises(NetworkError, match="no linear or convolutional layer"):  # noqa: SIM117
        with training_only(nn.BatchNorm1d(2), "head"):
            pass
