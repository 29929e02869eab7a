"""What stands beside a label map says the same as it, in the layout that was asked for, and is whole or not there."""

from __future__ import annotations

import csv
import errno
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import dicoms
import fakes
import synthetic
from perdure.data.dicom.labels import read_dicom_labels
from perdure.data.images import read_header
from perdure.data.manifest import structure_key
from perdure.errors import EvaluationError
from perdure.evaluation import Output, predict_files
from perdure.evaluation.prediction_sources import SOURCES
from perdure.evaluation.prediction_writing import VOLUMES
from perdure.release import Release
from perdure.types import Structure

VALUES = [0, 16, 3, 42]


@pytest.fixture
def volumes() -> Release:
    return fakes.release(fakes.Threshold((0.2, 0.45, 0.7)), fakes.volume_contract())


@pytest.fixture
def pictures() -> Release:
    return fakes.release(fakes.Threshold((0.5,)), fakes.picture_contract())


def save(path: Path, spacing: tuple[float, ...] = (2.0, 2.0, 2.0), orientation: str = "PSR") -> Path:
    volume = np.random.default_rng(0).choice([0, 30, 75, 125, 180, 220], (6, 7, 8)).astype(np.uint8)
    synthetic.save_volume(path, volume, spacing, orientation)
    return path


