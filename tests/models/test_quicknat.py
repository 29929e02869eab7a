from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from perdure.errors import NetworkError
from perdure.models import QuickNAT

BLOCKS = [*(f"encode{i}" for i in range(1, 5)), "bottleneck", *(f"decode{i}" for i in range(1, 5))]


def small(**arguments: float) -> QuickNAT:
    return QuickNAT(**{"classes": 3, "filters": 4, "kernel_size": 3, **arguments})


def with_known_statistics(model: QuickNAT) -> QuickNAT:
    """Away from mean 0, variance 1 and slope 0.25, so that each tensor has a part in the output."""
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.2, 1.2)
    return model


@pytest.mark.parametrize(("classes", "parameters"), [(20, 3_516_451), (33, 3_517_296)])
def test_it_has_as_many_parameters_as_the_published_network(classes: int, parameters: int) -> None:
    assert sum(p.numel() for p in QuickNAT(classes=classes).parameters()) == parameters


def test_its_state_dict_has_the_published_names() -> None:
    expected = {f"{block}.prelu.weight" for block in BLOCKS} | {"classifier.conv.weight", "classifier.conv.bias"}
    for block in BLOCKS:
        for i in (1, 2, 3):
            expected |= {f"{block}.conv{i}.{key}" for key in ("weight", "bias")}
            expected |= {
                f"{block}.batchnorm{i}.{key}"
                for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
            }
    assert len(expected) == 200
    assert set(small(dropout=0.2).state_dict()) == expected


def test_the_third_convolution_of_a_block_is_1x1_and_the_slope_is_one_number() -> None:
    state = QuickNAT().state_dict()
    assert state["decode1.conv1.weight"].shape == (64, 128, 5, 5)
    assert state["decode1.conv2.weight"].shape == (64, 192, 5, 5)
    assert state["decode1.conv3.weight"].shape == (64, 256, 1, 1)
    assert state["encode1.batchnorm1.weight"].shape == (1,)
    assert state["encode1.prelu.weight"].shape == (1,)


def block_from(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    def step(i: int, x: Tensor) -> Tensor:
        norm = [state[f"{name}.batchnorm{i}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        mean, variance, gamma, beta = (t[:, None, None] for t in norm)
        x = (x - mean) / (variance + 1e-5).sqrt() * gamma + beta
        x = torch.where(x > 0, x, state[f"{name}.prelu.weight"] * x)
        weight = state[f"{name}.conv{i}.weight"]
        return functional.conv2d(x, weight, state[f"{name}.conv{i}.bias"], padding=weight.shape[-1] // 2)

    a = step(1, x)
    b = step(2, torch.cat((x, a), 1))
    return step(3, torch.cat((x, a, b), 1))


def pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum of each 2x2 window, and which of its pixels (row-major) it was."""
    windows = torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=-1)
    return windows.max(-1)


def unpooled(x: Tensor, which: Tensor) -> Tensor:
    up = x.new_zeros(*x.shape[:-2], 2 * x.shape[-2], 2 * x.shape[-1])
    for k in range(4):
        up[..., k // 2 :: 2, k % 2 :: 2] = torch.where(which == k, x, 0)
    return up


def test_it_computes_what_the_publication_says() -> None:
    """Against a reference without modules: decoders in the order 4, 1, 2, 3; the skip connection comes first."""
    model = with_known_statistics(small(in_channels=2).double()).eval()
    x = torch.rand(2, 2, 32, 48, dtype=torch.float64)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    level, skips = x, []
    for name in ("encode1", "encode2", "encode3", "encode4"):
        skip = block_from(state, name, level)
        level, which = pooled(skip)
        skips.append((skip, which))
    level = block_from(state, "bottleneck", level)
    for name in ("decode4", "decode1", "decode2", "decode3"):
        skip, which = skips.pop()
        level = block_from(state, name, torch.cat((skip, unpooled(level, which)), 1))
    expected = functional.conv2d(level, state["classifier.conv.weight"], state["classifier.conv.bias"])
    torch.testing.assert_close(model(x).detach(), expected, rtol=1e-10, atol=1e-12)


@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_any_size_is_padded_with_zeros_and_cropped_back(height: int, width: int) -> None:
    torch.manual_seed(0)
    model = with_known_statistics(small()).eval()
    x = torch.rand(1, 1, height, width)
    padded = torch.zeros(1, 1, 48, 48)[..., : -(-height // 16) * 16, : -(-width // 16) * 16].clone()
    padded[..., :height, :width] = x
    with torch.no_grad():
        logits = model(x)
        assert logits.shape == (1, 3, height, width)
        torch.testing.assert_close(logits, model(padded)[..., :height, :width], rtol=0, atol=0)


def test_every_parameter_gets_a_gradient() -> None:
    model = small()
    model.train()
    model(torch.rand(2, 1, 32, 32)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_dropout_follows_each_encoder_and_decoder_block_and_acts_in_training_only() -> None:
    model = small(dropout=0.5)
    seen: list[tuple[int, ...]] = []
    model.dropout.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[-2:])))
    x = torch.rand(2, 1, 32, 32)
    model.train()
    model(x)
    sides = [32, 16, 8, 4, 4, 8, 16, 32]
    assert seen == [(side, side) for side in sides]
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_dropped_channels_are_missing_in_the_skip_connection_too() -> None:
    model = small(dropout=0.5)
    model.train()
    inputs: list[Tensor] = []
    model.decode3.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    model(torch.rand(4, 1, 32, 32))
    skip = inputs[0][:, :4]
    dropped = (skip == 0).flatten(2).all(2)
    assert dropped.any()
    assert not dropped.all()


def test_dropout_of_zero_changes_no_bit_and_draws_no_random_number() -> None:
    model = small(dropout=0.0)
    model.train()
    before = torch.get_rng_state()
    model(torch.rand(2, 1, 16, 16))
    torch.rand(2, 1, 16, 16)
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    torch.rand(2, 1, 16, 16)
    torch.rand(2, 1, 16, 16)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("kernel_size", 4), ("kernel_size", -1), ("filters", 0), ("classes", 0), ("in_channels", 0), ("dropout", 1.0)],
)
def test_an_argument_outside_its_range_is_refused_by_name(argument: str, value: float) -> None:
    with pytest.raises(NetworkError, match=f"`{argument}` must be .*; got {value}"):
        small(**{argument: value})
