"""Options become the values that rooms take, and what is not allowed is an error that names the option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import synthetic
from perdure.cli import requests
from perdure.errors import ConfigurationError, DataError, UpdateError
from perdure.update import Recipe, paper_a, paper_b

OPTIONS: dict[str, Any] = {
    "size": None, "spacing": None, "view": "coronal", "dims": 2, "merge_sides": False, "mean": None, "std": None
}  # fmt: skip


def test_network_arguments_are_json_where_they_can_be_and_else_text() -> None:
    spec = requests.network_spec(
        "monai:UNet", ["channels=[8,16]", "norm=batch", "act=null", 'name="x=y"', "bias=false"]
    )
    assert spec.factory == "monai:UNet"
    assert spec.arguments == {"channels": [8, 16], "norm": "batch", "act": None, "name": "x=y", "bias": False}


def test_quicknat_s_own_options_are_arguments_of_its_factory_if_given() -> None:
    spec = requests.network_spec("quicknat", None, filters=8, kernel_size=None, dropout=0.0)
    assert spec.arguments == {"filters": 8, "dropout": 0.0}


@pytest.mark.parametrize("argument", ["channels", "=3", "1a=3", "a b=3"])
def test_a_network_argument_must_be_name_and_value(argument: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--network-arg .*: must be NAME=VALUE"):
        requests.network_spec("monai:UNet", [argument])


def test_a_network_argument_is_said_once() -> None:
    with pytest.raises(ConfigurationError, match=r"--network-arg filters=16: filters is 8 already"):
        requests.network_spec("quicknat", ["filters=16"], filters=8)


def test_quicknat_s_own_options_are_for_quicknat() -> None:
    with pytest.raises(
        ConfigurationError, match=r"--filters, --kernel-size: only for --network quicknat; for resnet50"
    ):
        requests.network_spec("resnet50", None, filters=8, kernel_size=3, dropout=None)


def test_only_what_was_given_replaces_a_number_of_the_preset() -> None:
    assert requests.recipe_settings(epochs=3, batch_size=None, augmentation=False) == {
        "epochs": 3,
        "augmentation": False,
    }
    assert requests.method_settings(batch_norm=None, granularity="kernel") == {"granularity": "kernel"}


def test_all_training_numbers_that_are_not_allowed_are_named_as_options_with_what_was_found() -> None:
    with pytest.raises(ConfigurationError) as caught:
        requests.recipe_settings(epochs=0, learning_rate=-1.0, batch_size=5, seed=2**32)
    assert sorted(str(caught.value).splitlines()) == [
        "--epochs: Input should be greater than or equal to 1, got 0.",
        "--learning-rate: Input should be greater than 0, got -1.0.",
        "--seed: Input should be less than 4294967296, got 4294967296.",
    ]


def test_early_stopping_needs_validation_cases() -> None:
    assert requests.splits_for(paper_b()) == ("train", "val")
    assert requests.splits_for(paper_a("base")) == requests.splits_for(Recipe()) == ("train",)


def first_contract(folder: Path, cache: Path, **options: Any) -> Any:
    domain = "scanner-a" if (folder / "labels" / "scanner-a").exists() else "camera-a"
    return requests.first_contract(folder, domain, cache, lambda done, total: None, **{**OPTIONS, **options})


def test_the_contract_is_what_the_options_ask_for(tmp_path: Path) -> None:
    folder = synthetic.write_volumes(tmp_path / "v", shape=(6, 7, 8), cases=(1, 0, 0))
    options = {"size": 16, "spacing": 2.5, "view": "axial", "merge_sides": True, "mean": [0.5], "std": [0.25]}
    dataset, contract = first_contract(folder, tmp_path / "cache", **options)
    assert dataset.folder == folder
    assert (contract.size, contract.spacing, contract.view) == ((16, 16), (2.5, 2.5, 2.5), "axial")
    assert [structure.name for structure in contract.structures] == ["background", "core", "cortex"]
    assert (contract.intensity.mean, contract.intensity.std) == ((0.5,), (0.25,))
    _, volumes = first_contract(folder, tmp_path / "cache", dims=3)
    assert (volumes.spatial_dims, volumes.view, volumes.spacing) == (3, None, (1, 1, 1))
    assert volumes.intensity.mean is None


def test_a_deviation_of_0_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--std 0: must be above 0"):
        first_contract(tmp_path, tmp_path / "cache", std=[0.5, 0.0])


def test_means_for_another_number_of_channels_are_refused(tmp_path: Path) -> None:
    dataset, contract = first_contract(synthetic.write_images(tmp_path / "i"), tmp_path / "cache", mean=[0.5])
    with pytest.raises(DataError, match=r"intensity\.mean: found \(0\.5,\); one number for each of 3 channel"):
        dataset.domain("camera-a", contract, cache=tmp_path / "cache")


def test_a_card_that_is_not_there_is_named_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    requests.check_device("cpu", 4)
    requests.check_device("cuda", 1)
    with pytest.raises(ConfigurationError, match=r"--device cuda: 2 card\(s\) asked for, found 1"):
        requests.check_device("cuda", 2)


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    requests.check_free(tmp_path / "new")
    with pytest.raises(UpdateError, match="nothing is overwritten"):
        requests.check_free(tmp_path)


def test_weights_of_views_are_a_view_and_a_number() -> None:
    assert requests.view_weights_said(None) == {}
    assert requests.view_weights_said(["axial=0.5", "sagittal=1"]) == {"axial": 0.5, "sagittal": 1}


@pytest.mark.parametrize("word", ["oblique=1", "axial", "axial=high", "axial=[1]"])
def test_another_view_or_weight_is_refused(word: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--view-weight .*: must be"):
        requests.view_weights_said([word])
