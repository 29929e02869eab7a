from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import dicoms
from perdure.data.content import Header, Image
from perdure.data.geometry import ImageGrid
from perdure.data.preparation import prepare_image, prepare_labels, preprocessing_key, values_present
from perdure.errors import DataError
from perdure.types import IGNORED, Contract, Intensity, Structure
from synthetic import save_image

STRUCTURES = (
    Structure(name="background", values=(0,)),
    Structure(name="x", values=(3, 42)),
    Structure(name="y", values=(300,)),
)


def contract(**changes: object) -> Contract:
    fields = {
        "task": "segmentation", "structures": STRUCTURES, "channels": 1, "size": (8, 8), "orientation": "LIA",
        "spacing": (1.0, 1.0, 1.0), "view": "coronal", "intensity": Intensity(scaling="robust"),
    }  # fmt: skip
    return Contract(**{**fields, **changes})


def pictures(**changes: object) -> Contract:
    fields = {"orientation": None, "spacing": None, "view": None, "intensity": Intensity(scaling="format")}
    return contract(**{**fields, **changes})


def save(path: Path, volume: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(volume, np.diag([-1.0, 1, 1, 1])), path)
    return path


def test_a_volume_is_scaled_turned_and_cut(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(1, 200, (4, 5, 6), dtype=np.uint8)
    prepared = prepare_image(save(tmp_path / "a.nii", volume), contract())
    assert prepared.pixels.shape == (5, 1, 4, 6)
    assert prepared.pixels.dtype == np.float32
    # LAS to LIA: the third axis is turned round and stands second
    raw = volume.astype(np.float64)
    low, high = raw.min(), np.percentile(raw, 99.9)
    expected = ((raw - low) / (high - low)).clip(0, 1)[:, :, ::-1].transpose(1, 0, 2)
    np.testing.assert_allclose(prepared.pixels[:, 0], expected, rtol=1e-5)


def test_a_picture_is_padded_with_black_before_mean_and_deviation(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", np.full((4, 8, 3), 255, np.uint8))
    rgb = pictures(channels=3, intensity=Intensity(scaling="format", mean=(0.5, 0.5, 0.0), std=(1.0, 0.5, 1.0)))
    prepared = prepare_image(tmp_path / "a.png", rgb).pixels
    assert prepared.shape == (1, 3, 8, 8)
    assert prepared[0, :, 4, 4].tolist() == [0.5, 1, 1]
    assert prepared[0, :, 0, 0].tolist() == [-0.5, -1, 0]


def test_grey_is_repeated_for_a_network_of_three_channels(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", np.full((8, 8), 51, np.uint8))
    np.testing.assert_allclose(
        prepare_image(tmp_path / "a.png", pictures(channels=3)).pixels, np.full((1, 3, 8, 8), 0.2)
    )


def test_an_image_of_another_kind_than_the_contract_is_refused(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: channels: found 3; the contract has 1"):
        prepare_image(tmp_path / "a.png", pictures())
    with pytest.raises(DataError, match=r"a\.png: content: found a picture; the contract is for volumes; "):
        prepare_image(tmp_path / "a.png", contract())


@pytest.mark.parametrize("said", ["T1-weighted MRI", "CT", "CT, MR", "synthetic", ""])
def test_dicom_of_another_modality_than_the_contract_is_refused(tmp_path: Path, said: str) -> None:
    """And taken where the contract names none; a volume in NIfTI says nothing of it."""
    volume = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    dicoms.write_series(tmp_path / "series", volume, np.diag([2.0, 2, 2, 1]), modality="CT")
    if "MR" not in said or "CT" in said:
        prepare_image(tmp_path / "series", contract(modality=said))
    else:
        with pytest.raises(DataError, match=r"series: Modality: found CT; the contract is for 'T1-w"):
            prepare_image(tmp_path / "series", contract(modality=said))
    prepare_image(save(tmp_path / "a.nii", volume), contract(modality=said))


def test_a_modality_that_no_text_names_contradicts_none(tmp_path: Path) -> None:
    """Of the pictures of one set some may be CR and others RG, as an import of them says."""
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    dicoms.write_picture(tmp_path / "a.dcm", pixels, more={"Modality": "RG"})
    prepare_image(tmp_path / "a.dcm", pictures(modality="CR, RG"))


def test_labels_become_class_indices_and_what_does_not_count_is_ignored(tmp_path: Path) -> None:
    save_image(tmp_path / "l.png", np.array([[0, 3, 42, 300], [0, 9, 3, 0]], np.uint16))
    save_image(tmp_path / "m.png", np.array([[1, 1, 1, 1], [0, 1, 1, 255]], np.uint8))
    labels = prepare_labels(tmp_path / "l.png", tmp_path / "m.png", ImageGrid((2, 4), (4, 4), "fit"), STRUCTURES, (9,))
    assert labels.reference.tolist() == [[0, 1, 1, 2], [IGNORED, IGNORED, 1, 0]]
    assert labels.target[0].tolist() == [[IGNORED] * 4, *labels.reference.tolist(), [IGNORED] * 4]


def test_a_value_that_means_nothing_is_refused(tmp_path: Path) -> None:
    save_image(tmp_path / "l.png", np.array([[0, 3], [7, 65535]], np.uint16))
    with pytest.raises(DataError, match=r"l\.png: values: found 7, 65535; each must be a value of the label set"):
        prepare_labels(tmp_path / "l.png", None, ImageGrid((2, 2), (2, 2), "fit"), STRUCTURES)


def test_labels_and_masks_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_image(tmp_path / "good.png", np.zeros((2, 2), np.uint8))
    save_image(tmp_path / "bad.png", np.zeros((2, 3), np.uint8))
    grid = ImageGrid((2, 2), (2, 2), "fit")
    for label, mask in (("bad", None), ("good", "bad")):
        with pytest.raises(DataError, match=r"bad\.png: shape: found \(2, 3\); the image is of shape \(2, 2\)"):
            prepare_labels(tmp_path / f"{label}.png", mask and tmp_path / f"{mask}.png", grid, STRUCTURES)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64])
def test_the_values_of_a_label_map_are_found_whatever_its_type(dtype: type) -> None:
    pixels = np.array([[0, 200, 3], [3, 0, 0]], dtype)
    assert values_present(Image(Header((2, 3), 1, None), pixels, None)) == [0, 3, 200]


def test_all_that_changes_an_array_is_in_the_key_and_nothing_else() -> None:
    key = preprocessing_key(contract())
    for change in (
        {"spacing": (1.0, 1.0, 2.0)}, {"orientation": "RAS"}, {"view": "axial"}, {"structures": STRUCTURES[:2]},
        {"channels": 3}, {"intensity": Intensity(scaling="robust", mean=(0.1,))},
        {"spatial_dims": 3, "size": (8, 8, 8), "view": None},
    ):  # fmt: skip
        assert preprocessing_key(contract(**change)) != key
    assert preprocessing_key(contract(), (9,)) != key
    # a volume is prepared whole: its size is that of samples; a picture is resized to it
    assert preprocessing_key(contract(size=(16, 16), modality="MR")) == key
    assert preprocessing_key(pictures(size=(16, 16))) != preprocessing_key(pictures())


@pytest.mark.parametrize("length", [1e3, 1e9, 1e30])
def test_a_small_file_with_huge_voxels_does_not_fill_the_memory(tmp_path: Path, length: float) -> None:
    """At 1 mm, six voxels of a kilometre would be 10^18 of them."""
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(np.ones((2, 3, 4), np.uint8), np.diag([length, length, length, 1])), path)
    found = r"affine: found \(2, 3, 4\) voxels of .* mm; at 1 x 1 x 1 mm .* at most 67,108,864 numbers"
    with pytest.raises(DataError, match=found):
        prepare_image(path, contract())


def test_thick_slices_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(np.ones((40, 40, 6), np.uint8), np.diag([4.0, 4.0, 12.0, 1.0])), path)
    assert prepare_image(path, contract()).pixels.size == 160 * 160 * 72
