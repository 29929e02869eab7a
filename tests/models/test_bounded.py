"""A network that somebody else describes takes no more memory than is allowed, however it asks for it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from perdure.errors import NetworkError
from perdure.models import NetworkSpec, build
from perdure.models.bounded import bounded


@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        ("quicknat", {"filters": 10**6}),
        ("quicknat", {"filters": 10**30}),
        ("monai:UNet", {"channels": [10**7, 10**7], "strides": [2]}),
        ("monai:UNet", {"channels": [16, 32], "strides": [2], "num_res_units": 10**9}),
        ("monai:SwinUNETR", {"feature_size": 12 * 10**5}),
    ],
)
def test_too_large_a_network_is_refused_before_it_is_made(factory: str, arguments: dict[str, object]) -> None:
    with pytest.raises(NetworkError, match="it would take far more memory than its weights"):
        build(NetworkSpec(factory=factory, arguments=arguments), channels=1, classes=2, spatial_dims=2, most=2**24)


def test_a_network_within_the_bound_is_the_same_as_without_one() -> None:
    made = []
    for most in (math.inf, 2**24):
        torch.manual_seed(3)
        spec = NetworkSpec(factory="quicknat", arguments={"filters": 4, "kernel_size": 3})
        made.append(build(spec, channels=1, classes=2, spatial_dims=2, most=most).state_dict())
    assert all(torch.equal(one, other) for one, other in zip(made[0].values(), made[1].values(), strict=True))


def test_what_is_made_adds_up() -> None:
    with bounded(4 * 250):
        nn.Linear(10, 10)
        with pytest.raises(MemoryError):
            nn.Linear(20, 20)
    nn.Linear(20, 20)
