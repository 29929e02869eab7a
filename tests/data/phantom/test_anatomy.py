from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from perdure.data.phantom import Anatomy, mni_tissues
from perdure.data.phantom.scanner import BACKGROUND, CSF, GREY, WHITE
from perdure.errors import DataError


@pytest.fixture(scope="module")
def brain() -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    pytest.importorskip("nilearn", reason="nilearn (extra `demo`) is not installed")
    return mni_tissues(2.0)


@pytest.mark.parametrize(
    ("place", "tissue"),
    [
        ((-5, 13, 12), CSF),  # frontal horn of the left lateral ventricle
        ((5, 13, 12), CSF),
        ((-10, -18, 8), GREY),  # left thalamus
        ((13, 12, 10), GREY),  # right caudate
        ((-27, 2, 2), GREY),  # left putamen
        ((0, 27, 6), WHITE),  # genu of the corpus callosum
        ((-27, -20, 30), WHITE),  # left corona radiata
        ((27, -20, 30), WHITE),
        ((0, 60, 60), BACKGROUND),
    ],
)
def test_landmarks_of_mni_space_lie_in_their_tissue(
    brain: tuple[NDArray[np.uint8], NDArray[np.float64]], place: tuple[int, int, int], tissue: int
) -> None:
    labels, affine = brain
    voxel = np.rint(np.linalg.inv(affine) @ (*place, 1)).astype(int)[:3]
    assert labels[tuple(voxel)] == tissue


def test_tissue_volumes_are_those_of_a_brain(brain: tuple[NDArray[np.uint8], NDArray[np.float64]]) -> None:
    labels, affine = brain
    litres = np.bincount(labels.ravel()) * abs(np.linalg.det(affine)) / 1e6
    assert labels.dtype == np.uint8
    assert len(litres) == 4
    assert 0.3 < litres[CSF] < 0.5
    assert 0.9 < litres[GREY] < 1.2
    assert 0.5 < litres[WHITE] < 0.7


def test_the_volume_is_cropped_to_the_brain(brain: tuple[NDArray[np.uint8], NDArray[np.float64]]) -> None:
    where = np.argwhere(brain[0])
    assert where.min(axis=0).tolist() == [0, 0, 0]
    # a grid of 2 mm may end 1 mm beyond the last voxel of 1 mm
    assert (np.array(brain[0].shape) - where.max(axis=0) <= 2).all()


def test_voxels_finer_than_the_maps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`spacing_mm` must be 1 or more.*got 0\.5"):
        mni_tissues(0.5)


def test_without_nilearn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    with pytest.raises(DataError, match=r"nilearn.*pip install 'perdure\[demo\]'"):
        mni_tissues()


def test_an_anatomy_is_read_in_its_own_orientation(tmp_path: Path, shells: NDArray[np.uint8]) -> None:
    affine = np.array([[0, 0, 1.5, 3], [-2, 0, 0, 4], [0, 1, 0, 5], [0, 0, 0, 1]], dtype=float)
    nib.Nifti1Image(shells.astype(np.float32), affine).to_filename(tmp_path / "map.nii.gz")
    anatomy = Anatomy.read(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(anatomy.labels, shells)
    np.testing.assert_array_equal(anatomy.affine, affine)
    assert anatomy.spacing_mm == (2, 1, 1.5)


def test_a_label_map_of_fractions_is_refused(tmp_path: Path) -> None:
    nib.Nifti1Image(np.full((3, 3, 3), 0.5, dtype=np.float32), np.eye(4)).to_filename(tmp_path / "map.nii.gz")
    with pytest.raises(DataError, match=r"map\.nii\.gz: voxels: found float32.*whole numbers"):
        Anatomy.read(tmp_path / "map.nii.gz")


@pytest.mark.parametrize("content", [None, b"no image"])
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "map.nii.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"map\.nii\.gz: file: .*a readable NIfTI label map goes here"):
        Anatomy.read(path)


@pytest.mark.parametrize(
    ("labels", "affine", "message"),
    [
        (np.zeros((2, 2), dtype=np.uint8), np.eye(4), "three dimensions"),
        (np.zeros((2, 2, 2)), np.eye(4), "whole numbers.*float64"),
        (np.zeros((2, 2, 2), dtype=np.uint8), np.diag([1.0, 0, 1, 1]), "`affine` must be 4 x 4"),
    ],
)
def test_an_array_that_is_no_label_map_is_refused(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Anatomy(labels, affine)
