"""`perdure check` from the command line, on scans whose labels nobody has."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import synthetic
from command import Command, quietly

# running statistics need some fifty slow steps before they follow the weights
_TRAINING = ("--epochs", 20, "--batch-size", 2, "--learning-rate", 0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `data` of two cameras, `base` that has learnt the first, and `both` with a batch norm for each."""
    folder = tmp_path_factory.mktemp("check")
    data = synthetic.write_images(folder / "data", domains=("a", "b", "c"), cases=(6, 1, 6), size=(32, 32))
    words = ("--filters", 3, "--kernel-size", 3, "--measure", "uniform", *_TRAINING)
    quietly("train", "--data", data, "--domain", "a", *words, "--out", folder / "base")
    words = ("--release", folder / "base", "--data", data, "--domain", "c", *_TRAINING)
    quietly("update", *words, "--out", folder / "both")
    return folder


def test_unseen_scans_of_the_same_camera_are_in_contract(command: Command, folder: Path) -> None:
    words = ("--data", folder / "data", "--domain", "a", "--split", "test", "--json")
    record = command.succeeds("check", "--release", folder / "base", *words).json
    assert (record["state"], record["suggestion"], record["like"]) == ("in contract", "nothing", "a")
    (shift,) = record["shift"]["domains"]
    assert len(shift["layers"]) == 27
    assert record["shift"]["subjects"] == 6
    assert record["shift"]["unnamed"] == 0
    assert shift["intensities"]["distance"] < 0.2


def test_scans_of_another_camera_are_shifted_and_need_no_labels(command: Command, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "data" / "images" / "c", tmp_path / "scans")
    record = command.succeeds("check", "--release", folder / "base", "--data", tmp_path / "scans", "--json").json
    assert record["state"] == "shifted"
    assert record["suggestion"] in ("recalibrate", "update")
    # files without a manifest: nobody says whose they are, and a person is told so
    assert record["shift"]["unnamed"] == record["shift"]["subjects"]
    assert record["reasons"][0].startswith("Nobody says whose scans")


def test_a_release_with_one_batch_norm_a_domain_is_compared_with_each(command: Command, folder: Path) -> None:
    for domain in ("a", "c"):
        words = ("--data", folder / "data", "--domain", domain, "--split", "test", "--json")
        record = command.succeeds("check", "--release", folder / "both", *words).json
        assert record["like"] == domain
        assert {one["like"] for one in record["shift"]["domains"]} == {"a", "c"}


def test_other_images_are_out_of_scope_and_each_is_named(command: Command, folder: Path, tmp_path: Path) -> None:
    volume = np.zeros((4, 4, 4), np.uint8)
    synthetic.save_volume(tmp_path / "brain.nii.gz", volume, (1.0, 1.0, 1.0))
    ended = command.succeeds("check", "--release", folder / "base", "--data", tmp_path)
    text = " ".join(ended.out.split())
    assert "out of scope: 1 of 1 scans do not follow the contract." in text
    assert "Do not use this release on these scans" in text
    assert "brain.nii.gz" in text


def test_a_person_reads_the_verdict_and_the_layers(command: Command, folder: Path) -> None:
    words = ("--data", folder / "data", "--domain", "c", "--split", "test")
    text = " ".join(command.succeeds("check", "--release", folder / "base", *words).out.split())
    assert "shifted: Intensities are" in text
    assert "Layers are" in text
    assert "Furthest layers, of 27, from a; 6 subject(s)" in text
