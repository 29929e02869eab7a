"""A MONAI bundle becomes a network and an input contract, and nothing in it is evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.nets import UNet
from monai.transforms import ScaleIntensityRange

import synthetic
from perdure.data import Dataset
from perdure.data.intensity import scaled, standardised
from perdure.errors import DataError, NetworkError
from perdure.evidence.exchange.adoptable import Adoptable
from perdure.evidence.exchange.bundle_preparation import _intensity
from perdure.evidence.exchange.bundle_reading import read_bundle

CHANNELS = {"0": "background", "1": "core", "2": "right_cortex", "3": "left_cortex"}
RANGE = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -50, "a_max": 150, "b_min": 0.0, "b_max": 1.0,
         "clip": True}  # fmt: skip


def config(**changes: Any) -> dict[str, Any]:
    """As a bundle of the model zoo has it: 3-D, with references and expressions."""
    return {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "widths": [4, 8],
        "network_def": {
            "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 4, "channels": "@widths",
            "strides": [2], "norm": "batch",
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, 2.5], "mode": "bilinear"},
                RANGE,
                {"_target_": "EnsureTyped", "keys": "image"},
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 8, 8], "sw_batch_size": 4, "overlap": 0.5},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
        },
        **changes,
    }  # fmt: skip


def bundle(folder: Path, content: dict[str, Any] | None = None, **metadata: Any) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(content or config()))
    formats = {
        "inputs": {"image": {"spatial_shape": [96, 96, 96]}},
        "outputs": {"pred": {"channel_def": metadata.pop("channel_def", CHANNELS)}},
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": formats, **metadata}))
    torch.save(unet().state_dict(), folder / "models" / "model.pt")
    return folder


def unet(dims: int = 3) -> UNet:
    torch.manual_seed(0)
    return UNet(spatial_dims=dims, in_channels=1, out_channels=4, channels=(4, 8), strides=(2,), norm="batch")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_volumes(tmp_path_factory.mktemp("d") / "data", cases=(1, 0, 0), shape=(10, 12, 11))


def read(folder: Path, data: Path, **settings: Any) -> Adoptable:
    return read_bundle(folder, Dataset.open(data), "scanner-a", **settings)


def test_a_bundle_of_the_model_zoo_s_kind_gives_its_network_and_contract(tmp_path: Path, data: Path) -> None:
    found = read(bundle(tmp_path / "b"), data)
    contract = found.contract
    assert (contract.spatial_dims, contract.size, contract.view) == (3, (16, 8, 8), None)
    assert (contract.orientation, contract.spacing) == ("RAS", (2.0, 2.0, 2.5))
    assert (contract.intensity.scaling, contract.intensity.window) == ("window", (-50, 150))
    assert [structure.values[0] for structure in contract.structures] == [0, 16, 42, 3]
    x = torch.rand(1, 1, 16, 8, 8)
    with torch.no_grad():
        assert torch.equal(found.network(x), unet().eval()(x))
    assert [sentence for sentence in found.differences if "half a voxel" in sentence]
    assert len(found.differences) == 1


@given(
    low=st.integers(-1000, 100), width=st.integers(1, 3000), least=st.floats(-2, 1), span=st.floats(0.1, 3),
)  # fmt: skip
def test_a_range_is_scaled_as_monai_scales_it(low: int, width: int, least: float, span: float) -> None:
    settings = {"a_min": low, "a_max": low + width, "b_min": least, "b_max": least + span, "clip": True}
    intensity = _intensity("ScaleIntensityRanged", settings, [])
    assert intensity is not None
    volume = np.random.default_rng(0).integers(-1200, 3500, (3, 4, 5)).astype(np.float32)
    ours = standardised(scaled(volume, intensity, None, is_volume=True)[None, None], intensity)[0, 0]
    theirs = np.asarray(ScaleIntensityRange(**settings)(volume))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_slices_follow_each_other_along_the_axis_that_the_inferer_says(tmp_path: Path, data: Path) -> None:
    content = config(inferer={"_target_": "SliceInferer", "roi_size": [8, 16], "spatial_dim": 1})
    content["network_def"]["spatial_dims"] = 2
    folder = bundle(tmp_path / "b", content)
    torch.save(unet(2).state_dict(), folder / "models" / "model.pt")
    contract = read(folder, data).contract
    assert (contract.view, contract.orientation, contract.spacing) == ("coronal", "ARS", (2.0, 2.0, 2.5))
    assert contract.size == (8, 16)


def test_what_a_contract_cannot_say_is_told(tmp_path: Path, data: Path) -> None:
    transforms = [
        {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True},
        {"_target_": "CropForegroundd", "keys": "image"},
        "$monai.transforms.Identityd('image')",
    ]
    content = config(preprocessing={"_target_": "Compose", "transforms": transforms})
    folder = bundle(tmp_path / "b", content, channel_def=None)
    found = read(folder, data)
    assert found.contract.intensity.scaling == "zscore-nonzero"
    said = " ".join(found.differences)
    for part in (
        "CropForegroundd",
        "$monai.transforms.Identityd",
        "before resampling",
        "resamples nothing",
        "in that order",
    ):
        assert part in said
    # nothing turns volumes, so they are taken as they lie in their files
    assert found.contract.orientation == "RAS"


def test_options_take_the_place_of_what_a_bundle_says(tmp_path: Path, data: Path) -> None:
    options = {"size": 8, "spacing": (3.0, 3.0, 3.0), "mean": [0.5], "std": [0.1]}
    contract = read(bundle(tmp_path / "b"), data, options=options).contract
    assert (contract.size, contract.spacing) == ((8, 8, 8), (3.0, 3.0, 3.0))
    assert (contract.intensity.scaling, contract.intensity.mean) == ("robust", (0.5,))


RUN = "$__import__('pathlib').Path('RAN').touch()"


def test_an_expression_is_not_evaluated_and_its_value_can_be_said(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = config(device=RUN, initialize=[RUN], imports=[RUN])
    content["network_def"]["norm"] = RUN
    folder = bundle(tmp_path / "b", content)
    with pytest.raises(NetworkError, match=r"network_def: norm: found .*not evaluated; say .*--network-arg norm=VALUE"):
        read(folder, data)
    assert read(folder, data, arguments={"norm": "batch"}).contract.classes == 4
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"network_def": {"_target_": "os.system", "command": "true"}}, "found 'os.system'; allowed are networks of"),
        ({"network_def": {"_target_": "scripts.net.Net"}}, r"found 'scripts\.net\.Net'.*Code of a bundle is not run"),
        ({"network_def": {"_target_": "monai.networks.nets.NoSuchNet"}}, "MONAI has no network 'NoSuchNet'"),
        ({"network_def": "$monai.networks.nets.UNet()"}, r"network_def: found '\$monai.*must name a network"),
        ({"network_def": {"_target_": 3}}, "must name a network"),
        ({"network_def": "@network_def"}, "references lead in circles"),
        ({"preprocessing": {"transforms": ["@preprocessing", "@preprocessing"]}}, "references lead in circles"),
        (
            {"postprocessing": {"transforms": [{"_target_": "Activationsd", "sigmoid": True}]}},
            "Activationsd with sigmoid",
        ),
        (
            {"preprocessing": {"transforms": [{"_target_": "Orientationd", "axcodes": "RRS"}]}},
            r"orientation: .*must name each body axis once",
        ),
    ],
)
def test_what_cannot_be_adopted_is_refused_by_file_and_field(
    tmp_path: Path, data: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(NetworkError, match=why) as caught:
        read(bundle(tmp_path / "b", config(**changes)), data)
    if "MONAI has no" not in why:
        assert "configs/inference.json" in str(caught.value)


def test_outputs_of_other_names_are_refused_with_both_lists(tmp_path: Path, data: Path) -> None:
    folder = bundle(tmp_path / "b", channel_def={"0": "background", "1": "spleen", "2": "a", "3": "b"})
    with pytest.raises(DataError, match="labels: found background, core, .*background, spleen, a, b"):
        read(folder, data)


def test_a_configuration_in_yaml_is_read_as_data(tmp_path: Path, data: Path) -> None:
    yaml = pytest.importorskip("yaml")
    folder = bundle(tmp_path / "b")
    (folder / "configs" / "inference.json").unlink()
    (folder / "configs" / "inference.yaml").write_text(yaml.safe_dump(config()))
    assert read(folder, data).contract.size == (16, 8, 8)
    (folder / "configs" / "inference.yaml").write_text("network_def: !!python/object/apply:os.system [true]\n")
    with pytest.raises(NetworkError, match=r"inference\.yaml: no readable YAML"):
        read(folder, data)


@pytest.mark.parametrize("name", ["configs/inference.json", "configs/metadata.json", "models/model.pt"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b"\xff"])
def test_a_damaged_or_missing_file_is_named(tmp_path: Path, data: Path, name: str, content: bytes | None) -> None:
    folder = bundle(tmp_path / "b")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    where = "configs" if (name, content) == ("configs/inference.json", None) else name
    with pytest.raises(NetworkError, match=where):
        read(folder, data)


def test_a_folder_that_references_would_blow_up_is_refused_quickly(tmp_path: Path, data: Path) -> None:
    doubling = {f"x{i}": [f"@x{i + 1}", f"@x{i + 1}"] for i in range(30)}
    folder = bundle(tmp_path / "b", config(**doubling, preprocessing={"transforms": "@x0"}))
    with pytest.raises(NetworkError, match="more than 100000 values"):
        read(folder, data)


@pytest.mark.parametrize("dims", [1, 4, 2**40])
def test_a_network_of_any_other_number_of_dimensions_is_refused_at_once(tmp_path: Path, data: Path, dims: int) -> None:
    """So many axes would be counted out in memory otherwise."""
    network = {**config()["network_def"], "spatial_dims": dims}
    with pytest.raises(NetworkError, match=rf"spatial_dims: found {dims}; networks of 2 or 3 dimensions"):
        read(bundle(tmp_path / "bundle", config(network_def=network)), data)


def test_a_network_far_larger_than_its_weights_is_refused(tmp_path: Path, data: Path) -> None:
    network = {**config()["network_def"], "channels": [4, 10**6]}
    with pytest.raises(NetworkError, match="it would take far more memory than its weights"):
        read(bundle(tmp_path / "bundle", config(network_def=network)), data)
