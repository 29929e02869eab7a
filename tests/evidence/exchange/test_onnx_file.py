"""An ONNX file gives the labels that its release gives, says what it takes, and is not written where it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

import fakes
import synthetic
from perdure.errors import ConfigurationError, EvaluationError, NetworkError
from perdure.evidence.exchange.onnx_file import OnnxNetwork, export_onnx
from perdure.models import NetworkSpec, QuickNAT, batch_norm_state, build, resnet50
from perdure.release import Memory, Release
from perdure.types import Contract

onnxruntime = pytest.importorskip("onnxruntime")


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def logits(path: Path, x: torch.Tensor) -> torch.Tensor:
    (found,) = session(path).run(["logits"], {"image": x.numpy()})
    return torch.from_numpy(found)


@pytest.fixture(scope="module")
def quicknat(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Path, str]:
    """A QuickNAT, its export, and how they agreed on a volume that is larger than a training sample."""
    folder = tmp_path_factory.mktemp("onnx")
    torch.manual_seed(1)
    model = QuickNAT(1, 4, filters=4, kernel_size=3)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
    release = fakes.release(model, fakes.volume_contract(size=(24, 16)), name="brain")
    volume = np.random.default_rng(0).integers(0, 200, (20, 30, 22)).astype(np.uint8)
    synthetic.save_volume(folder / "scan.nii.gz", volume, (2, 2, 2))
    found = export_onnx(release, folder / "brain.onnx", images=[folder / "scan.nii.gz"])
    return release, folder / "brain.onnx", str(found)


def test_every_label_of_a_quicknat_is_the_same_in_onnx_runtime(quicknat: tuple[Release, Path, str]) -> None:
    assert quicknat[2] == f"{20 * 30 * 22} of {20 * 30 * 22} labels are the same on 1 image"


@pytest.mark.parametrize("shape", [(1, 1, 24, 16), (3, 1, 17, 50), (2, 1, 5, 1)])
def test_batch_height_and_width_of_a_quicknat_are_free(
    quicknat: tuple[Release, Path, str], shape: tuple[int, ...]
) -> None:
    release, path, _ = quicknat
    x = torch.rand(shape)
    with torch.no_grad():
        expected = release.model(x)
    found = logits(path, x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(found.argmax(1), expected.argmax(1))


def test_the_file_says_which_release_it_is_and_what_goes_in_and_comes_out(quicknat: tuple[Release, Path, str]) -> None:
    release, path, _ = quicknat
    said = session(path).get_modelmeta().custom_metadata_map
    assert (said["perdure.release"], said["perdure.name"], said["perdure.domain"]) == (release.id, "brain", "")
    assert Contract.model_validate_json(said["perdure.contract"]) == release.contract
    assert json.loads(said["perdure.labels"])["3"] == {"name": "right_cortex", "values": [42]}
    (given,), (out,) = session(path).get_inputs(), session(path).get_outputs()
    assert (given.name, given.shape) == ("image", ["batch", 1, "height", "width"])
    assert out.name == "logits"


def test_exporting_leaves_the_release_as_it_is(quicknat: tuple[Release, Path, str]) -> None:
    assert type(quicknat[0].model) is QuickNAT
    assert not quicknat[0].model.training


def test_a_network_of_monai_takes_any_multiple_of_32(tmp_path: Path) -> None:
    spec = NetworkSpec(factory="monai:UNet", arguments={"channels": [4, 8, 8], "strides": [2, 2], "norm": "batch"})
    model = build(spec, channels=1, classes=4, spatial_dims=2)
    release = fakes.release(model, fakes.volume_contract(size=(32, 32)))
    found = export_onnx(release, tmp_path / "unet.onnx")
    assert (found.different, found.inputs) == (0, "5 images made of noise")
    x = torch.rand(2, 1, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(logits(tmp_path / "unet.onnx", x), model(x), atol=1e-5, rtol=1e-4)


def test_a_resnet_50_grades_as_its_release(tmp_path: Path) -> None:
    contract = fakes.picture_contract(task="classification", channels=1, size=(32, 32))
    release = fakes.release(resnet50(2, 1), contract)
    found = export_onnx(release, tmp_path / "grades.onnx")
    assert (found.compared, found.different) == (4, 0)
    assert session(tmp_path / "grades.onnx").get_inputs()[0].shape == ["batch", 1, 32, 32]


def small(classes: int = 2) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, classes, 1))


def test_of_a_release_with_one_batch_norm_a_domain_the_one_asked_for_is_exported(tmp_path: Path) -> None:
    model = small()
    other = batch_norm_state(model)
    other["1.running_mean"] += 3
    release = fakes.release(model, fakes.picture_contract())
    release = replace(release, memory=Memory({}, {}, norms={"a": batch_norm_state(model), "b": other}))
    with pytest.raises(EvaluationError, match="keeps one batch norm a domain, and no domain is named"):
        export_onnx(release, tmp_path / "none.onnx")
    export_onnx(release, tmp_path / "b.onnx", domain="b")
    assert session(tmp_path / "b.onnx").get_modelmeta().custom_metadata_map["perdure.domain"] == "b"
    x = torch.rand(1, 3, 40, 48)
    found = logits(tmp_path / "b.onnx", x)
    with torch.no_grad():
        assert not torch.allclose(found, model(x), atol=1e-3)
        model[1].running_mean += 3  # type: ignore[index, operator]
        torch.testing.assert_close(found, model(x), atol=1e-5, rtol=1e-4)


def test_where_too_many_labels_differ_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = OnnxNetwork.forward

    def one_row_wrong(self: OnnxNetwork, x: torch.Tensor) -> torch.Tensor:
        found = forward(self, x)
        found[..., 0, :] *= -1
        return found

    monkeypatch.setattr(OnnxNetwork, "forward", one_row_wrong)
    release = fakes.release(small(), fakes.picture_contract())
    with pytest.raises(EvaluationError, match=r"ONNX Runtime gives \d+ of \d+ labels otherwise .*Nothing was written"):
        export_onnx(release, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []
    assert export_onnx(release, tmp_path / "x.onnx", limit=0.5).different > 0


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"")
    with pytest.raises(EvaluationError, match=r"x\.onnx exists"):
        export_onnx(fakes.release(small(), fakes.picture_contract()), tmp_path / "x.onnx")


def test_a_network_that_cannot_be_exported_is_named_with_the_reason(tmp_path: Path) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.conv(x)
            return out if float(x.sum()) > 0 else -out

    with pytest.raises(NetworkError, match=r"'base' .*cannot be exported to ONNX: .*data-dependent"):
        export_onnx(fakes.release(Counting(), fakes.picture_contract()), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"needs onnx, onnxscript, onnxruntime: pip install 'perdure\[onnx\]'"):
        export_onnx(fakes.release(small(), fakes.picture_contract()), tmp_path / "x.onnx")


def test_an_image_that_a_fixed_size_does_not_take_is_an_error_that_shows_both(tmp_path: Path) -> None:
    spec = NetworkSpec(factory="monai:UNet", arguments={"channels": [2, 4], "strides": [2]})
    contract = fakes.volume_contract(size=(8, 8, 8), spatial_dims=3, view=None)
    release = fakes.release(build(spec, channels=1, classes=4, spatial_dims=3), contract)
    export_onnx(release, tmp_path / "x.onnx")
    with pytest.raises(
        EvaluationError, match=r"takes inputs of \['batch', 1, 8, 8, 8\] only, and got \(1, 1, 8, 8, 9\)"
    ):
        OnnxNetwork((tmp_path / "x.onnx").read_bytes())(torch.zeros(1, 1, 8, 8, 9))


def test_a_volume_is_compared_window_by_window(tmp_path: Path) -> None:
    spec = NetworkSpec(factory="monai:UNet", arguments={"channels": [2, 4], "strides": [2]})
    contract = fakes.volume_contract(size=(8, 8, 8), spatial_dims=3, view=None)
    release = fakes.release(build(spec, channels=1, classes=4, spatial_dims=3), contract)
    nib.save(
        nib.Nifti1Image(np.random.default_rng(0).integers(0, 99, (12, 9, 8), np.uint8), np.diag([2, 2, 2, 1.0])),
        tmp_path / "a.nii",
    )
    found = export_onnx(release, tmp_path / "x.onnx", images=[tmp_path / "a.nii"])
    assert (found.compared, found.different) == (12 * 9 * 8, 0)
