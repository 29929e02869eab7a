"""Scans are found and cut without a label anywhere."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import synthetic
from fakes import picture_contract, volume_contract
from perdure.data import Dataset, prepare_image
from perdure.data.unlabelled import network_samples, unlabelled_scans
from perdure.errors import DataError


def without_columns(folder: Path, *names: str) -> None:
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [name for name in rows[0] if name not in names]
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def test_a_folder_without_labels_and_without_a_description_will_do(tmp_path: Path) -> None:
    synthetic.write_images(tmp_path, domains=("a", "b"), cases=(2, 1, 1))
    (tmp_path / "dataset.toml").unlink()
    without_columns(tmp_path, "label")
    assert len(unlabelled_scans(tmp_path)) == 8
    chosen = unlabelled_scans(tmp_path, ["b"], "train")
    assert [scan.subject for scan in chosen] == ["b-train-0", "b-train-1"]
    assert all(scan.image.is_file() for scan in chosen)


def test_images_alone_are_subjects_of_their_own(tmp_path: Path) -> None:
    synthetic.write_images(tmp_path / "data", domains=("a",), cases=(2, 0, 0))
    scans = unlabelled_scans(tmp_path / "data" / "images")
    assert [scan.subject for scan in scans] == ["a/a-train-0.png", "a/a-train-1.png"]


def test_whether_anybody_said_whose_a_scan_is_is_known(tmp_path: Path) -> None:
    synthetic.write_images(tmp_path, domains=("a",), cases=(2, 0, 0))
    assert all(scan.is_subject_known for scan in unlabelled_scans(tmp_path))
    without_columns(tmp_path, "subject")
    assert not any(scan.is_subject_known for scan in unlabelled_scans(tmp_path))
    (tmp_path / "manifest.csv").unlink()
    assert not any(scan.is_subject_known for scan in unlabelled_scans(tmp_path / "images"))


@pytest.mark.parametrize(
    ("drop", "domains", "split", "said"),
    [
        (("image",), (), None, "column image: found nothing"),
        (("domain",), ("a",), None, "column domain: found nothing"),
        (("split",), (), "val", "column split: found nothing"),
        ((), ("c",), None, "domain: found c; it has a"),
        ((), ("a",), "test", "found none of this domain and split"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, drop: tuple[str, ...], domains: tuple[str, ...], split: str | None, said: str
) -> None:
    synthetic.write_images(tmp_path, domains=("a",), cases=(2, 1, 0))
    without_columns(tmp_path, *drop)
    with pytest.raises(DataError, match=said):
        unlabelled_scans(tmp_path, domains, split)


def test_a_path_must_stay_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("image\n../secret.png\n")
    with pytest.raises(DataError, match=r"line 2, image: found '\.\./secret\.png'"):
        unlabelled_scans(tmp_path)


def test_a_folder_without_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="images: found none"):
        unlabelled_scans(tmp_path)
    with pytest.raises(DataError, match="domains and splits stand in it"):
        unlabelled_scans(tmp_path, ["a"])


@pytest.mark.parametrize("dims", [2, 3])
def test_samples_of_a_volume_are_those_that_training_cuts(tmp_path: Path, dims: int) -> None:
    synthetic.write_volumes(tmp_path / "data", domains=("a",), cases=(1, 1, 1))
    dataset = Dataset.open(tmp_path / "data")
    changes = {"spatial_dims": 3, "size": (16, 16, 16), "view": None} if dims == 3 else {"size": (16, 40)}
    contract = volume_contract(**changes)
    domain = dataset.domain("a", contract, cache=tmp_path / "cache")
    expected = torch.cat([inputs for inputs, _ in domain.batches("test", 4)])
    scans = unlabelled_scans(tmp_path / "data", ["a"], "test")
    found = torch.cat(
        [part for scan in scans for part in network_samples(prepare_image(scan.image, contract), contract, 3)]
    )
    assert torch.equal(found, expected)


def test_a_picture_is_one_sample(tmp_path: Path) -> None:
    synthetic.write_images(tmp_path, domains=("a",), cases=(1, 0, 0))
    (scan,) = unlabelled_scans(tmp_path)
    (sample,) = network_samples(prepare_image(scan.image, picture_contract()), picture_contract())
    assert sample.shape == (1, 3, 40, 48)
    assert np.isfinite(sample.numpy()).all()
