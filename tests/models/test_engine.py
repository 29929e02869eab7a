"""OpenVINO says what torch says, in the precision that was asked for, tells nobody, or is not used."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn

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


def test_what_says_something_else_than_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = OpenVino(quicknat(), (1, 32, 32), is_free=False, precision="32-true")
    own = compiled._compiled
    monkeypatch.setattr(compiled, "_compiled", lambda x: [own(x)[0][:, ::-1].copy()])
    with pytest.raises(NetworkError, match=r"^OpenVINO gives other probabilities than torch, .* without --engine"):
        compiled(torch.rand(2, 1, 32, 32))


def test_what_gives_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = OpenVino(quicknat(), (1, 32, 32), is_free=False, precision="32-true")
    own = compiled._compiled
    monkeypatch.setattr(compiled, "_compiled", lambda x: [own(x)[0] * float("nan")])
    with pytest.raises(NetworkError, match="apart on average"):
        compiled(torch.rand(2, 1, 32, 32))


def test_a_network_that_it_cannot_convert_is_named() -> None:
    class Strange(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.eigvals(x).real

    with pytest.raises(NetworkError, match="^OpenVINO cannot compile the network: "):
        OpenVino(Strange(), (1, 8, 8), is_free=False, precision="32-true")


def test_its_makers_are_told_nothing() -> None:
    OpenVino(quicknat(), (1, 32, 32), is_free=False, precision="32-true")
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
    assert "openvino_telemetry" not in sys.modules


def test_without_it_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'perdure\[openvino\]'"):
        engine.OpenVino(quicknat(), (1, 32, 32), is_free=False, precision="32-true")
