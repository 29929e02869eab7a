"""A SEG or an RTSTRUCT becomes the label map that it was made of, on the grid of its series."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from highdicom.seg import SegmentationTypeValues
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import RLELossless
from scipy.spatial.transform import Rotation

from dicoms import write_contours, write_picture, write_segmentation, write_series
from perdure.data.images import read_image, read_labels
from perdure.data.manifest import Description, structure_key
from perdure.errors import DataError

NAMES = {7: "Left Kidney", 300: "TUMOUR"}
VALUES = {"left_kidney": 7, "tumour": 300}
SPACING = np.diag([0.75, 1.5, 2.25, 1.0])


def labels(seed: int = 0, shape: tuple[int, int, int] = (7, 9, 5)) -> np.ndarray:
    """Blobs with holes, and slices without any."""
    rng = np.random.default_rng(seed)
    values = np.array([0, 7, 300])[rng.integers(0, 3, shape)]
    values[2:5, 2:7, 2] = 7
    values[3, 4, 2] = 0
    values[:, :, 3] = 0
    return values


def made(folder: Path, kind: str, truth: np.ndarray, affine: np.ndarray) -> Path:
    volume = np.random.default_rng(0).integers(0, 4095, truth.shape).astype(np.uint16)
    files = write_series(folder / "s", volume, affine)
    if kind == "RTSTRUCT":
        return write_contours(folder / "label.dcm", files, truth, affine, NAMES)
    return write_segmentation(folder / "label.dcm", files, truth, NAMES, SegmentationTypeValues[kind])


def test_a_contour_within_another_is_a_hole(tmp_path: Path) -> None:
    ring = np.zeros((7, 9, 3), np.uint8)
    ring[1:6, 1:8, 1] = 7
    ring[3, 3:6, 1] = 0
    path = made(tmp_path, "RTSTRUCT", ring, SPACING)
    np.testing.assert_array_equal(read_labels(path, tmp_path / "s", VALUES).pixels, ring)


def draw(path: Path, *boxes: tuple[float, float, float, float], kind: str = "CLOSED_PLANAR") -> Path:
    """An RTSTRUCT of one region with these boxes, from column and row to column and row, in the slice 1 of three."""
    volume = np.zeros((40, 30, 3), np.uint16)
    files = write_series(path.parent / "s", volume, np.eye(4))
    volume[0, 0, 1] = 7
    write_contours(path, files, volume, np.eye(4), NAMES)
    dataset = dcmread(path)
    contours = []
    for left, top, right, bottom in boxes:
        contour = Dataset()
        contour.ContourGeometricType = kind
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        contour.ContourData = [number for x, y in corners for number in (-x, -y, 1)]
        contours.append(contour)
    dataset.ROIContourSequence[0].ContourSequence = contours
    dataset.save_as(path)
    return path


def filled(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    """Ones in the first box, noughts in the second within it, and so on."""
    mask = np.zeros((40, 30, 3), int)
    for number, (left, top, right, bottom) in enumerate(boxes):
        x, y = (slice(int(np.ceil(a)), int(np.floor(b)) + 1) for a, b in ((left, right), (top, bottom)))
        mask[x, y, 1] = 0 if number % 2 else 7
    return mask


OUTER, HOLE, ISLAND = (2.5, 3.5, 22.5, 23.5), (7.5, 8.5, 17.5, 18.5), (10.5, 10.5, 13.5, 14.5)


def test_a_contour_that_occurs_twice_counts_once(tmp_path: Path) -> None:
    path = draw(tmp_path / "label.dcm", OUTER, HOLE, OUTER, (2.6, 3.4, 22.4, 23.6), HOLE)
    np.testing.assert_array_equal(read_labels(path, tmp_path / "s", VALUES).pixels, filled(OUTER, HOLE))


def test_contours_within_contours_are_holes_and_islands_in_any_order(tmp_path: Path) -> None:
    path = draw(tmp_path / "label.dcm", ISLAND, OUTER, HOLE)
    np.testing.assert_array_equal(read_labels(path, tmp_path / "s", VALUES).pixels, filled(OUTER, HOLE, ISLAND))


def test_a_ring_of_one_voxel_stays_a_ring(tmp_path: Path) -> None:
    inner = (3.5, 4.5, 21.5, 22.5)
    path = draw(tmp_path / "label.dcm", OUTER, inner)
    np.testing.assert_array_equal(read_labels(path, tmp_path / "s", VALUES).pixels, filled(OUTER, inner))


def test_contours_that_touch_in_a_few_voxels_are_both_filled(tmp_path: Path) -> None:
    """Their common line runs through centres of voxels, which lie in both."""
    path = draw(tmp_path / "label.dcm", OUTER, (22, 20.5, 38.5, 28.5))
    expected = filled(OUTER)
    expected[22:39, 21:29, 1] = 7
    np.testing.assert_array_equal(read_labels(path, tmp_path / "s", VALUES).pixels, expected)


@pytest.mark.parametrize("second", [(22, 3.5, 24, 5.5), (22, 23, 25, 26)])
def test_small_contours_that_touch_at_a_line_or_corner_are_both_filled(
    tmp_path: Path, second: tuple[float, float, float, float]
) -> None:
    path = draw(tmp_path / "label.dcm", (2.5, 3.5, 22, 23), second)
    expected = np.maximum(filled((2.5, 3.5, 22, 23)), filled(second))
    np.testing.assert_array_equal(read_labels(path, tmp_path / "s", VALUES).pixels, expected)


@pytest.mark.parametrize(
    ("second", "found"),
    [
        ((12.5, 3.5, 32.5, 23.5), "two of which overlap in part"),
        ((2.5, 3.5, 22.5, 22.5), "two of which are nearly the same"),
        ((3.5, 3.5, 22.5, 23.5), "two of which are nearly the same"),
    ],
)
def test_contours_that_are_neither_apart_nor_nested_are_refused(
    tmp_path: Path, second: tuple[float, float, float, float], found: str
) -> None:
    message = refusal(draw(tmp_path / "label.dcm", OUTER, second))
    assert f"ContourSequence: found contours of region 1 of label.dcm, {found}, in slice 1 of 0 to 2" in message


def test_more_contours_on_a_slice_than_can_be_compared_are_refused(tmp_path: Path) -> None:
    boxes = [(i - 0.4, j - 0.4, i + 0.4, j + 0.4) for i in range(40) for j in range(30)]
    read_labels(draw(tmp_path / "label.dcm", *boxes[:500]), tmp_path / "s", VALUES)
    message = refusal(draw(tmp_path / "label.dcm", *boxes[:501]))
    assert "contours of region 1 of label.dcm, of which more than 500 cannot be compared, in slice 1" in message


def test_contours_by_exclusive_or_are_taken_by_it(tmp_path: Path) -> None:
    beside = (12.5, 3.5, 32.5, 23.5)
    path = draw(tmp_path / "label.dcm", OUTER, beside, kind="CLOSEDPLANAR_XOR")
    expected = filled(OUTER) ^ filled(beside)
    np.testing.assert_array_equal(read_labels(path, tmp_path / "s", VALUES).pixels, expected)
    assert "that hold the centre of no voxel" in refusal(draw(path, OUTER, OUTER, kind="CLOSEDPLANAR_XOR"))


def test_a_contour_without_points_is_passed_over(tmp_path: Path) -> None:
    path = draw(tmp_path / "label.dcm", OUTER, HOLE)
    dataset = dcmread(path)
    empty = Dataset()
    empty.ContourGeometricType, empty.ContourData = "CLOSED_PLANAR", []
    dataset.ROIContourSequence[0].ContourSequence.append(empty)
    dataset.save_as(path)
    np.testing.assert_array_equal(read_labels(path, tmp_path / "s", VALUES).pixels, filled(OUTER, HOLE))


def test_a_region_that_holds_the_centre_of_no_voxel_is_refused(tmp_path: Path) -> None:
    path = draw(tmp_path / "label.dcm", (3.1, 3.1, 3.9, 3.9))
    message = refusal(path)
    assert "contours of region 1 of label.dcm that hold the centre of no voxel; it would be missing" in message
    assert not read_labels(path, tmp_path / "s", {"left_kidney": 0, "tumour": 300}).pixels.any()


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["BINARY", "LABELMAP", "RTSTRUCT"]),
    order=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([1.0, -1.0])] * 3),
    turn=st.one_of(st.none(), st.lists(st.floats(0.1, 1), min_size=4, max_size=4)),
    seed=st.integers(0, 1000),
)
def test_labels_come_back_voxel_by_voxel_in_any_orientation(
    kind: str, order: list[int], signs: tuple[float, ...], turn: list[float] | None, seed: int
) -> None:
    affine = np.diag([*signs, 1.0])[[*order, 3]] @ SPACING
    if turn is not None:
        affine[:3, :3] = Rotation.from_quat(turn).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = -30, 20, 10
    with tempfile.TemporaryDirectory() as folder:
        path = made(Path(folder), kind, labels(seed), affine)
        image = read_image(Path(folder) / "s")
        read = read_labels(path, Path(folder) / "s", VALUES)
    # the reader counts slices along their normal
    k = slice(None, None, 1 if np.linalg.det(affine[:3, :3]) > 0 else -1)
    np.testing.assert_array_equal(read.pixels[:, :, k], labels(seed))
    np.testing.assert_array_equal(read.header.affine, image.header.affine)
    assert read.header.shape == image.header.shape


@pytest.fixture
def label(tmp_path: Path) -> Callable[[str], Path]:
    return lambda kind: made(tmp_path, kind, labels(), SPACING)


def refusal(path: Path, values: dict[str, int] = VALUES) -> str:
    with pytest.raises(DataError) as caught:
        read_labels(path, path.parent / "s", values)
    assert [problem.file for problem in caught.value.problems] == [str(path)]
    return str(caught.value)


def test_a_fractional_segmentation_is_refused(label: Callable[[str], Path]) -> None:
    assert "SegmentationType: found FRACTIONAL" in refusal(label("FRACTIONAL"))


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "RTSTRUCT"])
def test_a_name_that_is_no_label_is_refused_unless_it_is_background(label: Callable[[str], Path], kind: str) -> None:
    path = label(kind)
    message = refusal(path, {"left_kidney": 7})
    assert "structures: found 'TUMOUR'; each is one of [labels] or of `background_structures`" in message
    read = read_labels(path, path.parent / "s", {"left_kidney": 7, "tumour": 0})
    np.testing.assert_array_equal(read.pixels, np.where(labels() == 7, 7, 0))


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "RTSTRUCT"])
def test_two_names_in_one_label_that_only_punctuation_tells_apart_are_refused_unless_both_are_background(
    label: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setitem(NAMES, 7, "PTV+2mm")
    monkeypatch.setitem(NAMES, 300, "PTV-2mm")
    path = label(kind)
    message = refusal(path, {"ptv_2mm": 1})
    assert "structures: found 'PTV+2mm' and 'PTV-2mm' in label.dcm; case, spaces and punctuation do not" in message
    assert not read_labels(path, path.parent / "s", {"ptv_2mm": 0}).pixels.any()


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "RTSTRUCT"])
def test_one_name_may_stand_at_several_structures(
    label: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setitem(NAMES, 300, NAMES[7])
    path = label(kind)
    read = read_labels(path, path.parent / "s", {"left_kidney": 7})
    np.testing.assert_array_equal(read.pixels, np.where(labels(), 7, 0))


@pytest.mark.parametrize("kind", ["BINARY", "RTSTRUCT"])
def test_a_label_of_another_series_is_refused(tmp_path: Path, label: Callable[[str], Path], kind: str) -> None:
    path = label(kind)
    write_series(tmp_path / "s", np.zeros((7, 9, 5), np.uint16), SPACING)
    assert "made on another image" in refusal(path)


def test_a_segmentation_on_another_grid_is_refused(tmp_path: Path, label: Callable[[str], Path]) -> None:
    path = label("BINARY")
    dataset = dcmread(path)
    position = dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    position.ImagePositionPatient = [float(value) + 0.5 for value in position.ImagePositionPatient]
    dataset.save_as(path)
    assert "frame 2 of label.dcm, which is on no slice" in refusal(path)


def test_a_contour_between_two_slices_is_refused(label: Callable[[str], Path]) -> None:
    path = label("RTSTRUCT")
    dataset = dcmread(path)
    contour = dataset.ROIContourSequence[1].ContourSequence[0]
    data = np.array(contour.ContourData, float).reshape(-1, 3)
    data[:, 2] += 1
    contour.ContourData = data.ravel().round(6).tolist()
    dataset.save_as(path)
    assert "a contour of 'TUMOUR' in label.dcm at slice" in refusal(path)


def test_an_open_contour_is_refused(label: Callable[[str], Path]) -> None:
    path = label("RTSTRUCT")
    dataset = dcmread(path)
    dataset.ROIContourSequence[0].ContourSequence[0].ContourGeometricType = "OPEN_PLANAR"
    dataset.save_as(path)
    assert "a contour of 'Left Kidney' in label.dcm of kind OPEN_PLANAR" in refusal(path)


@pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR"])
def test_a_point_or_line_is_passed_over_where_its_region_is_background(label: Callable[[str], Path], kind: str) -> None:
    path = label("RTSTRUCT")
    dataset = dcmread(path)
    for contour in dataset.ROIContourSequence[1].ContourSequence:
        contour.ContourGeometricType, contour.ContourData = kind, contour.ContourData[:3]
    dataset.save_as(path)
    assert f"a contour of 'TUMOUR' in label.dcm of kind {kind}" in refusal(path)
    read = read_labels(path, path.parent / "s", {"left_kidney": 7, "tumour": 0})
    np.testing.assert_array_equal(read.pixels, np.where(labels() == 7, 7, 0))


def test_structures_that_overlap_are_refused(label: Callable[[str], Path]) -> None:
    path = label("RTSTRUCT")
    dataset = dcmread(path)
    dataset.ROIContourSequence[1].ContourSequence = dataset.ROIContourSequence[0].ContourSequence
    dataset.save_as(path)
    assert "of 'TUMOUR' that another structure has too" in refusal(path)
    read_labels(path, path.parent / "s", {"left_kidney": 7, "tumour": 7})  # of one value they may


def test_a_compressed_segmentation_is_read(tmp_path: Path) -> None:
    files = write_series(tmp_path / "s", np.zeros((7, 9, 5), np.uint16), SPACING)
    path = write_segmentation(tmp_path / "a.dcm", files, labels(), NAMES, SegmentationTypeValues.LABELMAP)
    dataset = dcmread(path)
    dataset.compress(RLELossless, encoding_plugin="pydicom")
    dataset.save_as(path)
    np.testing.assert_array_equal(read_labels(path, tmp_path / "s", VALUES).pixels, labels())


def test_an_image_is_no_label_and_a_label_needs_a_dicom_image(tmp_path: Path, label: Callable[[str], Path]) -> None:
    path = label("BINARY")
    with pytest.raises(DataError, match=r"slice000.dcm, which is neither; a DICOM label is a SEG or an RTSTRUCT"):
        read_labels(tmp_path / "s" / "slice000.dcm", tmp_path / "s", VALUES)
    with pytest.raises(DataError, match="a DICOM label of an image that is no DICOM"):
        read_labels(path, tmp_path / "image.nii.gz", VALUES)


def test_a_segmentation_of_a_mammogram_lies_on_its_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4095, (9, 7)).astype(np.uint16)
    more = {"PatientOrientation": ["L", "F"], "FrameOfReferenceUID": "1.2.3", "ImageType": ["ORIGINAL", "PRIMARY"]}
    image = write_picture(tmp_path / "m.dcm", pixels, more=more)
    path = write_segmentation(tmp_path / "a.dcm", [image], labels()[:, :, 2:3], NAMES)
    np.testing.assert_array_equal(read_labels(path, image, VALUES).pixels, labels()[:, :, 2].T)


@pytest.mark.parametrize("number", range(8))
def test_a_nifti_label_with_turned_axes_is_turned_to_its_series(tmp_path: Path, number: int) -> None:
    """As `dcm2niix` and annotation tools write it."""
    files = write_series(tmp_path / "s", np.zeros((7, 9, 5), np.uint16), SPACING)
    assert files
    codes = ["".join(letters) for letters in ("RAS", "LPS", "LAS", "SRA", "AIL", "PSR", "RSA", "IPL")][number]
    own = nib.Nifti1Image(labels().astype(np.int16), SPACING)
    turn = nib.orientations.ornt_transform(nib.io_orientation(SPACING), nib.orientations.axcodes2ornt(codes))
    nib.save(own.as_reoriented(turn), tmp_path / "a.nii.gz")
    read = read_labels(tmp_path / "a.nii.gz", tmp_path / "s")
    np.testing.assert_array_equal(
        read.pixels, labels()[:, :, :: 1 if read_image(tmp_path / "s").header.affine[2, 2] > 0 else -1]
    )
    np.testing.assert_allclose(read.header.affine, read_image(tmp_path / "s").header.affine, atol=1e-5)


def test_names_count_without_case_spaces_and_punctuation() -> None:
    fields = {"name": "a", "task": "segmentation", "background_structures": ["BODY", "Couch (outer)"]}
    description = Description(**fields, labels={"background": 0, "left kidney": [7, 8], "GTV-1": 3, "GTV 1": 4})
    # the last two cannot be told apart, so that neither means anything
    assert description.structure_values() == {"background": 0, "left_kidney": 7, "body": 0, "couch_outer": 0}
    assert structure_key("Scha\u0308del") == structure_key("SCH\u00c4DEL") == "sch\u00e4del"
