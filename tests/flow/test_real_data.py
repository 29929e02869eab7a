"""One quick look at each kind of real data; without the folder of data sets these are skipped."""

from __future__ import annotations

import csv
import math
import shutil
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from command import Command, quietly
from perdure.methods import built_in

NETWORK = """
from torch import nn


def small(in_channels: int, num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, num_classes),
    )
"""


def some_of(data: Path, folder: Path, count: int = 24) -> Path:
    """A data folder with so many cases of each split of each domain."""
    folder.mkdir()
    shutil.copyfile(data / "dataset.toml", folder / "dataset.toml")
    with (data / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for row in rows:
        seen[row["domain"], row["split"]] += 1
        if seen[row["domain"], row["split"]] <= count:
            kept.append(row)
            (folder / row["image"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / row["image"], folder / row["image"])
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    return folder


def test_retina_vessels_of_two_cameras(shared_data: Path, tmp_path: Path, command: Command) -> None:
    data = ("--data", shared_data / "retina_vessels", "--epochs", 1)
    network = ("--filters", 4, "--kernel-size", 3, "--size", 64)
    command.succeeds("train", "--domain", "drive", *data, *network, "--out", tmp_path / "drive")
    command.succeeds("update", "--release", tmp_path / "drive", "--domain", "chase", *data, "--out", tmp_path / "chase")
    assert "drive (" in command.succeeds("inspect", tmp_path / "chase").out


def test_chest_radiographs_with_a_network_of_one_s_own(
    shared_data: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets_for_radiographs.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    data = some_of(shared_data / "cxr_pneumonia", tmp_path / "data")
    trust = ("--trust", "nets_for_radiographs")
    network = ("--network", "nets_for_radiographs:small", *trust, "--size", 32, "--importance-samples", 20)
    words = ("--data", data, "--domain", "guangzhou_paediatric", *network, "--epochs", 1, "--no-augment")
    command.succeeds("train", *words, "--out", tmp_path / "base")
    scored = ("--release", tmp_path / "base", "--data", data, *trust, "--split", "val")
    record = command.succeeds("evaluate", *scored, "--out", tmp_path / "scores.parquet", "--json").json
    assert [row["metric"] for row in record["scores"]] == ["kappa", "accuracy", "auc"]


def test_brain_volumes_with_left_and_right_as_one(shared_data: Path, tmp_path: Path, command: Command) -> None:
    data = shared_data / "brain_sites"
    contract = ("--spacing", 4, "--merge-sides", "--filters", 4, "--kernel-size", 3)
    words = ("--data", data, "--domain", "siteA", *contract, "--epochs", 1, "--importance-samples", 10)
    record = command.succeeds("train", *words, "--out", tmp_path / "base", "--json").json
    names = [structure["name"] for structure in record["contract"]["structures"]]
    # 14 structures have a left and a right side, 3 have none; and there is the background
    assert len(names) == 14 + 3 + 1
    assert not any(name.startswith(("left_", "right_")) for name in names)
    image = next(path for path in sorted((data / "images").rglob("*.nii.gz")) if "siteA" in str(path))
    command.succeeds("predict", "--release", tmp_path / "base", "--input", image, "--out", tmp_path / "predicted")
    scan, labels = nib.load(image), nib.load(tmp_path / "predicted" / image.name)
    assert labels.shape == scan.shape
    assert labels.affine.tobytes() == scan.affine.tobytes()
    assert np.issubdtype(labels.get_data_dtype(), np.integer)


@pytest.fixture(scope="module")
def cameras(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two releases of the first camera that hold all importance: one plain, one with dropout."""
    folder = tmp_path_factory.mktemp("cameras")
    measures = ("--measure", "mas", "--measure", "fisher", "--measure", "si")
    words = ("--data", shared_data / "retina_vessels", "--domain", "drive", "--epochs", 1, *measures)
    network = ("--filters", 4, "--kernel-size", 3, "--size", 48, "--importance-samples", 4)
    quietly("train", *words, *network, "--out", folder / "plain")
    quietly("train", *words, *network, "--dropout", 0.2, "--out", folder / "with-dropout")
    return folder


@pytest.mark.parametrize("name", built_in())
def test_every_method_updates_from_one_camera_to_another(
    name: str, shared_data: Path, cameras: Path, tmp_path: Path, command: Command
) -> None:
    method = built_in()[name]()
    release = cameras / ("with-dropout" if method.needs_dropout else "plain")
    old = ("--joint-with", "drive") if method.data in ("cumulative", "replay") else ()
    allowed = ("--allow-patient-data",) if method.data == "replay" else ()
    data = ("--data", shared_data / "retina_vessels", "--domain", "chase", "--epochs", 1, "--importance-samples", 4)
    words = ("--method", name, *old, *allowed, "--out", tmp_path / name)
    record = command.succeeds("update", "--release", release, *data, *words, "--json").json
    assert record["method"]["name"] == name
    assert [seen["domain"] for seen in record["domains"]] == ["drive", "chase"]
    epochs = record["training"]["epochs"]
    assert [math.isfinite(epoch["loss"]) for epoch in epochs] == ([] if method.data == "none" else [True])
    assert record["measures"].keys() >= {"mas", "fisher", "si"}
