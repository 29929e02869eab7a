"""From a folder to a contract and a domain, for every kind of dataset."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import synthetic
from perdure.data import Cache, Dataset
from perdure.errors import DataError


def test_volumes_are_turned_to_lia_resampled_to_1_mm_and_cut_coronally(tmp_path: Path, cache: Cache) -> None:
    dataset = Dataset.open(synthetic.write_volumes(tmp_path / "v", shape=(20, 24, 22), spacing=(2, 1, 1)))
    contract = dataset.default_contract(cache=cache)
    assert (contract.orientation, contract.spacing, contract.view, contract.spatial_dims) == (
        "LIA",
        (1, 1, 1),
        "coronal",
        2,
    )
    assert (contract.task, contract.modality, contract.channels) == ("segmentation", "synthetic", 1)
    assert contract.intensity.scaling == "robust"
    # coronal slices are left-right by up-down: 40 x 22 mm, rounded up to 48 x 32
    assert contract.size == (48, 32)
    assert dataset.default_contract(view="axial", cache=cache).size == (32, 48)
    assert dataset.default_contract(size=64, cache=cache).size == (64, 64)
    assert dataset.default_contract(size=(64, 48), cache=cache).size == (64, 48)
    assert dataset.default_contract(spacing=(2, 2, 2), cache=cache).size == (32, 16)
    assert [s.name for s in contract.structures] == ["background", "core", "left_cortex", "right_cortex"]


def test_the_size_is_that_of_the_largest_volume_of_the_domain(tmp_path: Path, cache: Cache) -> None:
    small = synthetic.write_volumes(tmp_path / "v", domains=("a", "b"), shape=(8, 8, 8), spacing=(1, 1, 1))
    large = synthetic.write_volumes(tmp_path / "w", domains=("a", "b"), shape=(8, 8, 30), spacing=(1, 1, 1))
    for kind in ("images", "labels"):
        shutil.rmtree(small / kind / "b")
        (large / kind / "b").rename(small / kind / "b")
    dataset = Dataset.open(small)
    assert dataset.default_contract("a", cache=cache).size == (16, 16)
    assert dataset.default_contract("b", cache=cache).size == (16, 32)
    assert dataset.default_contract(cache=cache).size == (16, 32)


def test_the_spacing_of_the_dataset_comes_before_1_mm_and_after_the_argument(tmp_path: Path, cache: Cache) -> None:
    folder = synthetic.write_volumes(tmp_path / "v")
    toml = (folder / "dataset.toml").read_text()
    (folder / "dataset.toml").write_text(toml.replace("[labels]", "spacing = 2\n[labels]"))
    assert Dataset.open(folder).default_contract(cache=cache).spacing == (2, 2, 2)
    assert Dataset.open(folder).default_contract(spacing=(1, 1, 3), cache=cache).spacing == (1, 1, 3)


def test_grey_images_are_repeated_for_a_network_that_takes_colour(tmp_path: Path, cache: Cache) -> None:
    grey = Dataset.open(synthetic.write_classes(tmp_path / "grey"))
    own, colour = grey.default_contract(cache=cache), grey.default_contract(channels=3, cache=cache)
    assert (own.channels, colour.channels) == (1, 3)
    name = grey.domains[0]
    one, three = (next(grey.domain(name, c, cache=cache).batches("train", 2))[0] for c in (own, colour))
    assert torch.equal(three, one.expand(-1, 3, -1, -1))
    coloured = Dataset.open(synthetic.write_images(tmp_path / "coloured"))
    with pytest.raises(DataError, match="its images have 3 channels; only grey ones can be repeated to 4"):
        coloured.default_contract(channels=4, cache=cache)


def test_sides_are_merged_on_request_with_both_values(tmp_path: Path, cache: Cache) -> None:
    dataset = Dataset.open(synthetic.write_volumes(tmp_path / "v"))
    merged = dataset.default_contract(merge_sides=True, cache=cache)
    assert [(s.name, s.values) for s in merged.structures] == [
        ("background", (0,)),
        ("core", (16,)),
        ("cortex", (3, 42)),
    ]
    reference = dataset.domain("scanner-a", merged, cache=cache).cases("train")[0].reference()
    assert set(np.unique(reference)) == {0, 1, 2}


def test_a_3d_contract_has_patches_of_at_most_96(tmp_path: Path, cache: Cache) -> None:
    dataset = Dataset.open(synthetic.write_volumes(tmp_path / "v", shape=(60, 10, 20), spacing=(2, 1, 1)))
    contract = dataset.default_contract(spatial_dims=3, cache=cache)
    assert (contract.size, contract.view) == ((96, 32, 16), None)


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (1, 16), (3, 16)])
def test_pictures_are_scaled_by_their_format_and_kept_at_their_size(
    tmp_path: Path, cache: Cache, channels: int, bits: int
) -> None:
    dataset = Dataset.open(synthetic.write_images(tmp_path / "i", size=(30, 41), channels=channels, bits=bits))
    contract = dataset.default_contract(cache=cache)
    assert (contract.size, contract.channels, contract.resize, contract.orientation) == (
        (30, 41),
        channels,
        "fit",
        None,
    )
    image = dataset.domain("camera-a", contract, cache=cache).cases("train")[0].image
    assert image.shape == (1, channels, 30, 41)
    # the disc is at 0.75 of white, the ground at 0.35, in 8 bits as in 16
    assert np.percentile(image, 99) == pytest.approx(0.78, abs=0.05)
    assert np.median(image) == pytest.approx(0.35, abs=0.05)


def test_pictures_with_a_class_are_stretched_and_keep_the_order_of_the_classes(tmp_path: Path, cache: Cache) -> None:
    dataset = Dataset.open(synthetic.write_classes(tmp_path / "c", classes=("low", "mid", "high"), ordinal=True))
    contract = dataset.default_contract(cache=cache)
    assert (contract.task, contract.resize, contract.ordinal) == ("classification", "stretch", True)
    assert [s.name for s in contract.structures] == ["low", "mid", "high"]


def test_images_of_different_kinds_are_refused_unless_their_domains_are_asked_for_alone(
    tmp_path: Path, cache: Cache
) -> None:
    folder = synthetic.write_images(tmp_path / "i")
    for path in (folder / "images" / "camera-b").iterdir():
        synthetic.save_image(path, np.zeros((40, 48), np.uint8))
    dataset = Dataset.open(folder)
    with pytest.raises(
        DataError, match=r"manifest.csv: column image: found pictures of 1 channel\(s\) and pictures of 3 channel"
    ):
        dataset.default_contract(cache=cache)
    assert dataset.default_contract("camera-b", cache=cache).channels == 1


def test_a_network_of_three_dimensions_needs_volumes_and_a_class_of_a_volume_such_a_network(
    tmp_path: Path, cache: Cache
) -> None:
    with pytest.raises(DataError, match="a 3-D network needs volumes"):
        Dataset.open(synthetic.write_images(tmp_path / "i")).default_contract(spatial_dims=3, cache=cache)
    folder = synthetic.write_volumes(tmp_path / "v", shape=(8, 8, 8))
    lines = (folder / "manifest.csv").read_text().splitlines()
    rows = [f"{line},{'class' if i == 0 else i % 2}" for i, line in enumerate(lines)]
    (folder / "manifest.csv").write_text("\n".join(rows))
    (folder / "dataset.toml").write_text('name = "n"\ntask = "classification"\n[labels]\nno = 0\nyes = 1\n')
    dataset = Dataset.open(folder)
    with pytest.raises(DataError, match="one class for a volume needs a network that takes volumes"):
        dataset.domain("scanner-a", dataset.default_contract(cache=cache), cache=cache)
    contract = dataset.default_contract(spatial_dims=3, cache=cache)
    images, targets = next(dataset.domain("scanner-a", contract, cache=cache).batches("train", 2))
    assert images.shape == (2, 1, 16, 16, 16)
    assert targets.tolist() == [1, 0]


def test_domains_come_in_the_order_of_the_description_or_the_manifest(tmp_path: Path) -> None:
    folder = synthetic.write_classes(tmp_path / "c", domains=("z", "a"))
    assert Dataset.open(folder).domains == ("z", "a")
    toml = (folder / "dataset.toml").read_text()
    (folder / "dataset.toml").write_text(toml.replace("[labels]", 'domains = ["a", "z"]\n[labels]'))
    assert Dataset.open(folder).domains == ("a", "z")


@pytest.mark.parametrize(
    ("name", "size", "channels", "classes", "train"),
    [
        ("brain_sites", (176, 176), 1, 32, {"siteA": 5, "siteB": 1, "siteC": 1, "siteD": 1}),
        ("retina_vessels", (448, 448), 3, 2, {"drive": 16, "chase": 16, "hrf": 18, "lesav": 9}),
        ("mammo_density", (224, 224), 1, 3, {"film_real": 98, "simulated_detector": 98}),
    ],
)
def test_real_datasets_open_and_prepare(
    shared_data: Path,
    cache: Cache,
    name: str,
    size: tuple[int, int],
    channels: int,
    classes: int,
    train: dict[str, int],
) -> None:
    dataset = Dataset.open(shared_data / name)
    contract = dataset.default_contract(dataset.domains[0], cache=cache)
    assert (contract.size, contract.channels, contract.classes) == (size, channels, classes)
    for domain_name in dataset.domains:
        domain = dataset.domain(domain_name, contract, cache=cache)
        assert sum(row.split == "train" for row in domain.rows.values()) == train[domain_name]
        case = domain.case(next(iter(domain.rows)))
        assert np.isfinite(case.image).all()
        assert case.reference().max() > 0 or contract.task == "classification"


def test_means_and_deviations_stand_in_the_contract(tmp_path: Path, cache: Cache) -> None:
    dataset = Dataset.open(synthetic.write_classes(tmp_path / "c", cases=(2, 1, 1)))
    intensity = dataset.default_contract(mean=[0.5], std=[0.25], cache=cache).intensity
    assert (intensity.scaling, intensity.mean, intensity.std) == ("format", (0.5,), (0.25,))
    with pytest.raises(ValueError, match=r"`std` must be above 0.*got \(0\.0,\)"):
        dataset.default_contract(std=[0.0], cache=cache)
