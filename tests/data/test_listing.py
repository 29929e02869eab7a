"""Which images are in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dicoms import write_enhanced, write_picture, write_series
from perdure.data.listing import images_below
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


def test_a_dicom_file_without_an_image_is_left_out(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "one.dcm", VOLUME[:, :, 0], more={"Modality": "SR"})
    assert images_below(path.parent) == []
