"""Every bad input stops `perdure train` before it starts, with a message that names the file and the field."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import synthetic
from command import Command, Ended

Row = dict[str, str]
Mistake = Callable[[Path, list[Row]], None]


def same_subject_in_two_splits(folder: Path, rows: list[Row]) -> None:
    rows[0]["subject"] = rows[4]["subject"]


def duplicated_id(folder: Path, rows: list[Row]) -> None:
    rows[1]["id"] = rows[0]["id"]


def missing_file(folder: Path, rows: list[Row]) -> None:
    (folder / rows[0]["label"]).unlink()


def unreadable_image(folder: Path, rows: list[Row]) -> None:
    content = (folder / rows[0]["image"]).read_bytes()
    (folder / rows[0]["image"]).write_bytes(content[: len(content) // 2])


def label_outside_the_set(folder: Path, rows: list[Row]) -> None:
    change(folder / rows[0]["label"], lambda voxels: np.where(voxels == 3, 99, voxels))


def different_shapes(folder: Path, rows: list[Row]) -> None:
    change(folder / rows[0]["label"], lambda voxels: voxels[1:])


def voxel_that_is_not_finite(folder: Path, rows: list[Row]) -> None:
    change(
        folder / rows[0]["image"], lambda voxels: np.where(voxels == voxels.max(), np.inf, voxels).astype(np.float32)
    )


def empty_split(folder: Path, rows: list[Row]) -> None:
    rows[:] = [row for row in rows if (row["domain"], row["split"]) != ("scanner-a", "train")]


def unknown_split(folder: Path, rows: list[Row]) -> None:
    rows[0]["split"] = "training"


def change(path: Path, of: Callable[[np.ndarray], np.ndarray]) -> None:
    volume = nib.load(path)
    nib.save(nib.Nifti1Image(of(np.asarray(volume.dataobj)), volume.affine), path)


MISTAKES: dict[Mistake, tuple[str, str, str]] = {
    same_subject_in_two_splits: (
        "manifest.csv",
        "columns subject and split",
        "subject 'scanner-a-test-1' in train and test",
    ),
    duplicated_id: ("manifest.csv", "lines 2, 3, column id", "'scanner-a-train-0-t1' 2 times"),
    missing_file: ("manifest.csv", "line 2 (id 'scanner-a-train-0-t1'), column label", "scanner-a-train-0.nii.gz"),
    unreadable_image: ("images/scanner-a/scanner-a-train-0.nii.gz", "content", "an unreadable file"),
    label_outside_the_set: ("labels/scanner-a/scanner-a-train-0.nii.gz", "values", "99, not in the label set"),
    different_shapes: ("labels/scanner-a/scanner-a-train-0.nii.gz", "shape", "(5, 7, 8)"),
    voxel_that_is_not_finite: ("images/scanner-a/scanner-a-train-0.nii.gz", "voxels", "inf at"),
    empty_split: ("manifest.csv", "domain scanner-a", "no train case"),
    unknown_split: ("manifest.csv", "line 2 (id 'scanner-a-train-0-t1'), column split", "'training'"),
}


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    return synthetic.write_volumes(tmp_path / "volumes", shape=(6, 7, 8))


def make(folder: Path, *mistakes: Mistake) -> None:
    manifest = folder / "manifest.csv"
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0])
    for mistake in mistakes:
        mistake(folder, rows)
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def train(command: Command, folder: Path) -> Ended:
    out = folder.parent / "releases" / "base"
    ended = command("train", "--data", folder, "--domain", "scanner-a", "--filters", 2, "--epochs", 1, "--out", out)
    assert not out.parent.exists()
    assert ended.out == ""
    return ended


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_named_by_file_field_and_what_was_found_and_nothing_is_written(
    command: Command, volumes: Path, mistake: Mistake
) -> None:
    make(volumes, mistake)
    ended = train(command, volumes)
    file, field, found = MISTAKES[mistake]
    assert ended.code == 1
    line = ended.err.splitlines()[-1]
    assert line.startswith(f"error: {volumes / file}: {field}: found ")
    assert found in line


def test_all_mistakes_come_in_one_message(command: Command, volumes: Path) -> None:
    mistakes = (duplicated_id, different_shapes, same_subject_in_two_splits)
    make(volumes, *mistakes)
    ended = train(command, volumes)
    assert ended.code == 1
    message = ended.err.partition("error: ")[2]
    assert message.startswith("3 problems:\n")
    for mistake in mistakes:
        assert f"{volumes / MISTAKES[mistake][0]}: {MISTAKES[mistake][1]}: found " in message


def test_a_mistake_in_the_new_domain_stops_an_update_in_the_same_way(command: Command, volumes: Path) -> None:
    base = volumes.parent / "base"
    options = ("--filters", 2, "--kernel-size", 3, "--epochs", 1, "--spacing", 2)
    command.succeeds("train", "--data", volumes, "--domain", "scanner-a", *options, "--out", base)
    other = synthetic.write_volumes(volumes.parent / "other", domains=("scanner-b",), shape=(6, 7, 8))
    rename = other / "images/scanner-b/scanner-b-train-0.nii.gz"
    rename.write_bytes(b"")
    out = volumes.parent / "b"
    ended = command("update", "--release", base, "--data", other, "--domain", "scanner-b", "--out", out)
    assert ended.code == 1
    assert f"error: {rename}: content: found an unreadable file" in ended.err
    assert not out.exists()
    assert not out.with_name("b.run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--domain", "scanner-x"], "manifest.csv: domain: found 'scanner-x'; it has scanner-a, scanner-b"),
        (["--data", "nowhere"], "nowhere/dataset.toml: file: found nothing"),
        (["--network", "quicknot"], "There is no network 'quicknot'"),
        (["--network", "monai:UNett"], "MONAI has no network 'UNett'. Did you mean UNet"),
        (["--network", "sklearn.svm:SVC"], "--trust sklearn"),
        (
            ["--network", "monai:UNet", "--size", "45"],
            "does not take a training sample, 1 channel(s) of 45 x 45 pixels",
        ),
        (
            ["--network", "resnet50", "--size", "32"],
            "answers a training sample with (1, 4); for segmentation it must be",
        ),
        (["--weights", "no.pt"], "no.pt: no such file"),
        (["--filters", "2", "--patience", "3", "--domain", "scanner-b"], "domain scanner-b: found no val case"),
    ],
)
def test_what_does_not_exist_is_named_and_what_there_is_listed(
    command: Command, tmp_path: Path, words: list[str], message: str
) -> None:
    folder = synthetic.write_volumes(tmp_path / "volumes", shape=(6, 7, 8), cases=(1, 1, 0))
    make(folder, lambda _, rows: rows.remove(rows[3]))
    ended = command("train", "--data", folder, "--domain", "scanner-a", "--out", tmp_path / "base", *words)
    assert ended.code == 1
    assert message in ended.err
    assert "preparing images" not in ended.err
    assert not (tmp_path / "base").exists()
