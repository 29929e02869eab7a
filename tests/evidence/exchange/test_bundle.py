"""A bundle is run by MONAI without Perdure and gives the labels of its release; nobody's text in it is evaluated."""

from __future__ import annotations

import ast
import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import fakes
import nnunet_folder
import synthetic
from perdure.errors import EvaluationError, NetworkError
from perdure.evaluation import predict_files
from perdure.evidence.exchange.bundle import export_bundle, metadata
from perdure.evidence.exchange.bundle_inference import inference_config, network_def
from perdure.models import NetworkSpec, batch_norm_state, build
from perdure.models.nnunet import network_arguments
from perdure.release import Memory, Release
from perdure.types import Contract, Intensity, Structure

WITHOUT_PERDURE = """
import runpy, sys
sys.modules["perdure"] = None  # importing it is an error
sys.argv = ["monai.bundle", *sys.argv[1:]]
runpy.run_module("monai.bundle", run_name="__main__")
"""

UNET = NetworkSpec(factory="monai:UNet", arguments={"channels": [4, 8], "strides": [2], "norm": "batch"})
QUICKNAT = NetworkSpec(factory="quicknat", arguments={"filters": 2, "kernel_size": 3})
DENSENET = NetworkSpec(
    factory="monai:DenseNet", arguments={"init_features": 4, "growth_rate": 2, "block_config": [1, 1]}
)
NNUNET = NetworkSpec(
    factory="nnunet:PlainConvUNet", arguments=network_arguments(nnunet_folder.architecture()["arch_kwargs"])
)
WHOLE: dict[str, Any] = {"spatial_dims": 3, "view": None, "size": (12, 8, 8)}
GRADES: dict[str, Any] = {"task": "classification", "structures": fakes.structures(no=0, yes=1)}
WINDOW = Intensity(scaling="window", window=(10, 150), mean=(80,), std=(30,))
STANDARDISED = Intensity(scaling="format", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.1))


def release(spec: NetworkSpec, contract: Contract, name: str = "base") -> Release:
    model = build(spec, channels=contract.channels, classes=contract.classes, spatial_dims=contract.spatial_dims)
    made = fakes.release(model, contract, name=name)
    return replace(made, identity=made.identity.model_copy(update={"network": model.network_spec}))


@pytest.mark.parametrize(
    ("spec", "contract"),
    [
        (UNET, fakes.volume_contract(view="axial", size=(32, 20))),
        (UNET, fakes.volume_contract(view="sagittal", orientation="RAS", size=(24, 16))),
        (UNET, fakes.volume_contract(**WHOLE, intensity=Intensity(scaling="zscore-nonzero"))),
        (QUICKNAT, fakes.volume_contract(size=(24, 40))),
        (NNUNET, fakes.volume_contract(**WHOLE, intensity=WINDOW)),
        (UNET, fakes.volume_contract(channels=2, size=(16, 16), intensity=Intensity(scaling="robust", mean=(1, 2)))),
        (UNET, fakes.picture_contract(intensity=STANDARDISED)),
        (UNET, fakes.picture_contract(channels=1, resize="stretch", size=(32, 48))),
        (DENSENET, fakes.picture_contract(**GRADES, size=(32, 32))),
        (DENSENET, fakes.volume_contract(**{**WHOLE, **GRADES})),
    ],
)
def test_from_file_to_file_every_label_is_that_of_the_release(
    tmp_path: Path, spec: NetworkSpec, contract: Contract
) -> None:
    found = export_bundle(release(spec, contract), tmp_path / "bundle")
    assert (found.different, found.inputs) == (0, "2 images made of noise")
    assert found.compared == 2 if contract.task == "classification" else found.compared > 1000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, Path, Path]:
    """A release, its bundle, and a folder with a volume of another spacing and orientation."""
    folder = tmp_path_factory.mktemp("bundle")
    torch.manual_seed(0)
    one = release(UNET, fakes.volume_contract(view="axial", size=(16, 32)), name="heads")
    volume = np.random.default_rng(0).integers(0, 200, (9, 20, 13)).astype(np.uint8)
    synthetic.save_volume(folder / "images" / "scan.nii.gz", volume, (2.0, 1.7, 3.0), "PSR")
    found = export_bundle(one, folder / "heads", images=[folder / "images" / "scan.nii.gz"])
    assert str(found) == "2340 of 2340 labels are the same on 1 image"
    return one, folder / "heads", folder / "images"


