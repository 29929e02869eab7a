"""A study is in a PACS; one command, and its segmentation is there too, voxel by voxel what `predict` says in NIfTI."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicomweb_client.api import DICOMwebClient
from highdicom.seg import Segmentation
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

import dicoms
import pacs
import synthetic
from command import Command, quietly
from perdure.cli.pacs import TOKEN
from perdure.data.dicom.series import open_series

SECRET = "cGxhbnRlZDp0b2tlbg=="  # noqa: S105 - of no server
PERSON = {
    "PatientName": "PLANTED^NAME",
    "PatientID": "PLANTED-ID",
    "PatientBirthDate": "19010203",
    "AccessionNumber": "PLANTED-ACC",
    "ReferringPhysicianName": "PLANTED^DOCTOR",
    "PatientComments": "PLANTED comment",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A QuickNAT that has learnt enough to see several structures."""
    folder = tmp_path_factory.mktemp("pacs")
    data = synthetic.write_volumes(folder / "data", domains=("a",), cases=(2, 0, 1))
    toml = data / "dataset.toml"
    toml.write_text(toml.read_text().replace('modality = "synthetic"', 'modality = "T1-weighted MRI"'))
    words = ("--filters", 4, "--kernel-size", 3, "--size", 32, "--epochs", 6, "--spacing", 2)
    quietly("train", "--data", data, "--domain", "a", *words, "--out", folder / "base")
    return folder / "base"


@pytest.fixture
def scan(trained: Path, tmp_path: Path) -> Path:
    """The test volume as a DICOM series of a person, its files in no order."""
    volume = nib.load(next((trained.parent / "data" / "images").rglob("*test*")))
    pixels = np.asarray(volume.dataobj).astype(np.uint16)
    names = [f"{(7 * k) % 100:02}.dcm" for k in range(pixels.shape[2])]
    more = {**PERSON, "StudyInstanceUID": generate_uid(), "SeriesDescription": "T1 mprage"}
    dicoms.write_series(tmp_path / "scan", pixels, volume.affine, names=names, more=more)
    return tmp_path / "scan"


@pytest.fixture
def study(scan: Path, orthanc: str) -> str:
    """UID of the study, which is in the PACS."""
    files = [dcmread(file) for file in sorted(scan.iterdir())]
    DICOMwebClient(orthanc).store_instances(files)
    return str(files[0].StudyInstanceUID)


def values(seg: Dataset, scan: Path) -> np.ndarray:
    """The label map that a SEG holds, on the grid of its source."""
    own = open_series(scan)
    uids = [dcmread(one.instance.file).SOPInstanceUID for one in own.slices]
    read = Segmentation.from_dataset(seg)
    names = [read.get_segment_description(number).segment_label for number in read.segment_numbers]
    maps = read.get_pixels_by_source_instance(uids, combine_segments=True)
    return np.array([0, *(synthetic.VOLUME_LABELS[name] for name in names)])[maps].transpose(2, 1, 0)


