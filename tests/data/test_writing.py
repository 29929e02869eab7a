"""A label map overlays the image that it was made from: same grid, same place, and numbers that fit."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
import pytest

from perdure.data.writing import label_file, write_probabilities

AFFINE = np.array([[0, -1.3, 0.2, 20], [1.1, 0, 0, -7], [0.1, 0, 2.5, 3], [0, 0, 0, 1.0]])
LABELS = (np.arange(4 * 5 * 6).reshape(4, 5, 6) % 3).astype(np.uint8)


def nifti(path: Path, dtype: str = "<i2", kind: type[nib.Nifti1Image] = nib.Nifti1Image, **fields: object) -> Path:
    header = kind.header_class(endianness=">" if dtype.startswith(">") else "<")
    volume = kind(np.zeros(LABELS.shape, dtype), AFFINE, header, dtype=np.dtype(dtype))
    volume.set_sform(AFFINE, fields.pop("sform", 1))
    volume.set_qform(AFFINE, fields.pop("qform", 2), strip_shears=True)
    for name, value in fields.items():
        volume.header[name] = value
    nib.save(volume, path)
    return path


def written(image: Path, labels: np.ndarray = LABELS, largest: int = 2) -> nib.spatialimages.SpatialImage:
    target = image.with_name(f"labels-{image.name}")
    target.write_bytes(label_file(image, labels, largest))
    return nib.load(target)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("sform", "qform"), [(1, 1), (0, 1), (4, 0), (2, 1)])
def test_nifti_keeps_grid_affine_and_codes(tmp_path: Path, suffix: str, sform: int, qform: int) -> None:
    image = nib.load(nifti(tmp_path / f"scan{suffix}", sform=sform, qform=qform))
    labels = written(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(np.asarray(labels.dataobj), LABELS)
    assert labels.shape == image.shape
    assert labels.affine.tobytes() == image.affine.tobytes()
    for field in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d"):
        np.testing.assert_array_equal(labels.header[field], image.header[field])
    np.testing.assert_array_equal(labels.header["pixdim"], image.header["pixdim"])


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", "<i4", "<u4", "<i8", "<u8"])
def test_nifti_keeps_a_whole_number_type_and_its_byte_order(tmp_path: Path, dtype: str) -> None:
    labels = written(nifti(tmp_path / "scan.nii", dtype))
    assert labels.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(labels.dataobj), LABELS)


@pytest.mark.parametrize(
    ("own", "largest", "expected"),
    [
        ("<f4", 42, "u1"),
        ("<f8", 300, "<u2"),
        ("u1", 255, "u1"),
        ("u1", 256, "<u2"),
        ("i1", 128, "u1"),
        ("<i2", 2035, "<i2"),
    ],
)
def test_nifti_labels_get_the_smallest_type_that_holds_the_label_set_where_the_input_s_does_not(
    tmp_path: Path, own: str, largest: int, expected: str
) -> None:
    # the label set decides and not what one image shows, so that all files of a folder are alike
    assert written(nifti(tmp_path / "scan.nii", own), largest=largest).get_data_dtype() == np.dtype(expected)


def test_the_input_s_intensity_scaling_does_not_reach_the_labels(tmp_path: Path) -> None:
    volume = nib.Nifti1Image(np.linspace(0, 1, LABELS.size, dtype=np.float32).reshape(LABELS.shape), AFFINE)
    volume.set_data_dtype(np.int16)
    nib.save(volume, tmp_path / "scan.nii")
    assert nib.load(tmp_path / "scan.nii").dataobj.slope != 1
    labels = written(tmp_path / "scan.nii")
    assert (labels.dataobj.slope, labels.dataobj.inter) == (1, 0)
    np.testing.assert_array_equal(np.asarray(labels.dataobj), LABELS)


def test_the_input_s_display_window_does_not_reach_the_labels(tmp_path: Path) -> None:
    labels = written(nifti(tmp_path / "scan.nii", cal_min=100, cal_max=900))
    assert (float(labels.header["cal_min"]), float(labels.header["cal_max"])) == (0, 0)


def test_a_fourth_axis_of_one_stays(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 1), np.int16), AFFINE), tmp_path / "scan.nii")
    labels = written(tmp_path / "scan.nii")
    assert labels.shape == (4, 5, 6, 1)
    np.testing.assert_array_equal(np.asarray(labels.dataobj)[..., 0], LABELS)


def test_nifti_2_stays_nifti_2(tmp_path: Path) -> None:
    labels = written(nifti(tmp_path / "scan.nii", kind=nib.Nifti2Image))
    assert type(labels) is nib.Nifti2Image
    np.testing.assert_array_equal(np.asarray(labels.dataobj), LABELS)


# nibabel leaves an .mgh file that it has read to the garbage collector
@pytest.mark.filterwarnings(r"ignore:Exception ignored in.*\.mgh:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
@pytest.mark.parametrize(
    ("own", "largest", "expected"),
    [
        ("u1", 2, ">u1"),
        (">i2", 2035, ">i2"),
        (">i4", 2, ">i4"),
        (">f4", 2, ">u1"),
        ("u1", 300, ">i2"),
        (">f4", 40000, ">i4"),
    ],
)
def test_mgh_keeps_grid_and_affine_and_gets_a_type_that_it_knows(
    tmp_path: Path, suffix: str, own: str, largest: int, expected: str
) -> None:
    path = tmp_path / f"scan{suffix}"
    nib.save(nib.MGHImage(np.zeros(LABELS.shape, np.dtype(own).newbyteorder("=")), AFFINE), path)
    image, labels = nib.load(path), written(path, largest=largest)
    assert labels.get_data_dtype() == np.dtype(expected)
    assert labels.affine.tobytes() == image.affine.tobytes()
    np.testing.assert_array_equal(np.asarray(labels.dataobj), LABELS)


@pytest.mark.parametrize(("largest", "dtype"), [(2, np.uint8), (255, np.uint8), (256, np.uint16)])
def test_a_picture_s_labels_are_a_png_of_8_or_16_bits_as_the_label_set_needs(
    tmp_path: Path, largest: int, dtype: type[np.generic]
) -> None:
    mask = imagecodecs.png_decode(label_file(tmp_path / "eye.png", LABELS[0], largest))
    assert mask.dtype == dtype
    np.testing.assert_array_equal(mask, LABELS[0])


def test_the_same_labels_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = nifti(tmp_path / "scan.nii.gz")
    first = label_file(image, LABELS, 2)
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert label_file(image, LABELS, 2) == first


OBLIQUE = np.array([[0.8, -0.6, 0, -3], [0.6, 0.8, 0, 5], [0, 0, 1, 7], [0, 0, 0, 1]]) @ np.diag([1.5, 2.0, 2.5, 1.0])


@pytest.mark.filterwarnings(r"ignore:Exception ignored in.*\.mgh:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE, np.diag([-1.0, 1.0, 1.2, 1.0])])
@pytest.mark.parametrize("source", [".nii", ".mgh"])
@pytest.mark.parametrize("target", [".nii", ".nii.gz", ".mgh", ".mgz"])
def test_a_volume_of_one_format_overlays_its_labels_in_another(
    tmp_path: Path, affine: np.ndarray, source: str, target: str
) -> None:
    kind = nib.Nifti1Image if source == ".nii" else nib.MGHImage
    nib.save(kind(np.zeros(LABELS.shape, np.int16), affine), tmp_path / f"scan{source}")
    image = nib.load(tmp_path / f"scan{source}")
    path = tmp_path / f"labels{target}"
    path.write_bytes(label_file(tmp_path / f"scan{source}", LABELS, 2, path))
    labels = nib.load(path)
    np.testing.assert_array_equal(np.asarray(labels.dataobj), LABELS)
    np.testing.assert_allclose(labels.affine, image.affine, atol=1e-5)
    maps = [LABELS.astype(np.float32) / 3, 1 - LABELS.astype(np.float32) / 3]
    with (tmp_path / f"maps{target}").open("wb") as file:
        write_probabilities(file, tmp_path / f"scan{source}", maps, 2, path)
    written = nib.load(tmp_path / f"maps{target}")
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.stack(maps, axis=-1))
    np.testing.assert_allclose(written.affine, labels.affine, atol=1e-6)


def test_a_nifti_file_made_of_an_mgh_one_says_that_its_place_is_the_scanner_s(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(np.zeros(LABELS.shape, np.int16), OBLIQUE), tmp_path / "scan.mgz")
    target = tmp_path / "labels.nii"
    target.write_bytes(label_file(tmp_path / "scan.mgz", LABELS, 2, target))
    header = nib.load(target).header
    assert [int(header[f"{form}_code"]) for form in ("sform", "qform")] == [1, 1]
    np.testing.assert_allclose(header.get_qform(), OBLIQUE, atol=1e-5)
    assert header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("own", ["u2", "i8", "f4"])
def test_a_type_that_mgh_does_not_know_becomes_one_that_it_does(tmp_path: Path, own: str) -> None:
    target = tmp_path / "labels.mgz"
    target.write_bytes(label_file(nifti(tmp_path / "scan.nii", f"<{own}"), LABELS, 2035, target))
    assert nib.load(target).get_data_dtype() == np.dtype(">i2")
