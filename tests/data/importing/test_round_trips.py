"""Whatever way its axes point: what was written in a layout is what is read from the data folder, to the last voxel."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from scipy.spatial.transform import Rotation

from dicoms import write_contours, write_enhanced, write_segmentation, write_series
from layouts import save
from perdure.data import Dataset
from perdure.data.images import read_image, read_labels
from perdure.data.importing import find_bids, find_decathlon, find_dicom, find_nnunet, imported
from perdure.data.importing.found import Found

SALT = bytes(range(32))
SHAPE = (5, 6, 7)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Each of the 48 ways that axes may point, oblique or not, with any spacing."""
    order, signs = draw(st.permutations(range(3))), draw(st.tuples(*[st.sampled_from([1.0, -1.0])] * 3))
    spacing = draw(st.lists(st.floats(0.3, 4), min_size=3, max_size=3))
    affine = np.diag([*signs, 1.0])[[*order, 3]] @ np.diag([*spacing, 1.0])
    if draw(st.booleans()):
        turn = Rotation.from_rotvec(draw(st.lists(st.floats(-0.6, 0.6), min_size=3, max_size=3))).as_matrix()
        affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = draw(st.lists(st.floats(-200, 200), min_size=3, max_size=3))
    return affine


def volumes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4000, SHAPE).astype(np.int16), rng.integers(0, 3, SHAPE).astype(np.uint8)


def in_nnunet(folder: Path, image: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> Found:
    save(folder / "imagesTr" / "a_0000.nii.gz", image, affine)
    save(folder / "labelsTr" / "a.nii.gz", labels, affine)
    about = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "ball": 1, "core": 2}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(about))
    return find_nnunet(folder)


def in_decathlon(folder: Path, image: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> Found:
    save(folder / "imagesTr" / "a.nii.gz", image, affine)
    save(folder / "labelsTr" / "a.nii.gz", labels, affine)
    about = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "ball", "2": "core"}}
    about["training"] = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    (folder / "dataset.json").write_text(json.dumps(about))
    return find_decathlon(folder)


def in_bids(folder: Path, image: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> Found:
    save(folder / "sub-1" / "anat" / "sub-1_T1w.nii.gz", image, affine)
    save(folder / "derivatives" / "hand" / "sub-1" / "anat" / "sub-1_dseg.nii.gz", labels, affine)
    (folder / "derivatives" / "hand" / "dseg.tsv").write_text("index\tname\n1\tball\n2\tcore\n")
    (folder / "dataset_description.json").write_text("{}")
    return find_bids(folder)


def in_dicom(folder: Path, image: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> Found:
    files = write_series(folder / "s", image, affine)
    write_segmentation(folder / "seg.dcm", files, labels, {1: "ball", 2: "core"})
    return find_dicom(folder, SALT)


def in_dicom_with_contours(folder: Path, image: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> Found:
    files = write_series(folder / "s", image, affine)
    write_contours(folder / "rs.dcm", files, labels, affine, {1: "ball", 2: "core"})
    return find_dicom(folder, SALT)


def in_one_file(folder: Path, image: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> Found:
    file = write_enhanced(folder / "s.dcm", image, affine)
    uid = dcmread(file, stop_before_pixels=True).SeriesInstanceUID
    slices = write_series(folder.parent / "single", image, affine, uid=uid)
    write_contours(folder / "rs.dcm", slices, labels, affine, {1: "ball", 2: "core"})
    return find_dicom(folder, SALT)


def canonical(pixels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    turned = nib.as_closest_canonical(nib.Nifti1Image(pixels.astype(np.int32), affine))
    return np.asarray(turned.dataobj), turned.affine


@pytest.mark.parametrize(
    "layout",
    [in_nnunet, in_decathlon, in_bids, in_dicom, in_dicom_with_contours, in_one_file],
    ids=lambda f: f.__name__,
)
@settings(max_examples=12, deadline=None)
@given(affine=affines(), seed=st.integers(0, 1000))
def test_voxels_affine_spacing_and_labels_come_back(layout: object, affine: np.ndarray, seed: int) -> None:
    image, labels = volumes(seed)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "source", Path(folder) / "data"
        source.mkdir()
        out.mkdir()
        imported(layout(source, image, labels, affine), out, SALT).write(out)
        dataset = Dataset.open(out)
        dataset.check(required=(), cache=Path(folder) / "cache")
        files = dataset._files(dataset.cases[0], dataset.default_contract(required=(), cache=Path(folder) / "cache"))
        read, truth = read_image(files.image), read_labels(files.label, files.image, files.names)
    for own, wanted in ((read, image), (truth, labels)):
        pixels, place = canonical(own.pixels, own.header.affine)
        expected, expected_place = canonical(wanted, affine)
        np.testing.assert_array_equal(pixels, expected)
        # NIfTI keeps an affine in single precision
        np.testing.assert_allclose(place, expected_place, rtol=0, atol=1e-4)
    spacing = np.linalg.norm(read.header.affine[:3, :3], axis=0)
    np.testing.assert_allclose(spacing, np.linalg.norm(affine[:3, :3], axis=0), rtol=1e-6)
