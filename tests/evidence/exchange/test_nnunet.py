"""A model folder of nnU-Net becomes a network and the input contract that it was trained with, or says why not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import dicoms
import nnunet_folder
import synthetic
from perdure.data import Dataset, prepare_image
from perdure.errors import DataError, NetworkError
from perdure.evidence.exchange.nnunet import read_nnunet
from perdure.types import Contract


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_volumes(tmp_path_factory.mktemp("d") / "data", orientation="LPS", cases=(2, 0, 0))


def model(folder: Path, dims: int = 3, **more: Any) -> Path:
    planned = more.pop("planned", None) or nnunet_folder.plans(dims)
    return nnunet_folder.write(folder / "model", nnunet_folder.network(dims), planned, **more)


def contract(folder: Path, data: Path, **settings: Any) -> Contract:
    return read_nnunet(folder, Dataset.open(data), "scanner-a", **settings).contract


def as_nnunet_prepares(path: Path, planned: dict[str, Any]) -> np.ndarray:
    """The array that nnU-Net's preprocessor makes of a volume at its own spacing, by what its source says."""
    array = np.asarray(nib.load(path).dataobj).transpose(2, 1, 0).astype(np.float32)
    array = array.transpose(planned["transpose_forward"])
    (configuration,) = planned["configurations"].values()
    if configuration["normalization_schemes"] == ["CTNormalization"]:
        numbers = planned["foreground_intensity_properties_per_channel"]["0"]
        array = np.clip(array, numbers["percentile_00_5"], numbers["percentile_99_5"])
        return (array - numbers["mean"]) / numbers["std"]
    there = np.argwhere(array != 0)
    box = array[tuple(slice(a, b + 1) for a, b in zip(there.min(0), there.max(0), strict=True))]
    return (array - box.mean(dtype=np.float64)) / box.std(dtype=np.float64)