def texts(folder: Path) -> str:
    """What any file that is no DICOM says."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".dcm"]
    return "".join(file.read_bytes().decode("latin-1") for file in files)


def test_a_study_is_fetched_segmented_and_its_segmentation_comes_back_equal(
    command: Command, trained: Path, scan: Path, study: str, orthanc: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("predict", "--release", trained, "--dicomweb", orthanc, "--study", study, "--out", out)
    ended = command.succeeds(*words, "--volumes")
    command.succeeds("predict", "--release", trained, "--input", scan, "--out", tmp_path / "nifti")
    expected = np.asarray(nib.load(tmp_path / "nifti" / "scan.dcm.nii.gz").dataobj)
    assert len(np.unique(expected)) > 2

    (seg,) = pacs.segmentations(orthanc, study)
    np.testing.assert_array_equal(values(seg, scan), expected)
    source = dcmread(next(scan.iterdir()))
    for keyword in (*PERSON, "StudyInstanceUID", "FrameOfReferenceUID"):
        assert seg.get(keyword) == source.get(keyword), keyword

    # what is left is the result alone, and nothing but DICOM files speaks of the person
    series = str(source.SeriesInstanceUID)
    assert sorted(file.name for file in out.iterdir()) == [
        f"{series}.seg.dcm",
        "prediction.json",
        "sources.csv",
        "volumes.csv",
    ]
    assert f"{series}.seg.dcm: stored" in ended.out
    for text in (ended.out, ended.err, texts(out)):
        assert not any(str(value) in text for value in PERSON.values())

    # the way by a folder gives the same object
    command.succeeds("predict", "--release", trained, "--input", scan, "--format", "dicom-seg", "--out", tmp_path / "f")
    again = dcmread(tmp_path / "f" / "scan.seg.dcm")
    assert (again.SOPInstanceUID, again.PixelData) == (seg.SOPInstanceUID, seg.PixelData)

    # and once more: nothing is done twice, nothing doubled
    record = command.succeeds(*words, "--volumes", "--json").json
    assert record["series"] == series
    assert record["stored"][0] in ("stored", "was stored before")
    assert len(pacs.segmentations(orthanc, study)) == 1


def test_without_storing_the_pacs_stays_as_it_is_and_what_was_fetched_stays_if_asked(
    command: Command, trained: Path, study: str, orthanc: str, tmp_path: Path
) -> None:
    words = ("predict", "--release", trained, "--dicomweb", orthanc, "--study", study, "--out", tmp_path / "out")
    ended = command.succeeds(*words, "--no-store", "--keep-fetched", "--json")
    assert ended.json["stored"] == []
    assert pacs.segmentations(orthanc, study) == []
    assert len(list((tmp_path / "out" / ".spool").rglob("*.dcm"))) == 22
    assert "not sent to the PACS" in command.succeeds(*words, "--no-store").out
    assert not (tmp_path / "out" / ".spool").exists()


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.data.dicom.web.sleep", lambda seconds: None)


@pytest.mark.usefixtures("_no_waiting")
def test_after_a_network_that_broke_in_the_middle_the_same_command_goes_on_with_the_rest(
    command: Command, trained: Path, scan: Path, study: str, orthanc: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    seen: list[str] = []

    def breaks(method: str, path: str, before: int) -> str | None:
        if "/instances/" not in path:
            return None
        seen.append(path)
        return "cut" if len(set(seen)) > 9 else None  # from the tenth instance on, for good

    between = pacs.Flaky(orthanc, breaks)
    with between.running() as address:
        words = ("predict", "--release", trained, "--dicomweb", address, "--study", study, "--out", out)
        ended = command(*words, "--attempts", 2)
        assert (ended.code, ended.out) == (1, "")
        assert "tried 2 times" in ended.err
        fetched = {file.name: file.stat().st_mtime_ns for file in (out / ".spool").rglob("*") if file.is_file()}
        assert len(fetched) == 9
        assert [entry.name for entry in out.iterdir()] == [".spool"]
        originals = {dcmread(file).SOPInstanceUID: dcmread(file) for file in scan.iterdir()}
        for file in (out / ".spool").rglob("*.dcm"):
            assert dcmread(file) == originals[file.stem]
    between = pacs.Flaky(orthanc, lambda method, path, before: "cut" if "/instances/" in path and before == 0 else None)
    with between.running() as address:
        words = ("predict", "--release", trained, "--dicomweb", address, "--study", study, "--out", out)
        command.succeeds(*words)
        asked = {path for _, path in between.asked if "/instances/" in path}
        assert len(asked) == 22 - 9
        assert len(pacs.segmentations(orthanc, study)) == 1


@pytest.mark.usefixtures("_no_waiting")
def test_where_the_pacs_takes_no_result_it_is_kept_and_stored_by_the_next_run_without_a_second_fetch(
    command: Command, trained: Path, study: str, orthanc: str, tmp_path: Path
) -> None:
    between = pacs.Flaky(orthanc, lambda method, path, before: 503 if method == "POST" else None)
    with between.running() as address:
        words = ("predict", "--release", trained, "--dicomweb", address, "--study", study, "--out", tmp_path / "out")
        ended = command(*words)
        assert ended.code == 1
        assert "the same command goes on" in ended.err
        assert len(list((tmp_path / "out").glob("*.seg.dcm"))) == 1
    between = pacs.Flaky(orthanc, lambda *_: None)
    with between.running() as address:
        words = ("predict", "--release", trained, "--dicomweb", address, "--study", study, "--out", tmp_path / "out")
        command.succeeds(*words)
        assert not any("/instances/" in path for _, path in between.asked)
        assert len(pacs.segmentations(orthanc, study)) == 1
        assert not (tmp_path / "out" / ".spool").exists()


def test_several_series_that_fit_are_listed_and_one_is_named(
    command: Command, trained: Path, scan: Path, study: str, orthanc: str, tmp_path: Path
) -> None:
    client = DICOMwebClient(orthanc)
    volume, affine = np.ones((4, 4, 3), np.uint16), np.eye(4)
    flair, head = {**PERSON, "SeriesDescription": "FLAIR"}, {**PERSON, "SeriesDescription": "head"}
    second = [dcmread(file) for file in dicoms.write_series(tmp_path / "flair", volume, affine, more=flair)]
    other = [dcmread(file) for file in dicoms.write_series(tmp_path / "ct", volume, affine, modality="CT", more=head)]
    for dataset in (*second, *other):
        dataset.StudyInstanceUID = study
    client.store_instances([*second, *other])
    words = ("predict", "--release", trained, "--dicomweb", orthanc, "--study", study, "--out", tmp_path / "out")
    ended = command(*words)
    assert ended.code == 2
    assert "2 series of the study fit" in ended.err
    first = dcmread(next(scan.iterdir()))
    series = {str(one.SeriesDescription): str(one.SeriesInstanceUID) for one in (first, second[0], other[0])}
    assert f"{series['T1 mprage']}  MR  22 instances  T1 mprage" in ended.err
    assert f"{series['FLAIR']}  MR  3 instances  FLAIR" in ended.err
    assert "PLANTED" not in ended.err
    assert "head" not in ended.err
    # one of another modality is not segmented, also if it is named
    ended = command(*words, "--series", series["head"])
    assert ended.code == 1
    assert f"no series of the study that is {series['head']} fits" in ended.err
    command.succeeds(*words, "--series", series["T1 mprage"])
    assert not (tmp_path / "out" / ".spool").exists()


@pytest.mark.parametrize("by", ["file", "environment"])
def test_a_refused_token_is_an_error_that_does_not_show_it(
    command: Command, trained: Path, orthanc: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    given: tuple[object, ...] = ()
    if by == "file":
        (tmp_path / "token").write_text(SECRET + "\n")
        given = ("--token-file", tmp_path / "token")
    else:
        monkeypatch.setenv(TOKEN, SECRET)
    between = pacs.Flaky(orthanc, lambda *_: 401)
    with between.running() as address:
        words = ("predict", "--release", trained, "--dicomweb", address, "--study", "1.2.3", "--out", tmp_path / "out")
        ended = command(*words, *given)
    assert between.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert (ended.code, ended.out) == (1, "")
    assert "refused (401)" in ended.err
    assert SECRET not in ended.err
    assert not (tmp_path / "out").exists()


def test_images_that_came_after_a_segmentation_was_made_make_it_one_of_others(
    command: Command, trained: Path, scan: Path, study: str, orthanc: str, tmp_path: Path
) -> None:
    words = ("predict", "--release", trained, "--dicomweb", orthanc, "--study", study, "--out", tmp_path / "out")
    command.succeeds(*words, "--no-store")
    late = dcmread(next(scan.iterdir()))
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    late.ImagePositionPatient[2] += 1000
    DICOMwebClient(orthanc).store_instances([late])
    ended = command(*words)
    assert ended.code == 1
    assert "segments other images of the series than the 23 that the PACS has now" in ended.err
    # in another folder the series, which has a gap now, is refused, and nothing is stored
    ended = command(*words[:-1], tmp_path / "other")
    assert ended.code == 1
    assert pacs.segmentations(orthanc, study) == []
    assert "PLANTED" not in ended.err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "--input, or by --dicomweb"),
        (("--input", "scans", "--dicomweb", "http://127.0.0.1"), "one of the two"),
        (("--dicomweb", "http://127.0.0.1"), "--dicomweb and --study go together"),
        (("--input", "scans", "--study", "1.2"), "--dicomweb and --study go together"),
        (("--dicomweb", "http://127.0.0.1", "--study", "1.2", "--match", "a"), "--match"),
        (("--dicomweb", "http://127.0.0.1", "--study", "1.2", "--format", "mgz"), "--format mgz"),
    ],
)
def test_ways_in_that_do_not_go_together_are_refused_before_anything_is_done(
    command: Command, words: tuple[str, ...], what: str
) -> None:
    ended = command("predict", "--release", "nowhere", *words, "--out", "nowhere")
    assert ended.code == 2
    assert what in ended.err


@pytest.mark.parametrize("content", [b"", b"two\nlines\n", b"\xff", b"a\tb"])
def test_a_token_file_that_holds_no_token_is_refused_without_its_content(
    command: Command, trained: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "token").write_bytes(content)
    words = ("--dicomweb", "http://127.0.0.1:9", "--study", "1.2", "--token-file", tmp_path / "token")
    ended = command("predict", "--release", trained, *words, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "--token-file" in ended.err
    assert "two" not in ended.err