def content(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_a_table_is_not_there_before_its_folder_says_whose_results_it_holds(
    tmp_path: Path, volumes: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or after a run that was stopped between the two the folder would hold other files than predictions."""
    source, out = save(tmp_path / "in" / "a.nii").parent, tmp_path / "out"

    def fails(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("perdure.evaluation.prediction_files.replace_file", fails)
        with pytest.raises(OSError, match="prediction.json"):
            predict_files(volumes, source, out, output=Output(volumes=True))
    predict_files(volumes, source, out, output=Output(volumes=True))
    assert {path.name for path in out.iterdir()} == {"a.nii", "prediction.json", SOURCES, VOLUMES}


@pytest.mark.parametrize(("form", "name"), [("nifti", "scan.nii.gz"), ("mgz", "scan.mgz")])
@pytest.mark.parametrize("given", ["scan.nii", "scan.mgz"])
def test_every_format_holds_the_same_labels_at_the_same_place(
    tmp_path: Path, volumes: Release, form: str, name: str, given: str
) -> None:
    source = save(tmp_path / "in" / "scan.nii")
    if given.endswith(".mgz"):
        same = nib.load(source)
        nib.save(nib.MGHImage(np.asarray(same.dataobj), same.affine), source.with_suffix(".mgz"))
        source.unlink()
    predict_files(volumes, source.parent, tmp_path / "as it is")
    predict_files(volumes, source.parent, tmp_path / form, output=Output(form=form))
    found, expected = nib.load(tmp_path / form / name), nib.load(tmp_path / "as it is" / given)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-5)
    assert {path.name for path in (tmp_path / form).iterdir()} == {name, "prediction.json", SOURCES}


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.5, 2.5, 3.0)])
def test_the_most_probable_class_of_each_voxel_is_its_label(
    tmp_path: Path, volumes: Release, spacing: tuple[float, ...]
) -> None:
    source = save(tmp_path / "scan.nii.gz", spacing)
    predict_files(volumes, source, tmp_path / "out", output=Output(probabilities=True))
    maps = nib.load(tmp_path / "out" / "scan_probabilities.nii.gz")
    assert (maps.shape, maps.get_data_dtype()) == ((*nib.load(source).shape, 4), np.float32)
    assert maps.affine.tobytes() == nib.load(source).affine.tobytes()
    probability = np.asarray(maps.dataobj)
    np.testing.assert_allclose(probability.sum(axis=-1), 1, atol=1e-6)
    labels = np.array(VALUES)[probability.argmax(axis=-1)]
    np.testing.assert_array_equal(labels, content(tmp_path / "out" / "scan.nii.gz"))
    # the fake network gives its class a logit of 20 and the others none
    np.testing.assert_allclose(probability.max(axis=-1), 1 / (1 + 3 * np.exp(-20.0)), rtol=1e-6)


def test_asking_for_probabilities_changes_no_label(tmp_path: Path, volumes: Release) -> None:
    source = save(tmp_path / "scan.nii", (1.3, 2.0, 2.9))
    predict_files(volumes, source, tmp_path / "with", output=Output(probabilities=True))
    predict_files(volumes, source, tmp_path / "without")
    assert (tmp_path / "with/scan.nii").read_bytes() == (tmp_path / "without/scan.nii").read_bytes()


def test_a_network_of_volumes_gives_probabilities_too(tmp_path: Path) -> None:
    contract = fakes.volume_contract(spatial_dims=3, view=None, size=(4, 4, 4))
    release = fakes.release(fakes.Threshold((0.2, 0.45, 0.7)), contract)
    predict_files(release, save(tmp_path / "scan.nii"), tmp_path / "out", output=Output(probabilities=True))
    probability = content(tmp_path / "out" / "scan_probabilities.nii")
    np.testing.assert_array_equal(np.array(VALUES)[probability.argmax(axis=-1)], content(tmp_path / "out" / "scan.nii"))


def test_a_picture_s_probabilities_are_an_array_with_the_classes_first(tmp_path: Path, pictures: Release) -> None:
    picture = np.zeros((97, 113, 3), np.uint8)
    picture[:, 60:] = 255
    synthetic.save_image(tmp_path / "eye.png", picture)
    predict_files(pictures, tmp_path / "eye.png", tmp_path / "out", output=Output(probabilities=True))
    maps = np.load(tmp_path / "out" / "eye_probabilities.npy")
    assert (maps.shape, maps.dtype) == ((2, 97, 113), np.float32)
    np.testing.assert_allclose(maps.sum(axis=0), 1, atol=1e-6)
    assert (maps.argmax(axis=0)[:, [0, 112]] == [0, 1]).all()


def table(out: Path) -> list[list[str]]:
    with (out / VOLUMES).open(newline="") as file:
        return list(csv.reader(file))


def test_volumes_are_the_voxels_of_each_structure_times_the_size_of_one(tmp_path: Path) -> None:
    merged = (*fakes.structures(background=0, core=16), Structure(name="cortex", values=(3, 42)))
    contract = fakes.volume_contract(structures=(*merged, Structure(name="absent", values=(7,))))
    release = fakes.release(fakes.Threshold((0.2, 0.45, 2.0)), contract)
    predict_files(
        release, save(tmp_path / "in/a.nii", (1.5, 2.0, 2.5)).parent, tmp_path / "out", output=Output(volumes=True)
    )
    labels = content(tmp_path / "out" / "a.nii")
    core, cortex = int((labels == 16).sum()), int((labels == 3).sum())
    assert min(core, cortex) > 0
    assert table(tmp_path / "out") == [
        ["case", "structure", "value", "voxels", "mm3"],
        ["a.nii", "core", "16", str(core), f"{core * 7.5:.3f}"],
        ["a.nii", "cortex", "3", str(cortex), f"{cortex * 7.5:.3f}"],
        ["a.nii", "absent", "7", "0", "0.000"],
    ]


def test_of_pictures_pixels_are_counted(tmp_path: Path, pictures: Release) -> None:
    picture = np.zeros((40, 48), np.uint8)
    picture[:10, :7] = 255
    synthetic.save_image(tmp_path / "eye.png", picture)
    predict_files(pictures, tmp_path / "eye.png", tmp_path / "out", output=Output(volumes=True))
    assert table(tmp_path / "out") == [["case", "structure", "value", "pixels"], ["eye.png", "disc", "1", "70"]]


@pytest.mark.parametrize("left", [0, 10, 60, 90, -1])
def test_a_case_of_the_table_that_a_crash_cut_short_is_measured_again(
    tmp_path: Path, volumes: Release, left: int
) -> None:
    source = save(tmp_path / "in" / "a.nii").parent
    save(source / "b.nii", orientation="RAS")
    predict_files(volumes, source, tmp_path / "out", output=Output(volumes=True))
    whole = (tmp_path / "out" / VOLUMES).read_bytes()
    (tmp_path / "out" / VOLUMES).write_bytes(whole[:left])
    again = predict_files(volumes, source, tmp_path / "out", output=Output(volumes=True))
    assert (tmp_path / "out" / VOLUMES).read_bytes() == whole
    assert again.written
    assert predict_files(volumes, source, tmp_path / "out", output=Output(volumes=True)).skipped == 2


def test_what_is_asked_for_later_is_made_later(tmp_path: Path, volumes: Release) -> None:
    source = save(tmp_path / "scan.nii")
    predict_files(volumes, source, tmp_path / "out")
    wanted = Output(probabilities=True, volumes=True)
    assert len(predict_files(volumes, source, tmp_path / "out", output=wanted).written) == 1
    assert (tmp_path / "out" / "scan_probabilities.nii").exists()
    assert predict_files(volumes, source, tmp_path / "out", output=wanted).skipped == 1


def test_bids_derivatives_have_their_names_descriptions_and_lookup_tables(tmp_path: Path, volumes: Release) -> None:
    raw = tmp_path / "raw"
    save(raw / "sub-01/ses-2/anat/sub-01_ses-2_acq-fast_desc-preproc_T1w.nii.gz")
    save(raw / "sub-02/anat/sub-02_T1w.nii")
    predict_files(volumes, raw, tmp_path / "out", output=Output(form="bids", probabilities=True, volumes=True))
    stem = "sub-01/ses-2/anat/sub-01_ses-2_acq-fast_desc-perdure"
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    endings = ("_dseg.nii.gz", "_dseg.json", "_dseg.tsv", "_probseg.nii.gz", "_probseg.json")
    assert files == {
        *(f"{one}{ending}" for one in (stem, "sub-02/anat/sub-02_desc-perdure") for ending in endings),
        *("dataset_description.json", ".bidsignore", "prediction.json", "sources.csv", "volumes.csv"),
    }
    description = json.loads((tmp_path / "out/dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "Perdure"
    assert volumes.id in description["GeneratedBy"][0]["Description"]
    assert (tmp_path / "out" / description["DatasetLinks"]["raw"]).resolve() == raw.resolve()
    sidecar = json.loads((tmp_path / "out" / f"{stem}_dseg.json").read_text())
    (name,) = sidecar["Sources"]
    assert (raw / name.removeprefix("bids:raw:")).is_file()
    lookup = (tmp_path / "out" / f"{stem}_dseg.tsv").read_text().splitlines()
    assert lookup == ["index\tname", "0\tbackground", "16\tcore", "3\tleft_cortex", "42\tright_cortex"]
    frames = json.loads((tmp_path / "out" / f"{stem}_probseg.json").read_text())["LabelMap"]
    assert len(frames) == nib.load(tmp_path / "out" / f"{stem}_probseg.nii.gz").shape[3]
    # what BIDS does not know is named to its validator
    assert {"prediction.json", "sources.csv", "volumes.csv"} <= set((tmp_path / "out/.bidsignore").read_text().split())


def test_bids_derivatives_made_in_parts_name_the_sources_in_one_dataset(
    tmp_path: Path, volumes: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "raw" / "derivatives" / "perdure"
    for subject in ("01", "02", "03"):
        save(raw / f"sub-{subject}/anat/sub-{subject}_T1w.nii")
    (raw / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.10.0"}')
    (raw / "derivatives" / "notes").mkdir(parents=True)
    monkeypatch.chdir(raw / "sub-02")
    for source in (raw / "sub-01", Path("anat"), raw / "sub-03/anat/sub-03_T1w.nii", raw):
        predict_files(volumes, source, out, output=Output(form="bids", volumes=True))
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetLinks"] == {"raw": "../.."}
    for subject in ("01", "02", "03"):
        sidecar = json.loads((out / f"sub-{subject}/anat/sub-{subject}_desc-perdure_dseg.json").read_text())
        assert sidecar["Sources"] == [f"bids:raw:sub-{subject}/anat/sub-{subject}_T1w.nii"]
    assert len((out / VOLUMES).read_text().splitlines()) == 1 + 3 * 3


def test_an_image_without_a_bids_name_is_reported_and_the_others_are_done(tmp_path: Path, volumes: Release) -> None:
    save(tmp_path / "in" / "scan.nii")
    save(tmp_path / "in" / "sub-1_T1w.nii")
    result = predict_files(volumes, tmp_path / "in", tmp_path / "out", output=Output(form="bids"))
    assert [path.name for path in result.written] == ["sub-1_desc-perdure_dseg.nii.gz"]
    assert "found 'scan.nii'; BIDS names an image sub-LABEL" in result.failed[str(tmp_path / "in" / "scan.nii")]


@pytest.mark.parametrize(
    ("names", "output"),
    [
        (("scan.nii", "scan.mgz"), Output(form="nifti")),
        (("a.nii", "a_probabilities.nii"), Output(probabilities=True)),
        (("sub-1_T1w.nii", "sub-1_T2w.nii"), Output(form="bids")),
    ],
)
def test_two_images_that_would_have_one_result_are_refused_before_any_work(
    tmp_path: Path, volumes: Release, names: tuple[str, str], output: Output
) -> None:
    for name in names:
        save(tmp_path / "in" / "x.nii").rename(tmp_path / "in" / name)
    with pytest.raises(EvaluationError, match=r"would both give .*--match"):
        predict_files(volumes, tmp_path / "in", tmp_path / "out", output=output)
    assert not (tmp_path / "out").exists()
    one = predict_files(volumes, tmp_path / "in", tmp_path / "out", output=output, match=names[0])
    assert len(one.written) + len(one.failed) == 1


def test_a_name_that_no_image_has_is_an_error_that_says_how_many_there_are(tmp_path: Path, volumes: Release) -> None:
    save(tmp_path / "in" / "a.nii")
    with pytest.raises(EvaluationError, match=r"none of its 1 images has a name like \*_T1w.nii"):
        predict_files(volumes, tmp_path / "in", tmp_path / "out", match="*_T1w.nii")


def test_results_of_two_formats_are_not_mixed(tmp_path: Path, volumes: Release) -> None:
    source = save(tmp_path / "scan.nii")
    predict_files(volumes, source, tmp_path / "out", output=Output(form="mgz"))
    with pytest.raises(EvaluationError, match="holds results with the format mgz, not nifti; choose another --out"):
        predict_files(volumes, source, tmp_path / "out", output=Output(form="nifti"))


def test_what_there_is_not_for_a_task_is_refused(tmp_path: Path, pictures: Release) -> None:
    synthetic.save_image(tmp_path / "a.png", np.zeros((16, 16), np.uint8))
    with pytest.raises(EvaluationError, match=r"--format nifti: for volumes"):
        predict_files(pictures, tmp_path / "a.png", tmp_path / "out", output=Output(form="nifti"))
    contract = fakes.picture_contract(task="classification", channels=1, structures=fakes.structures(no=0, yes=1))
    graded = fakes.release(fakes.Brightness(), contract)
    for output in (Output(form="bids"), Output(probabilities=True), Output(volumes=True)):
        with pytest.raises(EvaluationError, match=r"gives predictions\.csv"):
            predict_files(graded, tmp_path / "a.png", tmp_path / "out", output=output)


def test_probabilities_are_whole_or_not_there(
    tmp_path: Path, volumes: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: object, *arguments: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("perdure.data.writing.write_probabilities", full)
    with pytest.raises(OSError, match="No space"):
        predict_files(volumes, save(tmp_path / "scan.nii"), tmp_path / "out", output=Output(probabilities=True))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"prediction.json", SOURCES}


def test_a_dicom_series_takes_every_format_on_its_own_grid(tmp_path: Path, volumes: Release) -> None:
    affine = np.array([[0.0, 0, -2, 5], [2, 0, 0, -7], [0, 2, 0, 9], [0, 0, 0, 1]])
    volume = np.random.default_rng(0).integers(0, 4096, (6, 7, 8), np.uint16)
    source = tmp_path / "in" / "sub-01_T1w"
    dicoms.write_series(source, volume, affine)
    named = {
        None: "sub-01_T1w.dcm.nii.gz",
        "nifti": "sub-01_T1w.dcm.nii.gz",
        "mgz": "sub-01_T1w.dcm.mgz",
        "bids": "sub-01/anat/sub-01_desc-perdure_dseg.nii.gz",
    }
    found = {}
    for form, name in named.items():
        out = tmp_path / str(form)
        predict_files(volumes, tmp_path / "in", out, output=Output(form, probabilities=True))
        written = nib.load(out / name)
        found[form] = np.asarray(written.dataobj)
        np.testing.assert_array_equal(found[form], found[None])
        np.testing.assert_allclose(written.affine, read_header(source).affine, atol=1e-4)
    assert len(np.unique(found[None])) > 2
    seg = tmp_path / "seg"
    predict_files(volumes, tmp_path / "in", seg, output=Output("dicom-seg", probabilities=True))
    assert sorted(file.name for file in seg.iterdir() if file.suffix not in (".json", ".csv")) == [
        "sub-01_T1w.dcm_probabilities.nii.gz", "sub-01_T1w.seg.dcm",
    ]  # fmt: skip
    values = {structure_key(one.name): one.values[0] for one in volumes.contract.structures}
    np.testing.assert_array_equal(read_dicom_labels(seg / "sub-01_T1w.seg.dcm", source, values).pixels, found[None])


def test_what_is_no_dicom_has_no_seg_and_is_not_looked_at_for_one(tmp_path: Path, volumes: Release) -> None:
    synthetic.save_volume(tmp_path / "a.nii.gz", np.ones((6, 7, 8), np.uint8), (2, 2, 2))
    result = predict_files(volumes, tmp_path / "a.nii.gz", tmp_path / "out", output=Output("dicom-seg"))
    assert "a SEG belongs to DICOM images" in result.failed[str(tmp_path / "a.nii.gz")]
    assert volumes.model.seen == []
