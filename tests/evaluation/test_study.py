"""Which series is segmented, and what a study that cannot be segmented costs: nothing is fetched for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

import dicoms
import fakes
from perdure.data.dicom.web import OfferedSeries
from perdure.errors import ConfigurationError, DataError, EvaluationError, PacsError
from perdure.evaluation import Output
from perdure.evaluation.study import predict_study
from perdure.release import Release


class Shelf:
    """A PACS without a network, of which every question is written down.

    Args:
        offered: what its one study has.
        files: of the series that can be fetched, by SOP Instance UID.
    """

    host = "https://pacs.example"

    def __init__(self, *offered: OfferedSeries, files: dict[str, bytes] | None = None) -> None:
        self.offered, self.files, self.asked = offered, files or {}, []
        self.stored: list[bytes] = []

    def series(self, study: str) -> tuple[OfferedSeries, ...]:
        self.asked.append("series")
        return self.offered

    def instances(self, study: str, series: OfferedSeries) -> tuple[str, ...]:
        return tuple(self.files)

    def instance(self, study: str, series: str, uid: str) -> bytes:
        self.asked.append(uid)
        return self.files[uid]

    def store(self, content: bytes) -> str:
        self.stored.append(content)
        return "stored"


def of(modality: str, description: str = "", instances: int | None = 3) -> OfferedSeries:
    return OfferedSeries(str(generate_uid()), modality, description, instances)


def release(**contract: Any) -> Release:
    return fakes.release(fakes.Threshold((0.2, 0.45, 0.7)), fakes.volume_contract(**contract))


def with_files(*paths: Path, modality: str = "MR") -> Shelf:
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return Shelf(of(modality), files={str(file_uid(file)): file.read_bytes() for file in files})


def file_uid(file: Path) -> str:
    return str(dcmread(file).SOPInstanceUID)


@pytest.mark.parametrize("modality", ["T1-weighted MRI", "T1", "T2w"])
def test_a_series_of_another_modality_than_the_contract_s_does_not_fit(tmp_path: Path, modality: str) -> None:
    shelf = Shelf(of("CT", "chest"), of("SR"), of("SEG"))
    with pytest.raises(PacsError, match=rf"no series of the study fits; the contract is for '{modality}'.*MR") as e:
        predict_study(release(modality=modality), shelf, "1.2", tmp_path / "out")
    assert "CT  3 instances  chest" in str(e.value)
    assert not (tmp_path / "out").exists()


def test_where_the_contract_names_no_modality_any_image_fits_but_no_report_or_segmentation(tmp_path: Path) -> None:
    shelf = Shelf(of("SR"), of("SEG"), of("RTSTRUCT"))
    with pytest.raises(PacsError, match="no series"):
        predict_study(release(), shelf, "1.2", tmp_path / "out")
    with pytest.raises(ConfigurationError, match="2 series of the study fit"):
        predict_study(release(), Shelf(of("MR"), of("CT"), of("SR")), "1.2", tmp_path / "out")


def test_what_a_pacs_says_of_series_is_shown_as_one_line_each(tmp_path: Path) -> None:
    shelf = Shelf(of("MR", "a\n\x1b[31mb" + "c" * 100, None), of("MR"))
    with pytest.raises(ConfigurationError) as caught:
        predict_study(release(), shelf, "1.2", tmp_path / "out")
    first, second = str(caught.value).splitlines()[1:]
    assert first.endswith("?" + "?[31mb" + "c" * 56)
    assert " ? instances" in first
    assert second.endswith("3 instances")


def test_nothing_is_asked_for_where_the_folder_of_results_cannot_take_them(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    shelf = Shelf(of("MR"))
    with pytest.raises(EvaluationError, match="holds other files"):
        predict_study(release(), shelf, "1.2", tmp_path)
    assert shelf.asked == []


def test_a_classification_has_nothing_to_store_and_nothing_is_asked_for_it(tmp_path: Path) -> None:
    contract = fakes.picture_contract(task="classification", structures=fakes.structures(normal=0, abnormal=1))
    shelf = Shelf(of("MG"))
    with pytest.raises(EvaluationError, match="classification"):
        predict_study(fakes.release(fakes.Brightness(), contract), shelf, "1.2", tmp_path / "out")
    assert shelf.asked == []


def test_what_is_no_volume_is_an_error_and_stays_fetched(tmp_path: Path) -> None:
    volume = np.ones((6, 6, 4), np.uint16)
    one = dicoms.write_series(tmp_path / "one", volume, np.eye(4))
    one[1].unlink()
    shelf = with_files(tmp_path / "one")
    with pytest.raises(DataError, match="is one missing"):
        predict_study(release(), shelf, "1.2", tmp_path / "out")
    assert shelf.stored == []
    assert len(list((tmp_path / "out" / ".spool").rglob("*.dcm"))) == 3


def test_a_multi_frame_volume_and_each_radiograph_get_a_segmentation_of_their_own(tmp_path: Path) -> None:
    volume = np.arange(6 * 6 * 4, dtype=np.uint16).reshape(6, 6, 4)
    path = dicoms.write_enhanced(tmp_path / "e.dcm", volume, np.eye(4))
    shelf = with_files(path)
    done = predict_study(release(), shelf, "1.2", tmp_path / "volume")
    assert [file.name for file in done.files] == [f"{file_uid(path)}.seg.dcm"]
    assert done.stored == ("stored",)

    pictures = [dicoms.write_picture(tmp_path / f"{i}.dcm", volume[..., i]) for i in range(2)]
    contract = fakes.picture_contract(channels=1, size=(6, 6))
    two = fakes.release(fakes.Threshold((0.01,)), contract)
    shelf = with_files(*pictures, modality="MG")
    for attempt in (2, 0):
        asked = len(shelf.asked)
        done = predict_study(two, shelf, "1.2", tmp_path / "pictures")
        assert sorted(file.name for file in done.files) == sorted(f"{file_uid(one)}.seg.dcm" for one in pictures)
        assert done.stored == ("stored", "stored")
        assert len(shelf.asked) - asked == attempt + 1  # the list of series, and what was not there


def test_what_is_asked_for_later_is_made_later(tmp_path: Path) -> None:
    volume = np.arange(6 * 6 * 4, dtype=np.uint16).reshape(6, 6, 4)
    dicoms.write_series(tmp_path / "s", volume, np.eye(4))
    shelf, out = with_files(tmp_path / "s"), tmp_path / "out"
    series = shelf.offered[0].uid
    (seg,) = predict_study(release(), shelf, "1.2", out, store=False).files
    before = dcmread(seg)
    for output, made in (
        (Output(volumes=True), "volumes.csv"),
        (Output(volumes=True, probabilities=True), f"{series}.dcm_probabilities.nii.gz"),
    ):
        assert not (out / made).exists()
        done = predict_study(release(), shelf, "1.2", out, output=output)
        assert (out / made).exists()
        assert done.stored == ("stored",)
        asked = len(shelf.asked)
        predict_study(release(), shelf, "1.2", out, output=output)
        assert len(shelf.asked) == asked + 1  # the list of series; nothing is fetched or made twice
    assert dcmread(seg).SOPInstanceUID == before.SOPInstanceUID
    rows = (out / "volumes.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [
        [series, name] for name in ("core", "left_cortex", "right_cortex")
    ]


def test_volumes_of_one_picture_are_made_where_those_of_the_others_are(tmp_path: Path) -> None:
    pictures = [dicoms.write_picture(tmp_path / f"{i}.dcm", np.full((6, 6), i, np.uint16)) for i in range(2)]
    two = fakes.release(fakes.Threshold((0.01,)), fakes.picture_contract(channels=1, size=(6, 6)))
    shelf, out = with_files(*pictures, modality="MG"), tmp_path / "out"
    output = Output(volumes=True)
    predict_study(two, shelf, "1.2", out, output=output, store=False)
    table = (out / "volumes.csv").read_text()
    (out / "volumes.csv").write_text("".join(table.splitlines(keepends=True)[:2]))
    predict_study(two, shelf, "1.2", out, output=output, store=False)
    assert (out / "volumes.csv").read_text() == table


def test_what_does_not_belong_to_the_series_is_not_segmented_with_it(tmp_path: Path) -> None:
    volume = np.arange(6 * 6 * 4, dtype=np.uint16).reshape(6, 6, 4)
    dicoms.write_series(tmp_path / "s", volume, np.eye(4))
    shelf = with_files(tmp_path / "s")
    folder = tmp_path / "out" / ".spool" / shelf.offered[0].uid
    folder.mkdir(parents=True)
    for name in ("1.2.3.dcm", ".1.2.4.dcm.0123456789ab.unfinished"):
        (folder / name).write_bytes(b"from another time")
    done = predict_study(release(), shelf, "1.2", tmp_path / "out", store=False, keep=True)
    assert done.files[0].exists()
    assert sorted(file.stem for file in folder.iterdir()) == sorted(shelf.files)


def test_a_damaged_result_of_another_run_is_named_and_not_stored(tmp_path: Path) -> None:
    picture = dicoms.write_picture(tmp_path / "m.dcm", np.arange(36, dtype=np.uint16).reshape(6, 6))
    two = fakes.release(fakes.Threshold((0.01,)), fakes.picture_contract(channels=1, size=(6, 6)))
    shelf = with_files(picture, modality="MG")
    (file,) = predict_study(two, shelf, "1.2", tmp_path / "out", store=False).files
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match=file.name):
        predict_study(two, shelf, "1.2", tmp_path / "out")
    assert shelf.stored == []
