"""OpenVINO says what torch says, in the precision that was asked for, tells nobody, or is not used."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from perdure.errors import ConfigurationError, NetworkError
from perdure.models import NetworkSpec, OpenVino, QuickNAT, build, engine
from perdure.models.engine import Precision


def quicknat() -> nn.Module:
    torch.manual_seed(0)
    return QuickNAT(classes=5, filters=4, kernel_size=3).eval()


def test_a_classifier_gives_the_probabilities_of_torch_for_any_number_of_images() -> None:
    torch.manual_seed(0)
    small = {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 8, 8, 8]}
    model = build(NetworkSpec(factory="monai:ResNet", arguments=small), channels=3, classes=4, spatial_dims=2).eval()
    compiled = OpenVino(model, (3, 64, 64), is_free=False, precision="32-true")
    for number in (2, 1, 3):
        x = torch.rand(number, 3, 64, 64)
        with torch.no_grad():
            expected = model(x).softmax(dim=1)
        torch.testing.assert_close(compiled(x).softmax(dim=1), expected, rtol=0, atol=1e-5)


def test_a_segmenter_takes_images_of_other_sizes_too() -> None:
    model = quicknat()
    compiled = OpenVino(model, (1, 32, 32), is_free=True, precision="32-true")
    for size in ((32, 32), (64, 32)):
        x = torch.rand(2, 1, *size)
        with torch.no_grad():
            expected = model(x)
        torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("precision", "kind"), [("32-true", "f32"), ("bf16-mixed", "bf16")])
def test_half_precision_is_taken_only_if_it_is_asked_for(precision: Precision, kind: str) -> None:
    found = OpenVino(quicknat(), (1, 32, 32), is_free=False, precision=precision)._compiled
    # a processor without half precision computes in float32 either way
    assert found.get_property("INFERENCE_PRECISION_HINT").get_type_name() in {kind, "f32"}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("wrong", [lambda logits: -100 * logits, lambda logits: logits * np.float32("nan")])
def test_what_says_something_else_than_torch_is_refused(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[[np.ndarray], np.ndarray], precision: Precision
) -> None:
    compiled = OpenVino(quicknat(), (1, 32, 32), is_free=False, precision=precision)
    own = compiled._compiled
    monkeypatch.setattr(compiled, "_compiled", lambda x: [wrong(own(x)[0])])
    with pytest.raises(NetworkError, match=r"^OpenVINO gives other probabilities than torch, .* without --engine"):
        compiled(torch.rand(2, 1, 32, 32))


def test_the_first_image_that_shows_something_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = OpenVino(quicknat(), (1, 32, 32), is_free=False, precision="32-true")
    own = compiled._compiled
    monkeypatch.setattr(compiled, "_compiled", lambda x: [own(x)[0] if x.max() < 0.1 else own(x)[0][:, ::-1].copy()])
    compiled(torch.zeros(2, 1, 32, 32))
    with pytest.raises(NetworkError, match="other probabilities"):
        compiled(torch.rand(2, 1, 32, 32))


class Strange(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x).real


class ByTheDark(nn.Module):
    """Does something else where an image is dark, which a trace does not see."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, 5 - x] if x.max() < 0.05 else [5 - x, x], dim=1)


class EachByItself(nn.Module):
    """Goes through the images one by one, which a trace takes for so many."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.cat([x[i : i + 1], 1 - x[i : i + 1]], dim=1) for i in range(len(x))])


class OfOneSize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        size = [int(extent) for extent in x.shape[2:]]
        return functional.interpolate(torch.cat([x, 1 - x], dim=1)[..., ::2, ::2], size=size)


class Two(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [torch.cat([x, 1 - x], dim=1), x]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Strange, r"^OpenVINO cannot convert the network: .*eig.* Predict without"),
        (ByTheDark, r"^OpenVINO gives other probabilities than torch"),
        (EachByItself, r"^OpenVINO (gives \(2, 2, 32, 32\) for images of \(3, 1, 32, 32\)|cannot run the network)"),
        (OfOneSize, r"^OpenVINO gives \(1, 2, 32, 32\) for images of \(1, 1, 64, 64\): the network is fixed"),
        (Two, r"^The network gives a (list|tuple), and OpenVINO is for one tensor"),
    ],
)
def test_a_network_that_it_gets_wrong_is_refused_before_it_predicts(kind: type[nn.Module], said: str) -> None:
    with pytest.raises(NetworkError, match=said):
        OpenVino(kind(), (1, 32, 32), is_free=True, precision="32-true")


def test_its_makers_are_told_nothing() -> None:
    OpenVino(quicknat(), (1, 32, 32), is_free=False, precision="32-true")
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
    assert "openvino_telemetry" not in sys.modules


def test_without_it_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'perdure\[openvino\]'"):
        engine.OpenVino(quicknat(), (1, 32, 32), is_free=False, precision="32-true")
