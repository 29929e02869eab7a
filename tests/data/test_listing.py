"""Which images are in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dicoms import write_enhanced, write_picture, write_segmentation, write_series
from perdure.data.listing import Listing, images_below, listing
from perdure.data.places import list_content
from synthetic import save_image, save_volume

VOLUME = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)


def test_a_folder_of_slices_is_one_image_and_other_files_are_one_each(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    save_volume(tmp_path / "b.nii.gz", VOLUME, (1, 1, 1))
    write_series(tmp_path / "study" / "s1", VOLUME, np.eye(4), names=["IM1", "IM2", "IM3", "IM4"])
    write_series(tmp_path / "study" / "s2", VOLUME, np.eye(4))
    write_picture(tmp_path / "mammograms" / "one.dcm", VOLUME[:, :, 0])
    write_picture(tmp_path / "mammograms" / "two", VOLUME[:, :, 0])
    write_enhanced(tmp_path / "many.dcm", VOLUME, np.eye(4))
    (tmp_path / "damaged.dcm").write_bytes(b"no")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    found = [path.relative_to(tmp_path).as_posix() for path in images_below(tmp_path)]
    assert found == [
        "a.png", "b.nii.gz", "damaged.dcm", "mammograms/one.dcm", "mammograms/two", "many.dcm", "study/s1", "study/s2",
    ]  # fmt: skip


def test_a_series_folder_and_a_file_stand_for_themselves(tmp_path: Path) -> None:
    write_series(tmp_path / "s", VOLUME, np.eye(4))
    one = write_picture(tmp_path / "one", VOLUME[:, :, 0])
    (tmp_path / "notes.txt").write_text("no image")
    assert images_below(tmp_path / "s") == [tmp_path / "s"]
    assert images_below(one) == [one]
    assert images_below(tmp_path / "notes.txt") == []


def test_dicom_files_without_an_image_are_left_out_and_told(tmp_path: Path) -> None:
    report = write_picture(tmp_path / "one.dcm", VOLUME[:, :, 0], more={"Modality": "SR"})
    files = write_series(tmp_path / "study", VOLUME, np.eye(4))
    seg = write_segmentation(tmp_path / "study" / "seg.dcm", files, VOLUME > 3, {1: "core"})
    found = listing(tmp_path)
    assert found.images == [tmp_path / "study"]
    assert sorted(found.others) == [report, seg]


def test_a_list_of_files_is_an_image_and_that_of_a_label_is_none(tmp_path: Path) -> None:
    files = write_series(tmp_path / "source", VOLUME, np.eye(4))
    seg = write_segmentation(tmp_path / "source" / "seg.dcm", files, VOLUME > 3, {1: "core"})
    series = tmp_path / "data" / "series"
    series.mkdir(parents=True)
    (tmp_path / "data" / "dataset.toml").write_text('source = "../source"\n')
    (series / "a.files").write_bytes(list_content([file.name for file in files]))
    (series / "a-label.files").write_bytes(list_content([seg.name]))
    (series / "b.files").write_bytes(list_content(["nowhere"]))
    assert listing(tmp_path / "data") == Listing(
        [series / "a.files", series / "b.files"], [series / "a-label.files"], [tmp_path / "data" / "dataset.toml"]
    )
    assert images_below(series / "a.files") == [series / "a.files"]


def test_what_is_no_image_is_counted_and_what_may_be_one_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_series(tmp_path / "elsewhere" / "p1", VOLUME, np.eye(4))
    write_segmentation(tmp_path / "in" / "p2" / "seg.dcm", files, VOLUME > 3, {1: "core"})
    (tmp_path / "in" / "p1").symlink_to(tmp_path / "elsewhere" / "p1")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "in" / "gone.nii").symlink_to("nowhere.nii")
    os.mkfifo(tmp_path / "in" / "pipe")
    (tmp_path / "in" / "piped").symlink_to("pipe")  # opened, it would be waited for
    closed, listed = tmp_path / "in" / "p3", os.scandir
    closed.mkdir()

    def refusing(path: str) -> object:
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = listing(tmp_path / "in")
    assert found.images == [tmp_path / "in" / "gone.nii", closed]
    assert found.passed_over == {
        "DICOM file(s) without an image (segmentations, reports)": 1,
        "file(s) in formats that are not read": 1,
        "folder(s) that are links": 1,
    }
