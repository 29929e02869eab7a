"""No result is taken for that of another image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import dicoms
import fakes
import synthetic
from perdure.evaluation import Output, Predicted, Predictor, predict_files
from perdure.evaluation.prediction_sources import SOURCES, content_digest
from perdure.evaluation.prediction_writing import TABLE, VOLUMES
from perdure.release import Release

AFFINE = np.diag([2.0, 2, 2, 1])
ALL = Output(probabilities=True, volumes=True)


@pytest.fixture
def volumes() -> Release:
    return fakes.release(fakes.Threshold((0.2, 0.45, 0.7)), fakes.volume_contract())


@pytest.fixture
def classes() -> Release:
    contract = fakes.picture_contract(
        task="classification", channels=1, size=(16, 16), structures=fakes.structures(normal=0, abnormal=1)
    )
    return fakes.release(fakes.Brightness(), contract)


def noise(seed: int, shape: tuple[int, ...] = (6, 7, 8)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(np.uint16)


def nifti(path: Path, seed: int) -> Path:
    synthetic.save_volume(path, noise(seed), (2, 2, 2))
    return path


def mgz(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.MGHImage(noise(seed).astype(np.int16), AFFINE), path)
    return path


def series(path: Path, seed: int) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    dicoms.write_series(path, noise(seed), AFFINE)
    return path


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def outcome(done: Predicted) -> tuple[int, int, int]:
    return len(done.written), done.skipped, len(done.failed)


WAYS = [
    (nifti, "sub-1_T1w.nii.gz", None),
    (nifti, "sub-1_T1w.nii", "mgz"),
    (nifti, "sub-1_T1w.nii.gz", "bids"),
    (mgz, "sub-1_T1w.mgz", None),
    (series, "sub-1_T1w", None),
    (series, "sub-1_T1w", "bids"),
    (series, "sub-1_T1w", "dicom-seg"),
]


@pytest.mark.parametrize(("write", "name", "form"), WAYS)
def test_an_image_that_was_replaced_fails_and_its_result_stays(
    tmp_path: Path, volumes: Release, write: Callable[[Path, int], Path], name: str, form: str | None
) -> None:
    source, out, wanted = tmp_path / "in", tmp_path / "out", Output(form)
    image = write(source / name, 1)
    assert outcome(predict_files(volumes, source, out, output=wanted)) == (1, 0, 0)
    before = contents(out)
    write(image, 2)
    other = write(source / name.replace("sub-1", "sub-2"), 3)
    # and not by what is asked for later either
    for output in (wanted, Output(form, probabilities=True, volumes=True)):
        again = predict_files(volumes, source, out, output=output, match="sub-1*")
        assert outcome(again) == (0, 0, 1)
        why = again.failed[str(image)]
        assert "another image than" in why
        assert "remove that result to have it predicted again, or name another --out" in why
        assert {name: before[name] for name in before} == {name: contents(out)[name] for name in before}
    assert outcome(predict_files(volumes, source, out, output=wanted)) == (1, 0, 1)
    assert other.exists()


def test_a_series_of_which_the_rest_has_come_is_another_image(tmp_path: Path, volumes: Release) -> None:
    files = dicoms.write_series(tmp_path / "all", noise(1), AFFINE)
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    (inbox / "p1").mkdir(parents=True)
    for file in files[:4]:
        shutil.copy(file, inbox / "p1")
    assert outcome(predict_files(volumes, inbox, out)) == (1, 0, 0)
    for file in files[4:]:
        shutil.copy(file, inbox / "p1")
    assert outcome(predict_files(volumes, inbox, out)) == (0, 0, 1)
    (out / "p1.dcm.nii.gz").unlink()
    assert outcome(predict_files(volumes, inbox, out)) == (1, 0, 0)
    assert nib.load(out / "p1.dcm.nii.gz").shape == (6, 7, 8)
    assert outcome(predict_files(volumes, inbox, out)) == (0, 1, 0)


def test_another_folder_with_an_equal_name_is_another_image(tmp_path: Path, volumes: Release) -> None:
    nifti(tmp_path / "a" / "scan.nii", 1)
    nifti(tmp_path / "b" / "scan.nii", 2)
    predict_files(volumes, tmp_path / "a", tmp_path / "out", output=ALL)
    before = contents(tmp_path / "out")
    assert outcome(predict_files(volumes, tmp_path / "b", tmp_path / "out", output=ALL)) == (0, 0, 1)
    assert contents(tmp_path / "out") == before
    # also where the names differ, and those of the results do not
    mgz(tmp_path / "c" / "scan.mgz", 3)
    predict_files(volumes, tmp_path / "a", tmp_path / "n", output=Output("nifti"))
    assert outcome(predict_files(volumes, tmp_path / "c", tmp_path / "n", output=Output("nifti"))) == (0, 0, 1)


def test_the_same_files_under_other_names_and_in_another_order_are_the_same_image(
    tmp_path: Path, volumes: Release
) -> None:
    files = dicoms.write_series(tmp_path / "in" / "s", noise(1), AFFINE)
    predict_files(volumes, tmp_path / "in", tmp_path / "out")
    (tmp_path / "moved" / "s").mkdir(parents=True)
    for number, file in enumerate(reversed(files)):
        shutil.copy(file, tmp_path / "moved" / "s" / f"IM{number}")
    assert outcome(predict_files(volumes, tmp_path / "moved", tmp_path / "out")) == (0, 1, 0)
    # a segmentation beside the slices is no part of the image
    dicoms.write_segmentation(tmp_path / "in" / "s" / "seg.dcm", files, noise(1) > 100, {1: "core"})
    again = predict_files(volumes, tmp_path / "in", tmp_path / "out")
    assert outcome(again) == (0, 1, 0)
    assert list(again.passed_over.values()) == [1]


def test_the_digest_of_a_series_is_that_of_its_files_in_no_order(tmp_path: Path) -> None:
    for folder, names in (("a", "12"), ("b", "21")):
        (tmp_path / folder).mkdir()
        for name, content in zip(names, (b"one", b"two"), strict=True):
            (tmp_path / folder / name).write_bytes(content)
    assert content_digest(tmp_path / "a") == content_digest(tmp_path / "b")
    (tmp_path / "b" / "3").write_bytes(b"two")
    assert content_digest(tmp_path / "a") != content_digest(tmp_path / "b")


def test_a_picture_that_was_replaced_keeps_its_row_and_fails(
    tmp_path: Path, classes: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    monkeypatch.setattr(Predictor, "together", 2)
    for number in range(4):
        synthetic.save_image(source / f"{number}.png", np.full((16, 16), 10 * number, np.uint8))
    predict_files(classes, source, out)
    before = (out / TABLE).read_bytes()
    synthetic.save_image(source / "1.png", np.full((16, 16), 255, np.uint8))
    again = predict_files(classes, source, out)
    assert outcome(again) == (0, 3, 1)
    assert f"another image than its row in {out / TABLE} is of" in again.failed[str(source / "1.png")]
    assert (out / TABLE).read_bytes() == before
    (out / TABLE).write_bytes(b"".join(row for row in before.splitlines(keepends=True) if row[:1] != b"1"))
    assert outcome(predict_files(classes, source, out)) == (1, 3, 0)
    assert "1.png,abnormal" in (out / TABLE).read_text()


@pytest.mark.parametrize("left", ["nothing", "head", "half a line", "all but one"])
def test_a_result_without_a_line_is_made_again_with_all_that_belongs_to_it(
    tmp_path: Path, volumes: Release, left: str
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for number in range(3):
        nifti(source / f"{number}.nii", number)
    predict_files(volumes, source, out, output=ALL)
    expected = contents(out)
    lines = (out / SOURCES).read_bytes().splitlines(keepends=True)
    kept = {"nothing": b"", "head": lines[0], "half a line": b"".join(lines)[:-9], "all but one": b"".join(lines[:-1])}
    (out / SOURCES).write_bytes(kept[left])
    # as a run leaves it that was killed after it had made a result of an image that is another one now
    for path in (out / "2.nii", out / "2_probabilities.nii"):
        path.write_bytes(b"of another image")
    (out / VOLUMES).write_text((out / VOLUMES).read_text().replace("2.nii,core,16,", "2.nii,core,16,9"))
    made = 3 if left in ("nothing", "head") else 1
    assert outcome(predict_files(volumes, source, out, output=ALL)) == (made, 3 - made, 0)
    assert contents(out) == expected
    if left == "nothing":
        (out / SOURCES).unlink()
        predict_files(volumes, source, out)
        # what was not asked for now is not taken for made later
        assert not (out / "2_probabilities.nii").exists()
        assert len((out / VOLUMES).read_text().splitlines()) == 1


def test_a_row_without_a_line_is_made_again(tmp_path: Path, classes: Release) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for number in range(3):
        synthetic.save_image(source / f"{number}.png", np.full((16, 16), 60 * number, np.uint8))
    predict_files(classes, source, out)
    expected = contents(out)
    (out / SOURCES).write_bytes(expected[SOURCES][:-9])
    (out / TABLE).write_bytes(expected[TABLE].replace(b"2.png,abnormal", b"2.png,normal"))
    assert outcome(predict_files(classes, source, out)) == (1, 2, 0)
    assert contents(out) == expected


class KilledError(BaseException):
    """What no handler takes for a failure."""


def test_the_line_of_a_result_that_was_removed_does_not_speak_for_the_one_in_its_place(
    tmp_path: Path, volumes: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, out = nifti(tmp_path / "scan.nii", 1), tmp_path / "out"
    predict_files(volumes, image, out, output=ALL)
    expected = contents(out)
    (out / "scan.nii").unlink()
    nifti(image, 2)

    def killed(self: object, result: str, digest: str) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("perdure.evaluation.prediction_sources.Sources.add", killed)
        with pytest.raises(KilledError):
            predict_files(volumes, image, out, output=ALL)
    nifti(image, 1)
    assert outcome(predict_files(volumes, image, out, output=ALL)) == (1, 0, 0)
    assert contents(out) == expected


def test_what_was_made_besides_a_result_that_was_removed_does_not_outlive_it(tmp_path: Path, volumes: Release) -> None:
    image, out = nifti(tmp_path / "scan.nii", 1), tmp_path / "out"
    predict_files(volumes, image, out, output=ALL)
    (out / "scan.nii").unlink()
    nifti(image, 2)
    predict_files(volumes, image, out)
    predict_files(volumes, image, out, output=ALL)
    predict_files(volumes, image, tmp_path / "fresh", output=ALL)
    assert contents(out) == contents(tmp_path / "fresh")


def test_the_label_map_of_an_image_called_as_probabilities_are_is_left_alone(tmp_path: Path, volumes: Release) -> None:
    nifti(tmp_path / "one" / "a_probabilities.nii", 1)
    nifti(tmp_path / "two" / "a.nii", 2)
    predict_files(volumes, tmp_path / "one", tmp_path / "out")
    predict_files(volumes, tmp_path / "two", tmp_path / "out")
    assert (tmp_path / "out" / "a_probabilities.nii").exists()


def test_an_image_that_changes_while_it_is_read_has_failed_and_has_no_result(
    tmp_path: Path, volumes: Release, classes: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = nifti(tmp_path / "scan.nii", 1)
    segmented = Predictor.segmented

    def changing(self: Predictor, file: Path, *, probabilities: bool = False) -> object:
        try:
            return segmented(self, file, probabilities=probabilities)
        finally:
            nifti(file, 2)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "segmented", changing)
        done = predict_files(volumes, scan, tmp_path / "out")
    assert "it changed while it was being read" in done.failed[str(scan)]
    assert not (tmp_path / "out" / "scan.nii").exists()
    assert outcome(predict_files(volumes, scan, tmp_path / "out")) == (1, 0, 0)

    picture = tmp_path / "picture.png"
    synthetic.save_image(picture, np.full((16, 16), 0, np.uint8))
    from perdure.data import prepare_image

    def also_changing(file: Path, contract: object) -> object:
        prepared = prepare_image(file, contract)  # type: ignore[arg-type]
        synthetic.save_image(file, np.full((16, 16), 255, np.uint8))
        return prepared

    monkeypatch.setattr("perdure.data.prepare_image", also_changing)
    assert outcome(predict_files(classes, picture, tmp_path / "graded")) == (0, 0, 1)


def test_a_name_that_is_no_utf_8_and_a_link_to_nothing_stop_nothing(tmp_path: Path, volumes: Release) -> None:
    nifti(tmp_path / "scan.nii", 1)
    (tmp_path / "in").mkdir()
    (tmp_path / "scan.nii").rename(tmp_path / "in" / os.fsdecode(b"caf\xe9.nii"))
    (tmp_path / "in" / "gone.nii").symlink_to("nowhere.nii")
    (tmp_path / "in" / "round.nii").symlink_to("round.nii")
    for expected in ((1, 0, 2), (0, 1, 2)):
        done = predict_files(volumes, tmp_path / "in", tmp_path / "out", output=ALL)
        assert outcome(done) == expected
    assert "what cannot be read (No such file or directory)" in done.failed[str(tmp_path / "in" / "gone.nii")]


def test_tables_are_not_written_anew_for_each_image(
    tmp_path: Path, volumes: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perdure.release.folder import replace_file

    for number in range(6):
        nifti(tmp_path / "in" / f"{number}.nii", number)
    predict_files(volumes, tmp_path / "in", tmp_path / "out", output=ALL)
    for path in (tmp_path / "out").glob("?.nii"):
        path.unlink()
    written: list[str] = []

    def counted(path: Path, content: bytes) -> None:
        written.append(path.name)
        replace_file(path, content)

    monkeypatch.setattr("perdure.evaluation.table.replace_file", counted)
    assert outcome(predict_files(volumes, tmp_path / "in", tmp_path / "out", output=ALL)) == (6, 0, 0)
    assert sorted(written) == [SOURCES, VOLUMES]


def test_what_is_no_image_is_counted_and_results_are_not(tmp_path: Path, volumes: Release) -> None:
    nifti(tmp_path / "in" / "scan.nii", 1)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    for _ in range(2):
        done = predict_files(volumes, tmp_path / "in", tmp_path / "in" / "out")
        assert done.passed_over == {"file(s) in formats that are not read": 1, "folder(s) that are links": 1}
