from __future__ import annotations

import pytest
import torch
from monai.networks import nets
from torch import Tensor, nn

from perdure.models import QuickNAT
from perdure.testing import check_network, tiny_domain, tiny_network
from perdure.testing.claims import everything

IMAGES = tiny_domain().samples("train")[0][:3]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_our_own_small_network_keeps_every_claim_and_is_not_changed(task) -> None:
    model = tiny_network(task).train()
    before = everything(model)
    check_network(model, IMAGES)
    assert everything(model) == before


def test_quicknat_keeps_every_claim() -> None:
    check_network(QuickNAT(in_channels=1, classes=3), torch.randn(3, 1, 16, 16))


def test_a_network_of_monai_does() -> None:
    model = nets.UNet(2, 1, 3, channels=(4, 8), strides=(2,), norm="batch")
    check_network(model, torch.randn(3, 1, 8, 8))


def test_deep_supervision_is_found() -> None:
    """DynUNet stacks the outputs of its heads in training; to train it, wrap it or switch that off."""
    model = nets.DynUNet(
        spatial_dims=2, in_channels=1, out_channels=3, kernel_size=[3, 3, 3], strides=[1, 2, 2],
        upsample_kernel_size=[2, 2], filters=[4, 8, 8], deep_supervision=True, deep_supr_num=1,
    )  # fmt: skip
    with pytest.raises(AssertionError, match="in training mode it gives"):
        check_network(model, torch.randn(2, 1, 16, 16))


class Broken(nn.Module):
    """The network that others below break in one way each."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> object:
        return self.norm(self.layer(x))


class Listing(Broken):
    def forward(self, x: Tensor) -> object:
        return [super().forward(x)] if self.training else super().forward(x)


class Counting(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> object:
        self.calls += 1
        return super().forward(x)


class Noisy(Broken):
    def forward(self, x: Tensor) -> object:
        return super().forward(x + torch.rand_like(x))


class Mixing(Broken):
    def forward(self, x: Tensor) -> object:
        return super().forward(x - x.mean())


class Deaf(Broken):
    def forward(self, x: Tensor) -> object:
        return super().forward(x) * 0


class Keeping(Broken):
    def forward(self, x: Tensor) -> object:
        self.last = super().forward(x)
        return self.last


class Caching(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.cache = None

    def forward(self, x: Tensor) -> object:
        if self.cache is None:
            self.cache = self.layer.weight.detach().clone()
        return nn.functional.conv2d(x, self.layer.weight * 0 + self.cache, self.layer.bias)


class Untracked(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> object:
        return self.layer(x)


@pytest.mark.parametrize(
    ("kind", "claim"),
    [
        (Listing, "gives one tensor.*in training mode it gives a list"),
        (Counting, "changes no buffer"),
        (Noisy, "gives the same bits again"),
        (Mixing, "does not depend on the others of its batch"),
        (Deaf, "importance can be measured, and is not 0"),
        (Keeping, "can be copied, also after it was used"),
        (Caching, "parameters and buffers are all there is to it"),
        (Untracked, "batch norm can follow every policy"),
    ],
)
def test_each_claim_is_broken_by_what_breaks_it(kind: type[nn.Module], claim: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s)^Network '{kind.__name__}' breaks the claim .*{claim}"):
        check_network(kind(), IMAGES)
