from __future__ import annotations

import pytest
import torch
from monai.networks import nets
from torch import Tensor, nn

from perdure.models import QuickNAT, fast_kernels, resnet50

NETWORKS = {
    "QuickNAT": lambda: QuickNAT(1, 5, filters=6, kernel_size=3),
    "ResNet-50": lambda: resnet50(3, in_channels=1),
    "UNet": lambda: nets.UNet(2, 1, 3, (4, 8), (2,), act="PRELU", norm="BATCH"),
    "UNet, 3-D": lambda: nets.UNet(3, 1, 3, (4, 8), (2,), act="PRELU"),
    "PReLU by channel": lambda: nn.Sequential(nn.Conv2d(1, 4, 1), nn.PReLU(4)),
    "no convolution": lambda: nn.Sequential(nn.Flatten(), nn.Linear(1024, 3)),
}


def network(kind: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = NETWORKS[kind]().double()
    return model, torch.randn(3, 1, *([32] * (3 if "3-D" in kind else 2)), dtype=torch.float64)


def gradients(model: nn.Module, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    output = model(inputs)
    output.square().mean().backward()
    return output.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_are_the_same_but_for_rounding(kind: str, training: bool) -> None:
    model, inputs = network(kind)
    model.train(training)
    output, plain = gradients(model, inputs)
    with fast_kernels(model):
        found, fast = gradients(model, inputs)
    torch.testing.assert_close(found, output, rtol=1e-8, atol=1e-10)
    largest = max(float(g.abs().max()) for g in plain.values())
    for name, gradient in plain.items():
        torch.testing.assert_close(fast[name], gradient, rtol=1e-6, atol=1e-8 * largest)


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_network_is_as_it_was_afterwards(kind: str) -> None:
    """Values, memory, layouts, classes and settings of layers; also after an error."""
    model, inputs = network(kind)

    def state() -> list[object]:
        tensors = [(t.data_ptr(), t.stride(), t.clone()) for t in model.parameters()]
        layers = [(type(m), getattr(m, "dilation", None), len(m._forward_pre_hooks)) for m in model.modules()]
        return [*[(pointer, stride) for pointer, stride, _ in tensors], *layers, [t.sum() for *_, t in tensors]]

    before = state()
    with fast_kernels(model):
        model(inputs)
    assert state() == before
    with pytest.raises((RuntimeError, ValueError, IndexError)), fast_kernels(model):
        model(torch.zeros(1))
    assert state() == before


def test_what_is_trained_inside_is_kept() -> None:
    model, inputs = network("QuickNAT")
    weight = model.encode1.conv2.weight
    with fast_kernels(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        gradients(model, inputs)
        optimizer.step()
        trained = weight.detach().clone()
    assert model.encode1.conv2.weight is weight
    assert weight.is_contiguous()
    assert torch.equal(weight, trained)


def test_a_checkpoint_of_inside_is_one_of_outside() -> None:
    """Names and values; a PReLU has its slope under the name that it always had."""
    model, _ = network("QuickNAT")
    names = list(model.state_dict())
    with fast_kernels(model):
        inside = model.state_dict()
    assert list(inside) == names
    model.load_state_dict(inside)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_slope_has_the_gradient_that_torch_gives_it(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, g = torch.randn(4, 3, 9, 9).to(dtype), torch.randn(4, 3, 9, 9).to(dtype)
    found = []
    for fast in (False, True):
        model = nn.Sequential(nn.PReLU(init=0.3)).to(dtype)
        inputs = x.clone().requires_grad_()
        if fast:
            with fast_kernels(model):
                model(inputs).backward(g)
        else:
            model(inputs).backward(g)
        found.append((inputs.grad, model[0].weight.grad))
    torch.testing.assert_close(found[1][0], found[0][0])
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-5 if dtype == torch.float32 else 0.02, atol=0)
