"""Real architectures at their smallest, and their importance as one would first write it: one sample at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from monai.networks import nets
from torch import Tensor, nn

from perdure.models import QuickNAT, head, resnet50
from perdure.types import IGNORED

CLASSES = 3


class Odd(nn.Module):
    """Conv1d, grouped and transposed convolutions, group norm, attention, one PReLU used three times, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 8, 3, padding=1, groups=2)
        self.group = nn.GroupNorm(2, 8)
        self.prelu = nn.PReLU()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up = nn.ConvTranspose1d(8, 4, 2, stride=2, groups=2)
        self.instance = nn.InstanceNorm1d(4, affine=True)
        self.one = nn.Linear(4, 4)
        self.other = nn.Linear(4, 4)
        self.other.weight = self.one.weight
        self.last = nn.Conv1d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.group(self.first(x))).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = self.prelu(self.instance(self.up(x.transpose(1, 2)))).transpose(1, 2)
        x = self.prelu(self.other(self.one(x)))
        return self.last(x.transpose(1, 2))


def _resnet() -> nn.Module:
    """With small residual branches, as in a trained one: at random they double the activations of every block."""
    model = resnet50(in_channels=3, classes=CLASSES)
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.constant_(parameter, 0.2)
    return model


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "QuickNAT": (lambda: QuickNAT(in_channels=1, classes=CLASSES), (1, 16, 16)),
    "ResNet-50": (_resnet, (3, 32, 32)),
    "bottlenecks": (
        lambda: nets.ResNet(
            "bottleneck", (1, 1, 1, 1), [4, 8, 16, 32], spatial_dims=2, n_input_channels=3, num_classes=CLASSES
        ),
        (3, 32, 32),
    ),
    "UNet, 3-D": (
        lambda: nets.UNet(3, 1, CLASSES, channels=(4, 8), strides=(2,), num_res_units=1, norm="batch"),
        (1, 8, 8, 8),
    ),
    "SwinUNETR": (
        # group norm, because instance norm of 2 x 2 pixels is mostly rounding; DynUNet has instance norm
        lambda: nets.SwinUNETR(
            1, CLASSES, feature_size=12, spatial_dims=2, depths=(2, 1, 1, 1), num_heads=(1, 1, 1, 1),
            norm_name=("group", {"num_groups": 4}),
        ),
        (1, 64, 64),
    ),
    "SegResNet": (
        lambda: nets.SegResNet(
            spatial_dims=3, in_channels=1, out_channels=CLASSES, init_filters=8, blocks_down=(1, 1), blocks_up=(1,)
        ),
        (1, 4, 8, 8),
    ),
    "DynUNet": (
        lambda: nets.DynUNet(
            spatial_dims=2, in_channels=1, out_channels=CLASSES, kernel_size=[3, 3, 3], strides=[1, 2, 2],
            upsample_kernel_size=[2, 2], filters=[4, 8, 8],
        ),
        (1, 16, 16),
    ),
    "DenseNet121": (lambda: nets.DenseNet121(spatial_dims=2, in_channels=1, out_channels=CLASSES), (1, 32, 32)),
    "odd": (Odd, (2, 6)),
}  # fmt: skip


def network(kind: str) -> nn.Module:
    """The network, with a head that prefers one class: near equal probabilities, MAS is a difference that cancels."""
    torch.manual_seed(1)
    model = NETWORKS[kind][0]()
    with torch.no_grad():
        for name in head(model):
            if name.endswith("bias"):
                model.get_parameter(name).copy_(torch.tensor([0.0, 1.0, -1.0]))
    return model.eval()


def data(kind: str, model: nn.Module, number: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets; where there is one class a pixel, some are ignored."""
    inputs = torch.randn(number, *NETWORKS[kind][1])
    with torch.no_grad():
        shape = model(inputs[:1]).shape[2:]
    target = torch.randint(CLASSES, (number, *shape))
    if shape:
        target[:, 0] = IGNORED
    return inputs, target


def mas(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Eq. 1 of Özgün et al. 2020 in float64."""

    def norm(output: Tensor, index: int) -> Tensor:
        p = output.exp() / output.exp().sum(1, keepdim=True)
        return p.pow(2).sum() / p[0, 0].numel()

    return _mean(model, inputs, norm, torch.abs)


def fisher(model: nn.Module, inputs: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The empirical Fisher information in float64: pixels of the target that are not ignored are summed."""

    def log_likelihood(output: Tensor, index: int) -> Tensor:
        log_p = output - output.exp().sum(1, keepdim=True).log()
        labels = target[index : index + 1]
        known = labels != IGNORED
        chosen = log_p.gather(1, labels.masked_fill(~known, 0).unsqueeze(1)).squeeze(1)
        return (chosen * known).sum()

    return _mean(model, inputs, log_likelihood, torch.square)


def _mean(model, inputs, scalar, transform) -> dict[str, Tensor]:
    model = copy.deepcopy(model).double().eval()
    sums = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for index in range(len(inputs)):
        model.zero_grad()
        scalar(model(inputs[index : index + 1].double()), index).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                sums[name] += transform(parameter.grad)
    return {name: (total / len(inputs)).detach() for name, total in sums.items()}


def worst(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest deviation, as a share of the largest value of its tensor.

    A tensor that is 0 but for rounding (the bias of a convolution before an instance norm) is held against a hundredth
    of the largest value of all instead.
    """
    assert found.keys() == expected.keys()
    sizes = {name: float(value.max()) for name, value in expected.items()}
    largest = max(sizes.values())
    deviations = {name: float((found[name].double() - value).abs().max()) for name, value in expected.items()}
    return max(deviations[name] / (size if size > 1e-12 * largest else largest / 100) for name, size in sizes.items())
