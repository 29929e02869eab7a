from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn

from perdure.errors import BatchNormError
from perdure.models import (
    QuickNAT,
    batch_norms,
    check,
    evaluation_mode,
    load_statistics,
    statistics,
    swapped_statistics,
    training_mode,
)
from perdure.models.batch_norm import affine_parameters

POLICIES = ("target", "original", "frozen", "per-domain", "recalibrated")
HOLDING = ("original", "frozen")


class Nested(nn.Module):
    """Batch norm at three depths and of three kinds, dropout, and a part that its owner keeps in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        self.parts = nn.ModuleList([nn.Sequential(nn.Conv2d(2, 3, 1), nn.Sequential(nn.BatchNorm2d(3, momentum=None)))])
        self.instance = nn.InstanceNorm2d(3)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.ModuleDict({"linear": nn.Linear(3, 4), "norm": nn.BatchNorm1d(4, affine=False)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.instance(self.parts[0](self.norm(x))))
        output: Tensor = self.last["norm"](self.last["linear"](x.mean((2, 3))))
        return output


class BatchNormOfTheirOwn(nn.BatchNorm2d):
    pass


@pytest.fixture
def model() -> Nested:
    model = Nested()
    model.train()
    for _ in range(3):
        model(torch.rand(4, 2, 5, 5) + 1)
    model.parts[0].eval()
    return model


def modes(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: buffer.numpy().tobytes() for name, buffer in model.named_buffers()}


def train(model: nn.Module, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(3 * torch.rand(4, 2, 5, 5)).square().sum().backward()
        optimizer.step()


def test_every_kind_of_batch_norm_is_found_and_no_other_norm() -> None:
    layers = nn.Sequential(
        nn.BatchNorm1d(2),
        nn.BatchNorm2d(2),
        nn.BatchNorm3d(2),
        nn.SyncBatchNorm(2),
        BatchNormOfTheirOwn(2),
        nn.InstanceNorm2d(2, track_running_stats=True),
        nn.GroupNorm(1, 2),
        nn.LayerNorm(2),
    )
    assert set(batch_norms(layers)) == {"0", "1", "2", "3", "4"}
    assert set(batch_norms(nn.BatchNorm2d(2))) == {""}


def test_under_original_no_buffer_changes_by_a_bit_while_gamma_and_beta_train(model: Nested) -> None:
    before, gamma = bits(model), model.norm.weight.detach().clone()
    with training_mode(model, "original"):
        train(model)
    assert bits(model) == before
    assert not torch.equal(model.norm.weight, gamma)


def test_under_original_the_output_is_normalised_by_the_running_statistics() -> None:
    norm = nn.BatchNorm1d(1)
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(4.0 - norm.eps)
    with training_mode(norm, "original"):
        assert norm(torch.tensor([[4.0], [8.0]])).flatten().tolist() == [1.0, 3.0]


@pytest.mark.parametrize("policy", HOLDING)
def test_under_original_and_frozen_all_but_batch_norm_is_in_training_mode(model: Nested, policy: str) -> None:
    with training_mode(model, policy):
        assert {name for name, mode in modes(model).items() if not mode} == {"norm", "parts.0.1.0", "last.norm"}
        x = torch.rand(4, 2, 5, 5)
        assert not torch.equal(model(x), model(x)), "dropout must be active"


@pytest.mark.parametrize("policy", ["target", "per-domain", "recalibrated"])
def test_under_the_others_all_is_in_training_mode_and_the_statistics_follow(model: Nested, policy: str) -> None:
    before = statistics(model)
    with training_mode(model, policy):
        assert all(modes(model).values())
        train(model)
    after = statistics(model)
    assert [name for name in before if torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize("policy", HOLDING)
def test_a_bare_call_of_train_inside_does_not_undo_the_policy(model: Nested, policy: str) -> None:
    before = bits(model)
    with training_mode(model, policy):
        for _ in range(2):
            model.train()
            train(model, steps=1)
            model.eval()
            model(torch.rand(4, 2, 5, 5))
    assert bits(model) == before


OPTIMIZERS = {
    "SGD with momentum and decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize("zeros", [True, False], ids=["gradients zeroed", "gradients cleared"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_under_frozen_no_optimizer_moves_batch_norm_by_a_bit(model: Nested, make, zeros: bool) -> None:
    """Though it holds those parameters, with momentum and a gradient from before."""
    optimizer = make(model.parameters())

    def step() -> None:
        model(torch.rand(4, 2, 5, 5)).square().sum().backward()
        optimizer.step()

    with training_mode(model, "target"):
        step()
    everything = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    with training_mode(model, "frozen"):
        # nothing is cleared before the first step
        step()
        optimizer.zero_grad(set_to_none=not zeros)
        step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, everything[name])}
    assert moved == {"parts.0.0.weight", "parts.0.0.bias", "last.linear.weight", "last.linear.bias"}


def test_frozen_gives_batch_norm_back_its_training_as_it_was_also_after_an_exception(model: Nested) -> None:
    model.norm.bias.requires_grad_(False)
    with training_mode(model, "frozen"):
        assert not any(p.requires_grad for p in affine_parameters(model).values())
        assert model.last.linear.weight.requires_grad
    for _ in range(2):
        assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["norm.bias"]
        with pytest.raises(KeyError), training_mode(model, "frozen"):
            raise KeyError


def test_original_leaves_gradients_and_what_trains_alone(model: Nested) -> None:
    train(model, steps=1)
    gradients = [p.grad for p in model.parameters()]
    with training_mode(model, "original"):
        assert all(p.requires_grad for p in model.parameters())
        assert all(p.grad is gradient for p, gradient in zip(model.parameters(), gradients, strict=True))


@pytest.mark.parametrize("policy", POLICIES)
def test_every_mode_is_restored_also_after_an_exception(model: Nested, policy: str) -> None:
    before = modes(model)
    assert len(set(before.values())) == 2
    with training_mode(model, policy):
        train(model, steps=1)
    assert modes(model) == before
    with pytest.raises(KeyError), training_mode(model, policy):
        raise KeyError
    assert modes(model) == before
    with pytest.raises(KeyError), evaluation_mode(model):
        raise KeyError
    assert modes(model) == before


@pytest.mark.parametrize("policy", POLICIES)
def test_afterwards_nothing_is_left_on_the_network(model: Nested, policy: str) -> None:
    with training_mode(model, policy):
        pass
    assert all(not module._forward_pre_hooks for module in model.modules())
    before = bits(model)
    with training_mode(model, "target"):
        train(model, steps=1)
    assert bits(model) != before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
def test_a_copy_made_under_original_is_free_of_it_afterwards(model: Nested, copied) -> None:
    with training_mode(model, "original"):
        other = copied(model)
    before = bits(other)
    with training_mode(other, "target"):
        train(other, steps=1)
    assert bits(other) != before


def test_evaluation_mode_turns_all_off_and_restores(model: Nested) -> None:
    before = modes(model)
    with evaluation_mode(model):
        assert not any(modes(model).values())
        x = torch.rand(4, 2, 5, 5)
        assert torch.equal(model(x), model(x))
    assert modes(model) == before


def test_evaluation_mode_names_a_buffer_that_moved(model: Nested) -> None:
    moved = r"'parts\.0\.1\.0\.num_batches_tracked', 'parts\.0\.1\.0\.running_mean', 'parts\.0\.1\.0\.running_var' did"
    with pytest.raises(BatchNormError, match=moved), evaluation_mode(model):  # noqa: PT012
        model.parts[0].train()
        model(torch.rand(4, 2, 5, 5))
    assert not model.parts[0].training


def test_evaluation_mode_sees_a_single_bit_and_bears_nan() -> None:
    model = nn.BatchNorm1d(3)
    model.running_mean[0] = float("nan")
    model.running_var[1] = 0.0
    with evaluation_mode(model):
        pass
    with pytest.raises(BatchNormError, match="'running_var' did"), evaluation_mode(model):
        model.running_var[1] = -0.0


def test_evaluation_mode_sees_a_buffer_that_came_or_went() -> None:
    model = nn.Identity()
    with pytest.raises(BatchNormError, match="'counter' did"), evaluation_mode(model):
        model.register_buffer("counter", torch.zeros(()))


@pytest.mark.parametrize("policy", POLICIES[1:])
def test_every_policy_but_target_is_refused_where_there_are_no_running_statistics(policy: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, track_running_stats=False))
    with pytest.raises(BatchNormError, match=rf'"{policy}" needs .* \'1\' has none \(track_running_stats=False\)'):
        check(model, policy)
    with pytest.raises(BatchNormError, match="'1'"), training_mode(model, policy):
        pass
    assert check(model, "target") is None


@pytest.mark.parametrize("policy", POLICIES[1:])
def test_a_network_without_batch_norm_gets_a_note_that_the_policy_does_nothing(policy: str) -> None:
    note = check(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.InstanceNorm2d(2)), policy)
    assert note is not None
    assert f'no batch norm: batch_norm="{policy}" and "target" are the same' in note
    assert check(QuickNAT(filters=2, kernel_size=3), policy) is None
    assert check(nn.Linear(2, 2), "target") is None


def test_a_policy_that_does_not_exist_is_refused_not_taken_for_target() -> None:
    with pytest.raises(BatchNormError, match=r"no batch-norm policy 'fozen'; allowed are .*'per-domain'"):
        check(nn.Linear(2, 2), "fozen")
    with pytest.raises(BatchNormError, match="'fozen'"), training_mode(nn.Linear(2, 2), "fozen"):
        pass


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())


def fused_for_training() -> nn.Module:
    from torch.ao.quantization import fuse_modules_qat

    return fuse_modules_qat(plain().train(), [["0", "1", "2"]])


def fused_for_inference() -> nn.Module:
    from torch.ao.quantization import fuse_modules

    return fuse_modules(plain().eval(), [["0", "1", "2"]])


def quantized() -> nn.Module:
    from torch.ao.nn.quantized import BatchNorm2d

    return nn.Sequential(nn.Identity(), BatchNorm2d(2))


def exported() -> nn.Module:
    return torch.export.export(plain().eval(), (torch.rand(1, 1, 8, 8),)).module()


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        # torch calls TorchScript deprecated; people still have such files
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(plain())


def tracking_instance_norm() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(2), nn.InstanceNorm2d(2, track_running_stats=True))


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (fused_for_training, "'0'"),
        (fused_for_inference, "'0'"),
        (quantized, "'1'"),
        (exported, "'1'"),
        (scripted, "'1'"),
        (tracking_instance_norm, "'1'"),
        (lambda: nn.InstanceNorm2d(2, track_running_stats=True), "'InstanceNorm2d'"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
@pytest.mark.parametrize("policy", POLICIES[1:])
def test_batch_norm_out_of_reach_is_refused_by_name(network, name: str, policy: str) -> None:
    model = network()
    with pytest.raises(BatchNormError, match=f'"{policy}" cannot reach {name}: batch norm fused'):
        check(model, policy)
    assert check(model, "target") is None


def test_batch_norm_folded_into_a_plain_convolution_leaves_no_trace() -> None:
    """The limit of what can be detected: such a network counts as one without batch norm."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    conv, norm, relu = plain().eval()
    assert "no batch norm" in (check(nn.Sequential(fuse_conv_bn_eval(conv, norm), relu), "original") or "")