@pytest.mark.parametrize("forward", [[0, 1, 2], [1, 0, 2], [2, 0, 1]])
@pytest.mark.parametrize("scheme", ["ZScoreNormalization", "CTNormalization"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_contract_prepares_a_volume_as_nnu_net_does(
    tmp_path: Path, data: Path, forward: list[int], scheme: str, dims: int
) -> None:
    planned = {**nnunet_folder.plans(dims, normalization_schemes=[scheme]), "transpose_forward": forward}
    found = contract(model(tmp_path, dims, planned=planned), data)
    image = data / "images" / "scanner-a" / "scanner-a-train-0.nii.gz"
    expected = as_nnunet_prepares(image, planned)
    pixels = prepare_image(image, found).pixels
    assert found.size == (16,) * dims
    np.testing.assert_allclose(pixels[:, 0] if dims == 2 else pixels[0, 0], expected, atol=2e-5)


def test_weights_are_those_of_the_checkpoint_and_structures_are_in_the_order_of_its_outputs(
    tmp_path: Path, data: Path
) -> None:
    labels = {"background": 0, "Right Cortex": 1, "core": 2, "left-cortex": 3}
    trained = nnunet_folder.network().eval()
    folder = nnunet_folder.write(tmp_path / "model", trained, labels=labels)
    found = read_nnunet(folder, Dataset.open(data), "scanner-a")
    names = [(structure.name, structure.values) for structure in found.contract.structures]
    assert names == [("background", (0,)), ("right_cortex", (42,)), ("core", (16,)), ("left_cortex", (3,))]
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(found.network(x), trained(x)[0])
    assert any("mirrored along the axes (0, 1, 2)" in sentence for sentence in found.differences)


def test_a_mask_for_the_z_score_is_what_is_not_zero(tmp_path: Path, data: Path) -> None:
    planned = nnunet_folder.plans(use_mask_for_norm=[True])
    assert contract(model(tmp_path, planned=planned), data).intensity.scaling == "zscore-nonzero"


def test_a_plan_from_before_nnu_net_2_5_gives_the_same_network(tmp_path: Path, data: Path) -> None:
    kwargs = nnunet_folder.architecture()["arch_kwargs"]
    old = {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": kwargs["n_conv_per_stage"],
        "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
        "conv_kernel_sizes": kwargs["kernel_sizes"],
        "pool_op_kernel_sizes": kwargs["strides"],
        "num_pool_per_axis": [1, 1, 1],
    }
    planned = nnunet_folder.plans(**old)
    del planned["configurations"]["3d_fullres"]["architecture"]
    found = read_nnunet(model(tmp_path, planned=planned), Dataset.open(data), "scanner-a")
    assert found.network.network_spec.arguments["features_per_stage"] == [4, 8]  # type: ignore[union-attr, index]


def test_a_configuration_takes_over_what_it_does_not_say(tmp_path: Path, data: Path) -> None:
    planned = nnunet_folder.plans()
    planned["configurations"] = {
        "3d_small": {"inherits_from": "3d_fullres", "patch_size": [8, 8, 8]},
        **planned["configurations"],
    }
    assert contract(model(tmp_path, planned=planned), data).size == (8, 8, 8)


def test_the_fold_is_a_choice(tmp_path: Path, data: Path) -> None:
    folder = model(tmp_path, folds=("0", "3", "all"))
    contract(folder, data, fold="3")
    contract(folder, data)
    with pytest.raises(NetworkError, match=r"has no fold '1'; it has 0, 3, all"):
        contract(folder, data, fold="1")


def test_images_that_do_not_lie_alike_need_to_be_told_how_the_network_knew_them(tmp_path: Path) -> None:
    data = synthetic.write_volumes(tmp_path / "data", cases=(2, 0, 0))
    moved = data / "images" / "scanner-a" / "scanner-a-train-0.nii.gz"
    volume = nib.load(moved)
    nib.save(volume.as_reoriented(nib.orientations.axcodes2ornt("LPS")), moved)
    folder = model(tmp_path)
    with pytest.raises(DataError, match=r"LPS in images/.*; RAS in images/.*--stored"):
        contract(folder, data)
    assert contract(folder, data, stored="LPS").orientation == "SPL"


def test_of_dicom_nobody_knows_how_the_network_saw_it_unless_told(tmp_path: Path) -> None:
    """nnU-Net trained on what a converter made of the series, whose axes need not be ours."""
    data = synthetic.write_volumes(tmp_path / "data", cases=(2, 0, 0))
    for image in (data / "images" / "scanner-a").iterdir():
        volume = nib.load(image)
        series = data / "series" / image.name.removesuffix(".nii.gz")
        dicoms.write_series(series, np.asarray(volume.dataobj).astype(np.uint16), volume.affine)
    manifest = data / "manifest.csv"
    manifest.write_text(re.sub(r"images/scanner-a/([\w-]+).nii.gz", r"series/\1", manifest.read_text()))
    folder = model(tmp_path)
    with pytest.raises(DataError, match=r"series/.*: found a DICOM series.*--stored"):
        contract(folder, data)
    assert contract(folder, data, stored="LAS").orientation == "SAL"


def test_a_reader_that_turns_images_says_how_they_lie(tmp_path: Path, data: Path) -> None:
    planned = {**nnunet_folder.plans(), "image_reader_writer": "NibabelIOWithReorient"}
    assert contract(model(tmp_path, planned=planned), data).orientation == "SAR"


CASCADE = nnunet_folder.plans(previous_stage="3d_lowres")
ELSE = {**nnunet_folder.architecture(), "network_class_name": "os.system"}
LOOP = nnunet_folder.plans(inherits_from="3d_fullres")


@pytest.mark.parametrize(
    ("planned", "dataset", "why"),
    [
        (CASCADE, {}, "second stage of a cascade"),
        (LOOP, {}, "inherits_from: found '3d_fullres'"),
        (nnunet_folder.plans(architecture=ELSE), {}, "network_class_name: found 'os.system'; .*No other class"),
        (nnunet_folder.plans(normalization_schemes=["NoNormalization"]), {}, "found 'NoNormalization'"),
        (nnunet_folder.plans(patch_size=["16", "a"]), {}, r"patch_size\.1: .*integer"),
        (nnunet_folder.plans(spacing=[1.0, 1.0]), {}, r"spacing: found \(1\.0, 1\.0\) for a patch of 3"),
        ({**nnunet_folder.plans(), "image_reader_writer": "NaturalImage2DIO"}, {}, "found 'NaturalImage2DIO'"),
        ({**nnunet_folder.plans(), "transpose_forward": [0, 0, 1]}, {}, "must name each axis once"),
        ({"configurations": {}}, {}, "transpose_forward: Field required"),
        (None, {"channel_names": {"0": "T1", "1": "T2"}}, r"channel_names: found 2 \(T1, T2\)"),
        (None, {"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "regions, or numbers"),
        (None, {"labels": {"background": 0, "a": 1, "b": 3, "c": 4}}, "regions, or numbers"),
    ],
)
def test_what_a_contract_cannot_say_is_refused_by_file_and_field(
    tmp_path: Path, data: Path, planned: dict[str, Any] | None, dataset: dict[str, Any], why: str
) -> None:
    with pytest.raises(NetworkError, match=why):
        contract(model(tmp_path, planned=planned, **dataset), data)


def test_structures_of_other_names_are_refused_with_both_lists(tmp_path: Path, data: Path) -> None:
    folder = model(tmp_path, labels={"background": 0, "a": 1, "b": 2, "c": 3})
    with pytest.raises(DataError, match=r"labels: found background, core, .*background, a, b, c"):
        contract(folder, data)


def test_an_ignore_label_is_no_output(tmp_path: Path, data: Path) -> None:
    assert contract(model(tmp_path, labels={**nnunet_folder.LABELS, "ignore": 4}), data).classes == 4


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"labels": 1}', "\xff"])
def test_a_damaged_or_missing_file_is_named(tmp_path: Path, data: Path, name: str, content: str | None) -> None:
    folder = model(tmp_path)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(NetworkError, match=name):
        contract(folder, data)


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path, data: Path) -> None:
    folder = nnunet_folder.write(tmp_path / "model", nnunet_folder.network(classes=3))
    with pytest.raises(NetworkError, match=r"checkpoint_final\.pth: does not fit .*seg_layers"):
        contract(folder, data)


def test_a_configuration_that_the_plans_do_not_have_is_refused(tmp_path: Path, data: Path) -> None:
    folder = model(tmp_path)
    planned = json.loads((folder / "plans.json").read_text())
    planned["configurations"] = {"2d": planned["configurations"]["3d_fullres"]}
    (folder / "plans.json").write_text(json.dumps(planned))
    with pytest.raises(NetworkError, match=r"configuration: found '3d_fullres'; plans\.json has 2d"):
        contract(folder, data)
