"""A folder in, a folder out: every result overlays its input, and nothing is done twice or lost."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dicoms
import fakes
import synthetic
from perdure.errors import ConfigurationError, EvaluationError
from perdure.evaluation import Output, Predictor, predict_files
from perdure.evaluation.dice import dice
from perdure.evaluation.prediction_files import RECORD
from perdure.evaluation.prediction_writing import TABLE
from perdure.release import Release

ORIENTATIONS = ["".join(codes) for axes in permutations(("RL", "AP", "SI")) for codes in product(*axes)]
THRESHOLDS = (0.2, 0.45, 0.7)


@pytest.fixture
def volumes() -> Release:
    """Calls a voxel background, core, left or right cortex by its brightness."""
    return fakes.release(fakes.Threshold(THRESHOLDS), fakes.volume_contract())


@pytest.fixture
def pictures() -> Release:
    """Calls a pixel disc where its red is above the half."""
    return fakes.release(fakes.Threshold((0.5,)), fakes.picture_contract())


@pytest.fixture
def classes() -> Release:
    """Calls a picture abnormal where it is bright."""
    contract = fakes.picture_contract(
        task="classification", channels=1, size=(16, 16), structures=fakes.structures(normal=0, abnormal=1)
    )
    return fakes.release(fakes.Brightness(), contract)


def expected_values(volume: np.ndarray) -> np.ndarray:
    """What `volumes` must say of a volume, by the definition of robust scaling; the order of its axes plays no part."""
    volume = volume.astype(np.float64)
    lowest, highest = volume.min(), np.percentile(volume[volume != 0], 99.9)
    scaled = ((volume - lowest) / (highest - lowest)).clip(0, 1)
    return np.array([0, 16, 3, 42])[np.searchsorted(THRESHOLDS, scaled)]


def noise(shape: tuple[int, ...], dtype: str = "u1") -> np.ndarray:
    # few levels, none of them near a threshold once the brightest is 1, so that rounding cannot decide
    volume = np.random.default_rng(0).choice([0, 30, 75, 125, 180, 220], shape)
    volume.flat[:3] = 0, 220, 220
    return volume.astype(dtype)


@given(
    orientation=st.sampled_from(ORIENTATIONS),
    shape=st.tuples(*[st.integers(1, 9)] * 3).filter(lambda shape: np.prod(shape) > 2),
    suffix=st.sampled_from([".nii", ".nii.gz", ".mgz"]),
    spatial_dims=st.sampled_from([2, 3]),
)
def test_labels_are_voxel_exact_on_the_input_s_grid_where_its_spacing_is_the_contract_s(
    tmp_path_factory: pytest.TempPathFactory,
    orientation: str,
    shape: tuple[int, int, int],
    suffix: str,
    spatial_dims: int,
) -> None:
    folder = tmp_path_factory.mktemp("exact")
    three = {"spatial_dims": 3, "view": None, "size": (8, 8, 8)} if spatial_dims == 3 else {}
    contract = fakes.volume_contract(spacing=(1.0, 3.0, 2.0), orientation=orientation, **three)
    volume = noise(shape)
    # the file's own axes stand in another order than the contract's
    other = ORIENTATIONS[(7 * ORIENTATIONS.index(orientation) + 11) % len(ORIENTATIONS)]
    along = dict(zip(orientation.translate(str.maketrans("LPI", "RAS")), contract.spacing or (), strict=True))
    path = folder / f"scan{suffix}"
    save(path, volume, [along[axis] for axis in "RAS"], other)
    predict_files(fakes.release(fakes.Threshold(THRESHOLDS), contract), path, folder / "out")
    image, labels = nib.load(path), nib.load(folder / "out" / path.name)
    np.testing.assert_array_equal(np.asarray(labels.dataobj), expected_values(np.asarray(image.dataobj)))
    assert (labels.shape, labels.get_data_dtype()) == (image.shape, image.get_data_dtype())
    assert labels.affine.tobytes() == image.affine.tobytes()


def save(path: Path, volume: np.ndarray, spacing: list[float], orientation: str) -> None:
    synthetic.save_volume(path if path.suffix != ".mgz" else path.with_suffix(".nii"), volume, spacing, orientation)
    if path.suffix == ".mgz":
        same = nib.load(path.with_suffix(".nii"))
        nib.save(nib.MGHImage(np.asarray(same.dataobj), same.affine), path)
        path.with_suffix(".nii").unlink()


@pytest.mark.parametrize("orientation", ["RAS", "PIR", "LSA"])
def test_another_spacing_gives_labels_on_the_input_s_grid_all_the_same(
    tmp_path: Path, volumes: Release, orientation: str
) -> None:
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in (30, 16, 25)), indexing="ij")
    ball = (200 * (sum(axis**2 for axis in grid) < 0.6)).astype(np.int16)
    path = tmp_path / "scan.nii.gz"
    synthetic.save_volume(path, ball, (1.4, 2.6, 1.7), orientation)
    predict_files(volumes, path, tmp_path / "out")
    image, labels = nib.load(path), nib.load(tmp_path / "out" / "scan.nii.gz")
    assert (labels.shape, labels.get_data_dtype()) == (image.shape, np.dtype("<i2"))
    assert labels.affine.tobytes() == image.affine.tobytes()
    found = (np.asarray(labels.dataobj) == 42).astype(int)
    assert dice(found, (np.asarray(image.dataobj) > 0).astype(int), 2)[1] > 0.9


def test_an_oblique_volume_keeps_its_affine_bit_for_bit(tmp_path: Path, volumes: Release) -> None:
    turn = np.deg2rad(17)
    affine = np.array(
        [[np.cos(turn), -np.sin(turn), 0, 3], [np.sin(turn), np.cos(turn), 0, -2], [0, 0, 1, 9], [0, 0, 0, 1]]
    )
    affine[:3, :3] *= 2
    volume = nib.Nifti1Image(noise((7, 8, 9), "i2"), affine)
    volume.set_sform(affine, 2)
    volume.set_qform(affine, 1)
    nib.save(volume, tmp_path / "scan.nii")
    predict_files(volumes, tmp_path / "scan.nii", tmp_path / "out")
    image, labels = nib.load(tmp_path / "scan.nii"), nib.load(tmp_path / "out" / "scan.nii")
    np.testing.assert_array_equal(np.asarray(labels.dataobj), expected_values(np.asarray(image.dataobj)))
    assert labels.affine.tobytes() == image.affine.tobytes()
    assert [int(labels.header[f"{form}_code"]) for form in ("sform", "qform")] == [2, 1]


@pytest.mark.parametrize(("channels", "bits"), [(3, 8), (1, 8), (3, 16), (1, 16)])
def test_a_picture_gets_a_mask_of_its_own_size(tmp_path: Path, pictures: Release, channels: int, bits: int) -> None:
    picture = np.zeros((40, 48, channels), np.uint8 if bits == 8 else np.uint16)
    picture[5:20, 30:] = 2**bits - 1
    synthetic.save_image(tmp_path / "eye.png", picture[..., 0] if channels == 1 else picture)
    predict_files(pictures, tmp_path / "eye.png", tmp_path / "out")
    mask = imagecodecs.png_decode((tmp_path / "out" / "eye.png").read_bytes())
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, picture[..., 0] > 0)


def test_a_larger_picture_gets_a_mask_of_its_own_size_too(tmp_path: Path, pictures: Release) -> None:
    picture = np.zeros((97, 113, 3), np.uint8)
    picture[:, 60:] = 255
    synthetic.save_image(tmp_path / "eye.png", picture)
    predict_files(pictures, tmp_path / "eye.png", tmp_path / "out")
    mask = imagecodecs.png_decode((tmp_path / "out" / "eye.png").read_bytes())
    assert mask.shape == (97, 113)
    assert dice(mask, (picture[..., 0] > 0).astype(int), 2).min() > 0.98


def rows(out: Path) -> list[list[str]]:
    with (out / TABLE).open(newline="") as file:
        return list(csv.reader(file))


def bright_and_dark(folder: Path) -> Path:
    for number, brightness in enumerate((10, 200, 60, 90)):
        synthetic.save_image(folder / f"ward/{number}.png", np.full((16, 16), brightness, np.uint8))
    return folder


def test_classification_gives_a_row_for_each_picture_with_probabilities_that_sum_to_1(
    tmp_path: Path, classes: Release
) -> None:
    predict_files(classes, bright_and_dark(tmp_path / "in"), tmp_path / "out")
    head, *found = rows(tmp_path / "out")
    assert head == ["image", "class", "probability_normal", "probability_abnormal"]
    assert [row[:2] for row in found] == [
        ["ward/0.png", "normal"],
        ["ward/1.png", "abnormal"],
        ["ward/2.png", "normal"],
        ["ward/3.png", "abnormal"],
    ]
    probability = np.array([row[2:] for row in found], float)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=2e-6)
    odds = np.exp(10 * (np.array([10, 200, 60, 90]) / 255 - 0.25))
    np.testing.assert_allclose(probability[:, 1], odds / (1 + odds), atol=1e-5)


def test_pictures_go_together_by_their_places_whatever_was_done_before(
    tmp_path: Path, classes: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = bright_and_dark(tmp_path / "in"), tmp_path / "out"
    monkeypatch.setattr(Predictor, "together", 3)
    seen = classes.model.seen
    predict_files(classes, source, out)
    assert seen == [(3, 1, 16, 16), (1, 1, 16, 16)]
    whole = (out / TABLE).read_bytes()
    head, first, _second, third, _fourth = whole.splitlines(keepends=True)
    (out / TABLE).write_bytes(head + first + third)
    seen.clear()
    again = predict_files(classes, source, out)
    assert seen == [(3, 1, 16, 16), (1, 1, 16, 16)]
    assert (len(again.written), again.skipped) == (2, 2)
    assert sorted(map(tuple, rows(out))) == sorted(map(tuple, csv.reader(whole.decode().splitlines())))


def test_a_picture_that_cannot_be_read_does_not_stop_those_that_go_with_it(tmp_path: Path, classes: Release) -> None:
    source = bright_and_dark(tmp_path / "in")
    (source / "ward/1.png").write_bytes(b"no picture")
    result = predict_files(classes, source, tmp_path / "out")
    assert list(result.failed) == [str(source / "ward/1.png")]
    assert [row[:2] for row in rows(tmp_path / "out")[1:]] == [
        ["ward/0.png", "normal"],
        ["ward/2.png", "normal"],
        ["ward/3.png", "abnormal"],
    ]


def test_openvino_gives_the_same_rows_and_its_folder_says_so(tmp_path: Path, classes: Release) -> None:
    source = bright_and_dark(tmp_path / "in")
    predict_files(classes, source, tmp_path / "torch")
    predict_files(classes, source, tmp_path / "openvino", output=Output(engine="openvino"))
    by_torch, by_openvino = rows(tmp_path / "torch"), rows(tmp_path / "openvino")
    assert [row[:2] for row in by_torch] == [row[:2] for row in by_openvino]
    values = [np.array([row[2:] for row in table[1:]], float) for table in (by_torch, by_openvino)]
    np.testing.assert_allclose(*values, atol=2e-6)
    assert json.loads((tmp_path / "openvino" / RECORD).read_text())["engine"] == "openvino"
    with pytest.raises(EvaluationError, match="holds results with the engine openvino, not torch"):
        predict_files(classes, source, tmp_path / "openvino")


def test_openvino_segments_pictures_of_other_sizes_as_torch_does(tmp_path: Path, pictures: Release) -> None:
    draw = np.random.default_rng(0)
    for name, size in (("a", (32, 32)), ("b", (64, 96))):
        synthetic.save_image(tmp_path / f"in/{name}.png", draw.integers(0, 256, (*size, 3), np.uint8))
    predict_files(pictures, tmp_path / "in", tmp_path / "torch")
    predict_files(pictures, tmp_path / "in", tmp_path / "openvino", output=Output(engine="openvino"))
    for name in ("a.png", "b.png"):
        by_torch, by_openvino = (imagecodecs.imread(tmp_path / engine / name) for engine in ("torch", "openvino"))
        np.testing.assert_array_equal(by_torch, by_openvino)
        assert 0 < by_torch.mean() < 1


def test_pictures_that_would_be_mixed_go_one_by_one() -> None:
    contract = fakes.picture_contract(task="classification", size=(8, 8))
    mixing = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(192, 2))
    assert Predictor(fakes.release(mixing, contract)).together == 1
    assert Predictor(fakes.release(fakes.Brightness(), contract)).together > 1


def test_a_picture_that_has_gone_bad_fails_and_keeps_its_row(tmp_path: Path, classes: Release) -> None:
    source, out = bright_and_dark(tmp_path / "in"), tmp_path / "out"
    predict_files(classes, source, out)
    content = (out / TABLE).read_bytes()
    (out / TABLE).write_bytes(b"".join(content.splitlines(keepends=True)[:3]))
    (source / "ward/1.png").write_bytes(b"no picture")
    again = predict_files(classes, source, out)
    assert (again.skipped, len(again.written), list(again.failed)) == (1, 2, [str(source / "ward/1.png")])
    assert (out / TABLE).read_bytes() == content


def test_openvino_is_for_the_processor(tmp_path: Path, classes: Release) -> None:
    source = bright_and_dark(tmp_path / "in")
    with pytest.raises(ConfigurationError, match="runs on the processor, not on meta"):
        predict_files(classes, source, tmp_path / "out", device="meta", output=Output(engine="openvino"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("left", [1, 20, 57, 75, -1, -2])
def test_a_row_that_a_crash_cut_short_is_dropped_and_done_again(tmp_path: Path, classes: Release, left: int) -> None:
    source, out = bright_and_dark(tmp_path / "in"), tmp_path / "out"
    predict_files(classes, source, out)
    whole = (out / TABLE).read_bytes()
    (out / TABLE).write_bytes(whole[:left])
    again = predict_files(classes, source, out)
    assert (out / TABLE).read_bytes() == whole
    assert again.skipped + len(again.written) == 4
    assert again.written


def test_a_file_and_a_folder_keep_their_names(tmp_path: Path, pictures: Release) -> None:
    source = tmp_path / "in"
    for name in ("a.png", "left/a.png", "left/deep/B.PNG"):
        synthetic.save_image(source / name, np.zeros((40, 48, 3), np.uint8))
    (source / "notes.txt").write_text("not an image")
    synthetic.save_image(source / ".a.png", np.zeros((40, 48, 3), np.uint8))
    seen: list[tuple[int, int]] = []
    result = predict_files(pictures, source, tmp_path / "out", progress=lambda *at: seen.append(at))
    files = sorted(str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.[pP][nN][gG]"))
    assert files == ["a.png", "left/a.png", "left/deep/B.PNG"]
    assert sorted(result.written) == [tmp_path / "out" / name for name in files]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    one = predict_files(pictures, source / "left/a.png", tmp_path / "one")
    assert one.written == [tmp_path / "one" / "a.png"]


def test_what_is_there_is_not_done_again(tmp_path: Path, pictures: Release) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "b.png"):
        synthetic.save_image(source / name, np.zeros((40, 48, 3), np.uint8))
    predict_files(pictures, source, out)
    times = {name: (out / name).stat().st_mtime_ns for name in ("a.png", "b.png")}
    synthetic.save_image(source / "c.png", np.zeros((40, 48, 3), np.uint8))
    again = predict_files(pictures, source, out)
    assert (again.written, again.skipped) == ([out / "c.png"], 2)
    assert {name: (out / name).stat().st_mtime_ns for name in ("a.png", "b.png")} == times


def test_one_bad_file_is_reported_by_name_and_the_others_are_done(tmp_path: Path, volumes: Release) -> None:
    source = tmp_path / "in"
    for name in ("a.nii.gz", "c.nii.gz"):
        synthetic.save_volume(source / name, noise((6, 7, 8)), (2, 2, 2))
    (source / "b.nii.gz").write_bytes((source / "a.nii.gz").read_bytes()[:100])
    synthetic.save_image(source / "d.png", np.zeros((4, 4), np.uint8))
    result = predict_files(volumes, source, tmp_path / "out")
    assert [path.name for path in result.written] == ["a.nii.gz", "c.nii.gz"]
    assert list(result.failed) == [str(source / "b.nii.gz"), str(source / "d.png")]
    for file, why in result.failed.items():
        assert why.startswith(file)
    assert "unreadable" in result.failed[str(source / "b.nii.gz")]
    assert "a picture" in result.failed[str(source / "d.png")]
    assert not (tmp_path / "out" / "b.nii.gz").exists()
    # mended, it is the only one that is left to do
    (source / "b.nii.gz").write_bytes((source / "a.nii.gz").read_bytes())
    (source / "d.png").unlink()
    assert predict_files(volumes, source, tmp_path / "out").written == [tmp_path / "out" / "b.nii.gz"]


def test_a_failure_that_is_not_the_file_s_own_stops_everything(
    tmp_path: Path, pictures: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    synthetic.save_image(tmp_path / "a.png", np.zeros((40, 48, 3), np.uint8))
    monkeypatch.setattr("perdure.evaluation.prediction_writing.replace_file", full)
    with pytest.raises(OSError, match="No space"):
        predict_files(pictures, tmp_path / "a.png", tmp_path / "out")


@pytest.mark.parametrize("name", ["empty", "missing", "notes.txt"])
def test_where_there_is_no_image_is_an_error_that_names_the_place(tmp_path: Path, pictures: Release, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(EvaluationError, match=name):
        predict_files(pictures, tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_another_release_s_results_is_refused(tmp_path: Path, pictures: Release) -> None:
    synthetic.save_image(tmp_path / "a.png", np.zeros((40, 48, 3), np.uint8))
    predict_files(pictures, tmp_path / "a.png", tmp_path / "out")
    other = fakes.release(fakes.Threshold((0.5,)), fakes.picture_contract(), name="another")
    with pytest.raises(EvaluationError, match=rf"{pictures.id[:12]}, not of {other.id[:12]}; choose another --out"):
        predict_files(other, tmp_path / "a.png", tmp_path / "out")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "\xff"])
def test_a_damaged_record_is_refused_by_name(tmp_path: Path, pictures: Release, content: str) -> None:
    synthetic.save_image(tmp_path / "a.png", np.zeros((40, 48, 3), np.uint8))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RECORD).write_bytes(content.encode("latin-1"))
    with pytest.raises(EvaluationError, match=RECORD):
        predict_files(pictures, tmp_path / "a.png", tmp_path / "out")


def test_a_folder_with_other_files_is_refused_so_that_none_of_them_is_taken_for_a_result(
    tmp_path: Path, pictures: Release
) -> None:
    source = tmp_path / "in"
    synthetic.save_image(source / "a.png", np.zeros((40, 48, 3), np.uint8))
    for where in (source, source / "a.png"):
        with pytest.raises(EvaluationError, match=r"in: holds other files than predictions"):
            predict_files(pictures, where, source)
    assert [path.name for path in source.iterdir()] == ["a.png"]


def test_results_below_the_input_folder_are_not_predicted_in_turn(tmp_path: Path, pictures: Release) -> None:
    source = tmp_path / "in"
    synthetic.save_image(source / "a.png", np.zeros((40, 48, 3), np.uint8))
    for done in (1, 0):
        result = predict_files(pictures, source, source / "out")
        assert (len(result.written), result.skipped) == (done, 1 - done)


def test_the_record_says_which_release_made_the_results(tmp_path: Path, pictures: Release) -> None:
    synthetic.save_image(tmp_path / "a.png", np.zeros((40, 48, 3), np.uint8))
    predict_files(pictures, tmp_path / "a.png", tmp_path / "out")
    written = json.loads((tmp_path / "out" / RECORD).read_text())
    assert written == {"release": pictures.id, "name": "base", "domain": None}


@pytest.fixture
def of_two_sites(pictures: Release) -> Release:
    """A release that keeps one batch norm a domain; that of this network is empty."""
    return replace(pictures, memory=replace(pictures.memory, norms={"a": {}, "b": {}}))


@pytest.mark.parametrize(("domain", "said"), [(None, "no domain is named"), ("c", "it has none for 'c'")])
def test_a_release_with_one_batch_norm_a_domain_refuses_to_guess_where_images_are_from(
    of_two_sites: Release, tmp_path: Path, domain: str | None, said: str
) -> None:
    synthetic.save_image(tmp_path / "eye.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(EvaluationError, match=rf"{said}: say where the images are from .--domain., one of a, b"):
        predict_files(of_two_sites, tmp_path / "eye.png", tmp_path / "out", domain=domain)
    assert not (tmp_path / "out").exists()


def test_results_for_one_domain_are_never_mixed_with_those_for_another(of_two_sites: Release, tmp_path: Path) -> None:
    synthetic.save_image(tmp_path / "eye.png", np.zeros((8, 8), np.uint8))
    predict_files(of_two_sites, tmp_path / "eye.png", tmp_path / "out", domain="a")
    with pytest.raises(EvaluationError, match="holds results for domain a, not for b"):
        predict_files(of_two_sites, tmp_path / "eye.png", tmp_path / "out", domain="b")


def test_a_dicom_series_gives_labels_on_its_grid_and_a_radiograph_gives_a_class(
    tmp_path: Path, volumes: Release, classes: Release
) -> None:
    affine = np.diag([2.0, 2, 2, 1])
    volume = noise((6, 7, 8)).astype(np.uint16)
    dicoms.write_series(tmp_path / "study" / "s1", volume, affine)
    dicoms.write_series(tmp_path / "study" / "s2", volume, affine)
    dicoms.write_picture(tmp_path / "two" / "bright", np.full((9, 9), 4000, np.uint16))
    names = ["s1.dcm.nii.gz", "s2.dcm.nii.gz"]
    assert [path.name for path in predict_files(volumes, tmp_path / "study", tmp_path / "out").written] == names
    written = nib.load(tmp_path / "out" / "s1.dcm.nii.gz")
    own = nib.as_closest_canonical(written)
    np.testing.assert_array_equal(own.dataobj, expected_values(volume))
    np.testing.assert_allclose(own.affine, affine)
    # a series that is named itself
    assert predict_files(volumes, tmp_path / "study" / "s1", tmp_path / "one").written == [tmp_path / "one" / names[0]]
    predict_files(classes, tmp_path / "two", tmp_path / "graded")
    assert "bright,abnormal" in (tmp_path / "graded" / TABLE).read_text()


def test_a_second_process_that_predicts_into_the_same_folder_is_told_so(tmp_path: Path) -> None:
    """Both would add their rows to one table."""
    synthetic.save_image(tmp_path / "in" / "a.png", np.zeros((8, 8, 3), np.uint8))
    made = fakes.release(fakes.Threshold((0.5,)), fakes.picture_contract())
    (tmp_path / "out").mkdir()
    with (
        FileLock(tmp_path / ".out.lock"),
        pytest.raises(EvaluationError, match="out: another process predicts into it"),
    ):
        predict_files(made, tmp_path / "in", tmp_path / "out")
    assert len(predict_files(made, tmp_path / "in", tmp_path / "out").written) == 1