def test_statistics_are_copies_under_full_names(model: Nested) -> None:
    found = statistics(model)
    assert set(found) == {
        f"{name}.{key}"
        for name in ("norm", "parts.0.1.0", "last.norm")
        for key in ("running_mean", "running_var", "num_batches_tracked")
    }
    before = bits(model)
    for tensor in found.values():
        tensor.zero_()
    assert bits(model) == before
    assert set(statistics(nn.BatchNorm1d(2))) == {"running_mean", "running_var", "num_batches_tracked"}
    assert statistics(nn.BatchNorm1d(2, track_running_stats=False)) == {}


def test_loaded_statistics_are_those_that_were_saved(model: Nested) -> None:
    saved, before = statistics(model), bits(model)
    with training_mode(model, "target"):
        train(model)
    assert bits(model) != before
    load_statistics(model, saved)
    assert bits(model) == before


def test_statistics_that_do_not_fit_are_refused_and_nothing_is_written(model: Nested) -> None:
    before = bits(model)
    other = {name: tensor + 1 for name, tensor in statistics(model).items()}
    missing = {name: tensor for name, tensor in other.items() if name != "norm.running_var"}
    with pytest.raises(BatchNormError, match=r"missing for 'norm\.running_var'"):
        load_statistics(model, missing)
    with pytest.raises(BatchNormError, match=r"no batch-norm statistics called 'else\.running_mean'"):
        load_statistics(model, other | {"else.running_mean": torch.zeros(1)})
    with pytest.raises(BatchNormError, match=r"last\.norm\.running_mean: found shape \(5,\); the network has \(4,\)"):
        load_statistics(model, other | {"last.norm.running_mean": torch.zeros(5)})
    assert bits(model) == before


