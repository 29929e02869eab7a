"""A DICOM export becomes a data folder, and nobody's name goes with it."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from highdicom.seg import SegmentationTypeValues
from pydicom import Dataset as Datafile
from pydicom import dcmread, dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from dicoms import write_contours, write_picture, write_segmentation, write_series
from layouts import AFFINE, head, save, write_export
from perdure.data import Dataset
from perdure.data.dicom.writing import Origin, segmentation_file
from perdure.data.images import read_image, read_labels
from perdure.data.importing import Chosen, find_dicom, imported
from perdure.errors import DataError
from perdure.types import Structure

SALT = bytes(range(32))
SECRETS = ("MRN", "Doe", "DOE", "Jane", "JANE", "19500607", "1950", "4711")
PSEUDONYM = re.compile(r"\b[a-z][0-9a-f]{16}(?=[^0-9a-f]|$)")
"""A digest may hold the digits of a year by chance."""


def given_away(texts: Iterable[str]) -> list[tuple[str, str]]:
    return [(text, secret) for text in texts for secret in SECRETS if secret in PSEUDONYM.sub("", text)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_export(tmp_path / "export")


def canonical(image: object) -> np.ndarray:
    volume = nib.Nifti1Image(np.asarray(image.pixels, np.int32), image.header.affine)
    return np.asarray(nib.as_closest_canonical(volume).dataobj)


def test_series_and_their_segmentations_are_found_in_any_folder(
    tmp_path: Path, source: Path, written: Callable[..., Dataset]
) -> None:
    dataset = written(find_dicom(source, SALT))
    dataset.check(required=("train",), cache=tmp_path / "cache")
    assert dict(dataset.description.labels) == {"background": 0, "ball": 1, "core": 2}
    assert dataset.domains == ("acme-medical-spin-3-1.5t-mr-west", "acme-medical-spin-3-3t-mr-east")
    assert len({case.subject for case in dataset.cases}) == 4
    folder = dataset.folder
    for number, case in enumerate(dataset.cases):
        image, labels = head(number)
        np.testing.assert_array_equal(canonical(read_image(folder / case.image)), image)
        values = dataset.description.structure_values()
        read = read_labels(folder / case.label, folder / case.image, values)
        np.testing.assert_array_equal(canonical(read), labels)
        assert case.metadata["field_strength"] == ("1.494", "3")[number % 2]
    contract = dataset.default_contract(size=32, required=("train",), cache=tmp_path / "cache")
    prepared = dataset.domain(dataset.domains[0], contract, required=("train",), cache=tmp_path / "cache").cases(
        "train"
    )
    assert set(np.unique(prepared[0].target)) == {0, 1, 2}


def test_no_name_id_or_birth_date_is_in_the_manifest_the_description_or_an_error(
    tmp_path: Path, source: Path, written: Callable[..., Dataset]
) -> None:
    first = min(source.rglob("IM2"))
    first.unlink()  # a gap
    second = sorted(source.rglob("IM3"))[1]
    second.write_bytes(second.read_bytes()[:900])  # damaged
    third = sorted(source.rglob("IM4"))[2]
    dataset = dcmread(third)
    dataset.PatientID = "MRN-9"
    dataset.save_as(third)
    found = find_dicom(source, SALT)
    data = written(found)
    reasons = [why for _, why in found.failed.values()]
    assert sum("is one missing" in why for why in reasons) == 1
    assert sum("a file that cannot be read" in why for why in reasons) == 1
    assert sum("several patients" in why for why in reasons) == 1
    assert len(data.cases) == 1
    texts = [(data.folder / name).read_text() for name in ("manifest.csv", "dataset.toml")]
    texts += [*reasons, *found.left_out, *(path.name for path in data.folder.rglob("*"))]
    assert not given_away(texts)
    # who is allowed to see them finds the files of each in its list
    lists = sorted((data.folder / "series").iterdir())
    assert len(lists) == 2 + len(found.failed)
    assert all(path.stat().st_mode & 0o077 == 0 for path in lists)
    # nor does reading say more than which list it was
    image = data.folder / data.cases[0].image
    sorted(source.rglob("IM5"))[3].unlink()
    with pytest.raises(DataError) as caught:
        read_image(image)
    assert "of 16 that may not be read; there is no such file" in str(caught.value)
    assert not given_away([str(caught.value)])


def test_files_without_a_preamble_are_found(tmp_path: Path, source: Path, written: Callable[..., Dataset]) -> None:
    """As old archives write them."""
    before = written(find_dicom(source, SALT), "before")
    for file in source.rglob("IM*"):
        dcmwrite(file, Datafile(dcmread(file)), implicit_vr=True, little_endian=True, enforce_file_format=False)
    after = written(find_dicom(source, SALT), "after")
    assert after.cases == before.cases
    after.check(required=("train",), cache=tmp_path / "cache")


def test_the_same_salt_gives_the_same_names_and_another_others(
    source: Path, written: Callable[..., Dataset], tmp_path: Path
) -> None:
    first, again = (written(find_dicom(source, SALT), name) for name in "ab")
    assert first.cases == again.cases
    other = imported(find_dicom(source, bytes(32)), tmp_path / "c", bytes(32))
    assert not {case.subject for case in first.cases} & {row["subject"] for row in other.rows}


def test_a_series_that_nobody_labelled_may_be_odd_and_is_counted(source: Path) -> None:
    found = find_dicom(source, SALT)
    assert found.left_out == ("4 series or picture(s) without a label or class",)
    assert not found.failed
    found = find_dicom(source, SALT, Chosen(modality="MR", description=re.compile("mprage")))
    assert found.left_out == ("12 file(s) of series with another description",)
    with pytest.raises(DataError, match=r"no series that can be imported .* of another modality"):
        find_dicom(source, SALT, Chosen(modality="CT"))


def test_structures_may_be_chosen_and_all_others_are_background(
    tmp_path: Path, source: Path, written: Callable[..., Dataset]
) -> None:
    dataset = written(find_dicom(source, SALT, Chosen(structures={"core": 5})))
    assert dict(dataset.description.labels) == {"background": 0, "core": 5}
    assert dataset.description.background_structures == ("ball",)
    dataset.check(required=("train",), cache=tmp_path / "cache")


def test_a_class_that_no_label_names_is_refused_with_the_names_that_there_are(source: Path) -> None:
    with pytest.raises(DataError, match="--structure: found no structure 'Bal'; the labels here name ball, core"):
        find_dicom(source, SALT, Chosen(structures={"Bal": 1, "CORE": 2}))
    # the background needs no name in them
    found = find_dicom(source, SALT, Chosen(structures={"rest": 0, "CORE": 2}))
    assert (found.labels, found.background_structures) == ({"rest": 0, "CORE": 2}, ("ball",))


def test_contours_are_labels_too(tmp_path: Path, written: Callable[..., Dataset]) -> None:
    image, labels = head(0)
    files = write_series(tmp_path / "export" / "CT", image, AFFINE, modality="CT")
    write_contours(tmp_path / "export" / "RS.dcm", files, labels, AFFINE, {1: "Ball", 2: "Core"})
    dataset = written(find_dicom(tmp_path / "export", SALT))
    dataset.check(required=(), cache=tmp_path / "cache")
    assert dataset.description.modality == "CT"


def write_two(folder: Path) -> list[np.ndarray]:
    """Two patients, a series each in a folder; returns the labels."""
    both = [head(number) for number in range(2)]
    for number, (image, _) in enumerate(both):
        write_series(folder / f"{number}", image, AFFINE, more={"PatientID": f"MRN-{number}"})
    return [labels for _, labels in both]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("fractional", "SegmentationType: FRACTIONAL in file 17"),
        ("segment without a name", "SegmentSequence: segment 2 of file 17"),
        ("off the grid", "content: frame 1 of file 17, which is on no slice"),
        ("point", "ContourSequence: a contour of 'Core' in file 17 of kind POINT"),
        ("nameless", "structures: a structure in file 17 without a letter or digit in its name; name it, or choose"),
        ("one name", "structures: 'Ball' and 'ball?' in file 17; case, spaces and punctuation do not tell"),
        ("one region", "structures: 'Ball' and 'ball?' in file 17; case, spaces and punctuation do not tell"),
    ],
)
def test_a_truth_whose_header_says_that_it_cannot_be_read_is_named_and_all_others_are_imported(
    tmp_path: Path, written: Callable[..., Dataset], fault: str, message: str
) -> None:
    truths = write_two(tmp_path / "export")
    for number, labels in enumerate(truths):
        files = sorted((tmp_path / "export" / f"{number}").iterdir())
        kind = SegmentationTypeValues["FRACTIONAL" if fault == "fractional" and number else "BINARY"]
        write_segmentation(tmp_path / "export" / f"{number}.seg", files, labels, {1: "Ball", 2: "Core"}, kind)
    path = tmp_path / "export" / "1.seg"
    dataset = dcmread(path)
    if fault == "segment without a name":
        del dataset.SegmentSequence[1]
    if fault == "off the grid":
        dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient[2] += 0.5
    if fault == "nameless":
        dataset.SegmentSequence[1].SegmentLabel = "??"
    if fault == "one name":
        dataset.SegmentSequence[1].SegmentLabel = "ball?"
    if fault == "one region":
        dataset = dcmread(write_contours(path, files, labels, AFFINE, {1: "Ball", 2: "ball?"}))
    if fault == "point":
        dataset = dcmread(write_contours(path, files, labels, AFFINE, {1: "Ball", 2: "Core"}))
        contour = dataset.ROIContourSequence[1].ContourSequence[0]
        contour.ContourGeometricType, contour.ContourData = "POINT", contour.ContourData[:3]
    dataset.save_as(path)
    found = find_dicom(tmp_path / "export", SALT)
    ((names, why),) = found.failed.values()
    assert why.startswith(message)
    assert names[-1] == "1.seg"
    data = written(found)
    data.check(required=(), cache=tmp_path / "cache")
    assert len(data.cases) == 1


def test_names_that_only_punctuation_tells_apart_stop_nobody_where_both_are_background(
    tmp_path: Path, written: Callable[..., Dataset]
) -> None:
    for number, labels in enumerate(write_two(tmp_path / "export")):
        files = sorted((tmp_path / "export" / f"{number}").iterdir())
        cores = labels + (labels == 2) * (np.arange(labels.shape[2]) % 2)
        names = {1: "Ball", 2: "PTV+2mm", 3: "PTV-2mm"}
        write_contours(tmp_path / "export" / f"{number}.dcm", files, cores, AFFINE, names)
    data = written(find_dicom(tmp_path / "export", SALT, Chosen(structures={"ball": 1})))
    assert data.description.background_structures == ("ptv_2mm",)
    data.check(required=(), cache=tmp_path / "cache")


def test_an_isocentre_stops_nobody_who_names_the_classes(tmp_path: Path, written: Callable[..., Dataset]) -> None:
    for number, labels in enumerate(write_two(tmp_path / "export")):
        files = sorted((tmp_path / "export" / f"{number}").iterdir())
        path = write_contours(tmp_path / "export" / f"{number}.dcm", files, labels, AFFINE, {1: "Ball", 2: "Isocentre"})
        dataset = dcmread(path)
        for contour in dataset.ROIContourSequence[1].ContourSequence:
            contour.ContourGeometricType, contour.ContourData = "POINT", contour.ContourData[:3]
        dataset.save_as(path)
    with pytest.raises(DataError, match="of kind POINT .* import with --structure for those that are classes"):
        find_dicom(tmp_path / "export", SALT)
    data = written(find_dicom(tmp_path / "export", SALT, Chosen(structures={"ball": 1})))
    assert data.description.background_structures == ("isocentre",)
    data.check(required=(), cache=tmp_path / "cache")


def test_label_maps_may_lie_beside_the_series(tmp_path: Path, written: Callable[..., Dataset]) -> None:
    image, labels = head(0)
    files = write_series(tmp_path / "export" / "a", image, AFFINE)
    uid = dcmread(files[0]).SeriesInstanceUID
    save(
        tmp_path / "truth" / f"{uid}.nii.gz", labels[:, ::-1], AFFINE @ np.diag([1, -1, 1, 1]) + _shift(labels.shape[1])
    )
    chosen = Chosen(label_maps=tmp_path / "truth", structures={"ball": 1, "core": 2})
    dataset = written(find_dicom(tmp_path / "export", SALT, chosen))
    dataset.check(required=(), cache=tmp_path / "cache")
    assert dataset.cases[0].label == f"truth/{uid}.nii.gz"
    with pytest.raises(DataError, match="labels: found no names of the values in label maps; --structure"):
        find_dicom(tmp_path / "export", SALT, Chosen(label_maps=tmp_path / "truth"))


def test_a_label_map_that_is_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        image, labels = head(seed)
        files = write_series(tmp_path / "here" / "export" / name, image, AFFINE, more={"PatientID": name})
        save(tmp_path / "here" / "truth" / f"{dcmread(files[0]).SeriesInstanceUID}.nii.gz", labels)
    linked = min((tmp_path / "here" / "truth").iterdir())
    linked.symlink_to(linked.rename(tmp_path / "elsewhere.nii.gz"))
    chosen = Chosen(label_maps=tmp_path / "here" / "truth", structures={"ball": 1, "core": 2})
    found = find_dicom(tmp_path / "here" / "export", SALT, chosen)
    assert [why for _, why in found.failed.values()] == [
        "labels: a label map that is a link out of the folder; put a copy of the file in its place"
    ]
    assert len(found.cases) == 1


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"label_maps": Path("nowhere"), "structures": {"a": 1}}, "nowhere: --labels: found no such folder"),
        ({"label_maps": Path(__file__), "structures": {"a": 1}}, "test_dicom.py: --labels: found a file"),
        ({"label_maps": Path()}, "labels: found no names of the values in label maps; --structure"),
        ({"classes": Path("nowhere.csv")}, "nowhere.csv: file: found no such file"),
        ({"structures": {"Ball": 1, "ball ": 2}}, "--structure: found 'Ball', 'ball '; each has"),
        ({"structures": {"??": 1}}, "--structure: found '\\?\\?'; each has"),
    ],
)
def test_what_was_named_is_checked_before_any_file_is_read(
    source: Path, chosen: dict[str, object], message: str
) -> None:
    def progress(done: int, of: int) -> None:
        raise AssertionError("a file was read first")

    with pytest.raises(DataError, match=message):
        find_dicom(source, SALT, Chosen(**chosen), progress)


def test_a_source_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: SRC: found no such folder"):
        find_dicom(tmp_path / "nowhere", SALT)


def test_label_maps_and_rows_of_nothing_are_counted(tmp_path: Path) -> None:
    truths = write_two(tmp_path / "export")
    uids = [dcmread(tmp_path / "export" / f"{i}" / "slice000.dcm").SeriesInstanceUID for i in range(2)]
    for name in (uids[0], f"{uids[1]}.1", "case_1"):
        save(tmp_path / "truth" / f"{name}.nii.gz", truths[0])
    chosen = Chosen(label_maps=tmp_path / "truth", structures={"ball": 1, "core": 2})
    assert find_dicom(tmp_path / "export", SALT, chosen).left_out == (
        "2 label map(s) that are not called after a series here", "1 series or picture(s) without a label or class",
    )  # fmt: skip
    table = tmp_path / "classes.csv"
    table.write_text(f"uid,class\nMRN-0,A\n{uids[0]},A\n{uids[1]},B\n{uids[1]}.1,B\nMRN-9,A\n")
    assert find_dicom(tmp_path / "export", SALT, Chosen(classes=table)).left_out == (
        "2 row(s) of --classes with a uid that is not here",
    )


def _shift(rows: int) -> np.ndarray:
    """Keeps the rows where they are after they were counted from the other end."""
    shift = np.zeros((4, 4))
    shift[1, 3] = AFFINE[1, 1] * (rows - 1)
    return shift


def test_two_labels_of_one_series_are_refused(source: Path) -> None:
    file = min(source.rglob("IM900"))
    dataset = dcmread(file)
    dataset.ContentLabel = "AGAIN"
    dataset.save_as(file.with_name("IM899"))
    found = find_dicom(source, SALT)
    assert [why for _, why in found.failed.values()] == [
        "labels: 2 labels; one label a series; choose among SEG and RTSTRUCT by --label-description"
    ]
    assert len(found.cases) == 3


@pytest.mark.parametrize("kind", ["slice", "series", "SEG", "RTSTRUCT"])
def test_a_copy_of_a_file_counts_once_wherever_it_lies(
    tmp_path: Path, written: Callable[..., Dataset], kind: str
) -> None:
    export = tmp_path / "export"
    for number, labels in enumerate(write_two(export)):
        files = sorted((export / f"{number}").iterdir())
        if kind == "RTSTRUCT":
            write_contours(export / f"{number}.dcm", files, labels, AFFINE, {1: "Ball", 2: "Core"})
        else:
            write_segmentation(export / f"{number}.dcm", files, labels, {1: "Ball", 2: "Core"})
    before = find_dicom(export, SALT)
    if kind == "slice":
        shutil.copy(files[3], files[3].with_name("slice003 (1).dcm"))
    elif kind == "series":
        shutil.copytree(export / "1", export / "sent again")
    else:
        shutil.copy(export / "1.dcm", export / "1 (1).dcm")
    found = find_dicom(export, SALT)
    assert found.failed == {}
    assert found.left_out == (f"{16 if kind == 'series' else 1} file(s) that are a copy of another, byte by byte",)
    assert sorted(case.name for case in found.cases) == sorted(case.name for case in before.cases)
    written(found).check(required=(), cache=tmp_path / "cache")


def test_a_slice_with_the_uid_of_another_and_other_content_is_no_copy(tmp_path: Path) -> None:
    for number, labels in enumerate(write_two(tmp_path / "export")):
        files = sorted((tmp_path / "export" / f"{number}").iterdir())
        write_segmentation(tmp_path / "export" / f"{number}.dcm", files, labels, {1: "Ball", 2: "Core"})
    dataset = dcmread(files[3])
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(files[3].with_name("later.dcm"))
    found = find_dicom(tmp_path / "export", SALT)
    assert (len(found.cases), found.left_out) == (1, ())
    ((names, why),) = found.failed.values()
    assert len(names) == 17
    assert why.startswith("ImagePositionPatient: two slices at one place (file 1 and file 5)")


def test_among_several_labels_a_description_chooses(source: Path) -> None:
    for file in source.rglob("IM900"):
        dataset = dcmread(file)
        for name, description in (("IM900", "by hand"), ("IM899", "by a machine")):
            dataset.SeriesDescription = description
            dataset.save_as(file.with_name(name))
    found = find_dicom(source, SALT, Chosen(label_description=re.compile("hand$")))
    assert len(found.cases) == 4
    assert {Path(name).name for case in found.cases for name in case.label_files} == {"IM900"}
    assert "4 label(s) with another description" in found.left_out


@pytest.mark.parametrize("beside", ["alone", "beside a label by hand"])
def test_a_segmentation_that_perdure_made_is_no_truth_unless_it_is_asked_for(tmp_path: Path, beside: str) -> None:
    truths = write_two(tmp_path / "export")
    structures = tuple(Structure(name=name, values=(i,)) for i, name in enumerate(("background", "ball", "core")))
    for number, labels in enumerate(truths):
        place = tmp_path / "export" / f"{number}"
        content = segmentation_file(place, labels, structures, Origin("brains-2", "01" * 32))
        if number or beside != "alone":
            write_segmentation(tmp_path / "export" / f"{number}.dcm", sorted(place.iterdir()), labels, {1: "Ball"})
        (tmp_path / "export" / f"{number}-own.dcm").write_bytes(content)
    found = find_dicom(tmp_path / "export", SALT)
    assert not found.failed
    assert len(found.cases) == (1 if beside == "alone" else 2)
    assert not [name for case in found.cases for name in case.label_files if "own" in name]
    assert "2 segmentation(s) that Perdure made (--own-labels takes them)" in found.left_out
    chosen = Chosen(own_labels=True, label_description=re.compile("^Perdure"))
    assert all(
        "own" in name for case in find_dicom(tmp_path / "export", SALT, chosen).cases for name in case.label_files
    )
    # a person has worked on it since
    changed = dcmread(tmp_path / "export" / "0-own.dcm")
    changed.SegmentSequence[0].SegmentAlgorithmType = "SEMIAUTOMATIC"
    changed.save_as(tmp_path / "export" / "0-own.dcm")
    assert (
        "1 segmentation(s) that Perdure made (--own-labels takes them)"
        in find_dicom(tmp_path / "export", SALT).left_out
    )


def test_mammograms_are_pictures_with_a_class_each(tmp_path: Path, written: Callable[..., Dataset]) -> None:
    rows = ["uid,class"]
    for number in range(6):
        pixels = np.full((20, 16), 500 * number, np.uint16)
        more = {"PatientID": f"MRN-{number // 2}", "PhotometricInterpretation": "MONOCHROME1"}
        path = write_picture(tmp_path / "export" / f"{number}.dcm", pixels, bits=12 + 2 * (number % 2), more=more)
        dataset = dcmread(path)
        rows.append(f"{dataset.SOPInstanceUID if number % 2 else dataset.SeriesInstanceUID},{'ABCD'[number % 4]}")
    (tmp_path / "classes.csv").write_text("\n".join(rows))
    dataset = written(find_dicom(tmp_path / "export", SALT, Chosen(classes=tmp_path / "classes.csv")))
    assert dict(dataset.description.labels) == {"A": 0, "B": 1, "C": 2, "D": 3}
    assert len({case.subject for case in dataset.cases}) == 3
    contract = dataset.default_contract(size=16, required=(), cache=tmp_path / "cache")
    domain = dataset.domain(dataset.domains[0], contract, required=(), cache=tmp_path / "cache")
    for number, name in enumerate(domain.rows):
        largest = (4095, 16383)[number % 2]
        # scaled by the bits of the detector, as in Gupta et al. 2020, and small numbers are bright
        np.testing.assert_allclose(domain.case(name).image, (largest - 500 * number) / largest, rtol=1e-6)
    with pytest.raises(DataError, match="no columns uid and class"):
        find_dicom(tmp_path / "export", SALT, Chosen(classes=tmp_path / "data" / "manifest.csv"))
    (tmp_path / "classes.csv").write_text("\n".join([*rows, rows[1][:-1] + "D"]))
    with pytest.raises(DataError, match="line 8, a uid with another class before"):
        find_dicom(tmp_path / "export", SALT, Chosen(classes=tmp_path / "classes.csv"))
    (tmp_path / "classes.csv").write_text("\n".join(rows[:2]))
    with pytest.raises(DataError, match="one class only"):
        find_dicom(tmp_path / "export", SALT, Chosen(classes=tmp_path / "classes.csv"))


@pytest.mark.parametrize("where", ["one series", "two series", "no uid"])
def test_pictures_of_one_uid_count_once_where_they_are_copies_and_fail_alone_where_they_are_not(
    tmp_path: Path, written: Callable[..., Dataset], where: str
) -> None:
    export, rows = tmp_path / "export", ["uid,class"]
    for number in range(4):
        more = {"PatientID": f"MRN-{number}"}
        path = write_picture(export / f"{number}.dcm", np.full((9, 9), number, np.uint16), more=more)
        rows.append(f"MRN-{number},{'AB'[number % 2]}")
    (tmp_path / "classes.csv").write_text("\n".join(rows))
    chosen = Chosen(classes=tmp_path / "classes.csv")
    before = find_dicom(export, SALT, chosen)
    shutil.copy(path, export / "3 (1).dcm")
    found = find_dicom(export, SALT, chosen)
    assert [case.name for case in found.cases] == [case.name for case in before.cases]
    assert (found.failed, found.left_out) == ({}, ("1 file(s) that are a copy of another, byte by byte",))
    for name in ("3 (1).dcm", "3.dcm"):
        other = dcmread(path)
        other.PixelData = (b"\1" if name == "3.dcm" else b"\2") * len(other.PixelData)
        if where == "two series" and name == "3.dcm":
            other.SeriesInstanceUID = "1.2.3"
        if where == "no uid":
            del other.SOPInstanceUID
        other.save_as(export / name, enforce_file_format=False)
    found = find_dicom(export, SALT, chosen)
    assert len(found.cases) == 3
    ((names, why),) = found.failed.values()
    assert sorted(names) == ["3 (1).dcm", "3.dcm"]
    assert why.startswith("SOPInstanceUID: 2 files with the same one, or none, and different content; each image has")
    data = written(found)
    assert len(data.cases) == 3
    assert len(list((data.folder / "series").iterdir())) == 4


@pytest.mark.parametrize("by", ["patient", "study"])
def test_a_class_of_a_patient_or_study_is_not_that_of_raw_images_and_secondary_captures_unless_they_are_named(
    tmp_path: Path, by: str
) -> None:
    rows, kinds = ["uid,class"], [
        {"PresentationIntentType": "FOR PRESENTATION"}, {"PresentationIntentType": "FOR PROCESSING"},
        {"SOPClassUID": DigitalMammographyXRayImageStorageForProcessing}, {"SOPClassUID": SecondaryCaptureImageStorage},
    ]  # fmt: skip
    for number in range(4):
        who = {"PatientID": f"MRN-{number}", "StudyInstanceUID": f"1.2.{number}"}
        rows.append(f"{who['PatientID' if by == 'patient' else 'StudyInstanceUID']},{'AB'[number % 2]}")
        for kind, more in enumerate(kinds):
            write_picture(tmp_path / "export" / f"{number}{kind}.dcm", np.ones((9, 9), np.uint16), more=who | more)
        # the screen of a workstation, with the modality of what it shows
        files = write_series(tmp_path / "export" / f"screen{number}", np.ones((9, 9, 1), np.uint16), AFFINE, more=who)
        screen = dcmread(files[0])
        screen.SOPClassUID, screen.StudyInstanceUID = SecondaryCaptureImageStorage, who["StudyInstanceUID"]
        del screen.ImagePositionPatient, screen.ImageOrientationPatient
        screen.save_as(files[0])
    table = tmp_path / "classes.csv"
    table.write_text("\n".join(rows))
    found = find_dicom(tmp_path / "export", SALT, Chosen(classes=table))
    assert (sorted(case.image_files for case in found.cases), found.failed) == ([(f"{n}0.dcm",) for n in range(4)], {})
    assert found.left_out == (
        "8 raw image(s), for processing (to take one, name it or its series in --classes)",
        "8 secondary capture(s), of a screen or the like (to take one, name it or its series in --classes)",
    )
    raw, capture = (dcmread(tmp_path / "export" / name) for name in ("01.dcm", "13.dcm"))
    table.write_text("\n".join([*rows, f"{raw.SOPInstanceUID},A", f"{capture.SeriesInstanceUID},B"]))
    found = find_dicom(tmp_path / "export", SALT, Chosen(classes=table))
    assert {case.image_files[0] for case in found.cases} - {f"{n}0.dcm" for n in range(4)} == {"01.dcm", "13.dcm"}


@pytest.mark.parametrize(
    "more", [{"PresentationIntentType": "FOR PROCESSING"}, {"SOPClassUID": SecondaryCaptureImageStorage}]
)
def test_a_class_is_that_of_raw_images_and_secondary_captures_where_there_are_no_others(
    tmp_path: Path, more: dict[str, str]
) -> None:
    """Digitised film, and sets that were converted to DICOM later, have no others."""
    rows = ["uid,class"]
    for number in range(4):
        rows.append(f"MRN-{number},{'AB'[number % 2]}")
        picture = {"PatientID": f"MRN-{number}", **more}
        write_picture(tmp_path / "export" / f"{number}.dcm", np.ones((9, 9), np.uint16), more=picture)
    (tmp_path / "classes.csv").write_text("\n".join(rows))
    found = find_dicom(tmp_path / "export", SALT, Chosen(classes=tmp_path / "classes.csv"))
    assert sorted(case.image_files for case in found.cases) == [(f"{n}.dcm",) for n in range(4)]
    assert found.left_out == ()


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, source: Path) -> None:
    inside = min(source.rglob("IM900"))
    inside.rename(tmp_path / "elsewhere")
    inside.symlink_to(tmp_path / "elsewhere")
    found = find_dicom(source, SALT)
    assert [why for _, why in found.failed.values()] == [
        "content: a link that leads out of the folder; import the folder that the file is in"
    ]


@pytest.mark.parametrize("suffix", [".dcm", ""])
@pytest.mark.parametrize("target", ["elsewhere", "of its own", "nothing"])
def test_a_last_slice_that_is_a_link_to_what_may_not_be_read_is_not_left_out_of_its_series(
    tmp_path: Path, target: str, suffix: str
) -> None:
    truths = write_two(tmp_path / "export")
    for number, labels in enumerate(truths):
        labels[:, :, -1] = 0
        files = sorted((tmp_path / "export" / f"{number}").iterdir())
        write_segmentation(tmp_path / "export" / f"{number}.dcm", files, labels, {1: "Ball", 2: "Core"})
    last = files[-1].with_suffix(suffix)
    files[-1].rename(tmp_path / "elsewhere")
    last.symlink_to({"elsewhere": tmp_path / "elsewhere", "of its own": last.name, "nothing": "nothing"}[target])
    found = find_dicom(tmp_path / "export", SALT)
    assert len(found.cases) == 1
    assert sorted(len(names) for names, _ in found.failed.values()) == [1, 15]


def test_folders_that_are_links_or_cannot_be_read_are_not_passed_over_without_a_word(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "linked").symlink_to(min(source.iterdir()))
    closed, listed = max(source.glob("DOE*")), os.scandir

    def refusing(path: str) -> object:
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = find_dicom(source, SALT)
    assert len(found.cases) == 3
    assert "1 folder(s) that are links" in found.left_out
    ((names, why),) = found.failed.values()
    assert (names, why) == ((closed.name,), "content: a folder that cannot be read; mend its permissions")


def write_people(folder: Path, people: Iterable[dict[str, str]]) -> None:
    """A series with its label of each, whoever it says that it is."""
    for number, more in enumerate(people):
        image, labels = head(number)
        files = write_series(folder / f"{number}", image, AFFINE, more=more)
        write_segmentation(folder / f"{number}.dcm", files, labels, {1: "Ball", 2: "Core"})


def test_spaces_around_an_id_and_an_issuer_that_is_said_only_here_and_there_make_no_other_person(
    tmp_path: Path, written: Callable[..., Dataset]
) -> None:
    ids = [" MRN-7", "MRN-7", "MRN-7 ", "MRN-7", "MRN-8", "mrn-8"]
    people = [{"PatientID": one} for one in ids]
    people[3]["IssuerOfPatientID"] = " Acme "
    people[0]["IssuerOfPatientID"] = "Acme"
    write_people(tmp_path / "export", people)
    # files of one series need not agree either
    first = min((tmp_path / "export" / "1").iterdir())
    dataset = dcmread(first)
    dataset.PatientID, dataset.IssuerOfPatientID = "MRN-7 ", "Acme"
    dataset.save_as(first)
    found = find_dicom(tmp_path / "export", SALT)
    assert (found.failed, found.notes) == ({}, ())
    assert [case.subject for case in sorted(found.cases, key=lambda case: case.image_files[0])] == [
        *["Acme\0MRN-7"] * 4, "\0MRN-8", "\0mrn-8",
    ]  # fmt: skip
    assert len({case.subject for case in written(found).cases}) == 3


def test_one_id_of_several_issuers_is_so_many_people_and_how_many_such_ids_there_are_is_said(tmp_path: Path) -> None:
    people = [{"PatientID": "MRN-7", "IssuerOfPatientID": one} for one in ("Acme", "Zenith", "")]
    write_people(tmp_path / "export", [*people, {"PatientID": "MRN-8"}])
    found = find_dicom(tmp_path / "export", SALT)
    assert len({case.subject for case in found.cases}) == 4
    (said,) = found.notes
    assert said.startswith("1 PatientID(s) have several issuers: that of each is taken for another person")
    assert not given_away([said])
    assert "Acme" not in said


def test_a_series_without_a_patient_is_refused(source: Path) -> None:
    for file in sorted(source.glob("*/*/*")):
        if "MRN-1" in str(file):
            dataset = dcmread(file)
            dataset.PatientID = ""
            dataset.save_as(file)
    found = find_dicom(source, SALT)
    assert any("whose it is has to be known" in why for _, why in found.failed.values())
    assert len(found.cases) == 3


NOISE = np.random.default_rng(0).bytes(20_000)


@pytest.mark.parametrize(
    "damage",
    ["empty", "noise", "zeros", "cut in its header", "cut in its first element", "cut in its pixels", "another type"],
)
@pytest.mark.parametrize("suffix", ["", ".dcm", ".17"])
def test_a_damaged_last_slice_is_named_and_its_series_is_not_imported_short(
    tmp_path: Path, damage: str, suffix: str
) -> None:
    for number in range(2):
        image, labels = head(number)
        names = [f"IM{k:02}{suffix}" for k in range(image.shape[2])]
        where = tmp_path / "export" / f"{number}"
        files = write_series(where, image, AFFINE, names=names, more={"PatientID": f"MRN-{number}"})
        labels[:, :, -1] = 0
        write_segmentation(tmp_path / "export" / f"s{number}.dcm", files, labels, {1: "Ball", 2: "Core"})
    whole = files[-1].read_bytes()
    damaged = {
        "empty": b"", "noise": NOISE, "zeros": bytes(5000), "cut in its header": whole[:300],
        "cut in its first element": whole[:140], "cut in its pixels": whole[:-5],
        "another type": whole.replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00FD"),
    }  # fmt: skip
    assert damaged[damage] != whole
    files[-1].write_bytes(damaged[damage])
    for name, content in (("DICOMDIR", NOISE), ("README", b"by hand\n"), ("a.png", b"\x89PNG\r\n\0"), ("b.txt", b"")):
        (files[-1].parent / name).write_bytes(content)
    found = find_dicom(tmp_path / "export", SALT)
    assert len(found.cases) == 1
    assert found.left_out == ("4 file(s) that are no DICOM",)
    (own,) = [why for names, why in found.failed.values() if len(names) == 1]
    assert "file 1, " in own
    (of_series,) = [why for names, why in found.failed.values() if len(names) == 15]
    assert of_series == (
        "slices: 1 file(s) in its folder that cannot be read; they may be slices of it: mend, or remove, each"
    )


def test_a_damaged_file_among_several_series_is_named_and_stops_none(source: Path) -> None:
    (min(source.rglob("IM3")).with_name("IM950")).write_bytes(b"")
    found = find_dicom(source, SALT)
    assert len(found.cases) == 4
    assert [(len(names), why.partition(";")[0]) for names, why in found.failed.values()] == [
        (1, "content: file 1, which is empty, unreadable or damaged and lies beside DICOM files")
    ]


def test_a_deflated_segmentation_is_a_label_and_stops_no_series(source: Path) -> None:
    label = min(source.rglob("IM900"))
    dataset = dcmread(label)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(label)
    found = find_dicom(source, SALT)
    assert len(found.cases) == 4
    assert found.failed == {}


def test_a_label_that_is_cut_short_is_named(source: Path) -> None:
    label = min(source.rglob("IM900"))
    label.write_bytes(label.read_bytes()[:400])
    found = find_dicom(source, SALT)
    assert len(found.cases) == 3
    assert "ends before it says what series it belongs to" in "".join(why for _, why in found.failed.values())


def test_a_file_that_cannot_be_read_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, opened = min(source.rglob("IM15")), Path.open

    def refusing(path: Path, *args: object, **options: object) -> object:
        if path == file:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refusing)
    found = find_dicom(source, SALT)
    assert any("empty, unreadable or damaged" in why for _, why in found.failed.values())


def test_columns_are_those_that_have_something_in_them(source: Path, written: Callable[..., Dataset]) -> None:
    data = written(find_dicom(source, SALT), domain="site-a")
    with (data.folder / "manifest.csv").open() as file:
        assert next(csv.reader(file)) == [
            "id", "subject", "domain", "split", "image", "label",
            "manufacturer", "model", "field_strength", "station", "modality",
        ]  # fmt: skip