def test_monai_runs_a_bundle_where_there_is_no_perdure(bundle: tuple[Release, Path, Path], tmp_path: Path) -> None:
    one, folder, images = bundle
    words = ["run", "--config_file", "configs/inference.json", "--bundle_root", ".", "--dataset_dir", str(images)]
    subprocess.run(
        [sys.executable, "-c", WITHOUT_PERDURE, *words, "--output_dir", str(tmp_path / "theirs")],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    predict_files(one, images, tmp_path / "ours")
    theirs, ours = nib.load(tmp_path / "theirs" / "scan_seg.nii.gz"), nib.load(tmp_path / "ours" / "scan.nii.gz")
    np.testing.assert_array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
    np.testing.assert_array_equal(theirs.affine, ours.affine)
    assert len(np.unique(np.asarray(ours.dataobj))) > 1


def test_a_disk_on_which_the_weights_do_not_fit_is_named_and_no_bundle_is_left(tmp_path: Path) -> None:
    spec = UNET.model_copy(update={"arguments": {**UNET.arguments, "channels": [16, 32]}})
    one = release(spec, fakes.picture_contract())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (24 * 1024, before[1]))
    try:
        with pytest.raises(OSError, match="bundle"):
            export_bundle(one, tmp_path / "bundle")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_has_the_files_that_monai_s_specification_asks_for(bundle: tuple[Release, Path, Path]) -> None:
    one, folder, _ = bundle
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "configs/metadata.json", "configs/inference.json", "models/model.pt", "docs/README.md", "docs/release.json",
        "LICENSE", "scripts/__init__.py", "scripts/transforms.py", "scripts/geometry.py", "scripts/intensity.py",
    }  # fmt: skip
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in one.model.state_dict().items())
    text = (folder / "docs" / "README.md").read_text()
    assert one.id in text
    assert "2340 of 2340 labels are the same on 1 image" in text


def test_metadata_say_what_goes_in_and_comes_out(bundle: tuple[Release, Path, Path]) -> None:
    said = json.loads((bundle[1] / "configs" / "metadata.json").read_text())
    # the mandatory keys of the specification, and those of a tensor
    assert {
        "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task",
        "description", "authors", "copyright", "network_data_format", "schema", "changelog",
    } <= said.keys()  # fmt: skip
    formats = said["network_data_format"]
    given, out = formats["inputs"]["image"], formats["outputs"]["pred"]
    for tensor in (given, out):
        assert tensor.keys() == {
            "type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data",
            "channel_def",
        }  # fmt: skip
    assert (given["num_channels"], given["spatial_shape"], given["value_range"]) == (1, [16, 32], [0, 1])
    assert out["channel_def"] == {"0": "background", "1": "core", "2": "left_cortex", "3": "right_cortex"}


def test_scripts_import_nothing_of_perdure(bundle: tuple[Release, Path, Path]) -> None:
    for path in (bundle[1] / "scripts").glob("*.py"):
        tree = ast.parse(path.read_text())
        for node in tree.body:  # what stands under `if TYPE_CHECKING` is for readers
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("perdure"), path


@pytest.mark.parametrize("text", ["$__import__('os').system('touch ran')", "@somebody", "%configs/inference.json"])
def test_no_name_that_somebody_chose_reaches_monai_as_an_expression(text: str) -> None:
    structures = (Structure(name="b", values=(0,)), Structure(name=text, values=(1,)))
    contract = fakes.volume_contract(structures=structures, modality=text)
    one = fakes.release(torch.nn.Identity(), contract, name=text, learnt=[text])
    one = replace(one, identity=one.identity.model_copy(update={"network": UNET}))
    for content in (metadata(one), inference_config(one, (32, 32), "scripts.transforms")):
        assert [found for found in texts(content) if found.startswith(text)] == []


def texts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return [found for one in inner for found in texts(one)]


@pytest.mark.parametrize("value", ["$exit()", ["@device"], {"a": "%x"}, {"_target_": "os.system"}, [{"_mode_": "run"}]])
def test_an_argument_that_monai_would_evaluate_is_refused(value: object) -> None:
    with pytest.raises(NetworkError, match=r"which MONAI would (evaluate|follow)"):
        network_def(NetworkSpec(factory="monai:UNet", arguments={"act": value}))  # type: ignore[dict-item]


def test_what_differs_too_much_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.evidence.exchange.bundle_transforms.padding", lambda *_: np.full(1, 9, np.float32))
    one = release(UNET, fakes.volume_contract(size=(64, 64)))
    volume = np.random.default_rng(0).integers(0, 200, (8, 8, 8)).astype(np.uint8)
    synthetic.save_volume(tmp_path / "scan.nii", volume, (2, 2, 2))
    with pytest.raises(EvaluationError, match=r"The bundle gives \d+ of 512 labels otherwise"):
        export_bundle(one, tmp_path / "bundle", images=[tmp_path / "scan.nii"])
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii"]


def test_of_a_release_with_one_batch_norm_a_domain_the_one_asked_for_is_written(tmp_path: Path) -> None:
    one = release(UNET, fakes.picture_contract())
    other = {name: value + 1 for name, value in batch_norm_state(one.model).items()}
    one = replace(one, memory=Memory({}, {}, norms={"a": batch_norm_state(one.model), "b": other}))
    with pytest.raises(EvaluationError, match="no domain is named"):
        export_bundle(one, tmp_path / "none")
    export_bundle(one, tmp_path / "b", domain="b")
    state = torch.load(tmp_path / "b" / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in other.items())
    assert "that of the domain b" in (tmp_path / "b" / "docs" / "README.md").read_text()