def test_swapped_statistics_act_inside_and_the_own_ones_are_back_bit_for_bit(model: Nested) -> None:
    model.norm.running_mean[0] = float("nan")
    model.norm.running_var[0] = -0.0
    before = bits(model)
    other = {name: tensor + 2 for name, tensor in statistics(Nested()).items()}
    with swapped_statistics(model, other):
        assert all(torch.equal(tensor, other[name]) for name, tensor in statistics(model).items())
        with evaluation_mode(model):
            assert model(torch.rand(4, 2, 5, 5)).isfinite().all()
        with training_mode(model, "target"):
            train(model, steps=1)
    assert bits(model) == before
    with pytest.raises(KeyError), swapped_statistics(model, other):
        raise KeyError
    assert bits(model) == before


def test_swapped_statistics_that_do_not_fit_are_refused(model: Nested) -> None:
    before = bits(model)
    with pytest.raises(BatchNormError, match="statistics are missing"), swapped_statistics(model, {}):
        pass
    assert bits(model) == before


def test_a_network_saved_under_original_can_be_read_by_name(model: Nested) -> None:
    stream = io.BytesIO()
    with training_mode(model, "original"):
        torch.save(model.state_dict(), stream)
    stream.seek(0)
    assert set(torch.load(stream, weights_only=True)) == set(model.state_dict())
