"""A label map becomes a SEG whose voxels lie where they lay, in the study of its source, and says what made it."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from highdicom.seg import segread
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from scipy.spatial.transform import Rotation

import dicoms
from perdure.data.dicom.codes import _CONCEPTS, CodedName, coded_name
from perdure.data.dicom.labels import read_dicom_labels
from perdure.data.dicom.series import open_series
from perdure.data.dicom.web import Pacs
from perdure.data.dicom.writing import Origin, segmentation_file, segmented_instances
from perdure.data.manifest import structure_key
from perdure.errors import DataError
from perdure.types import Structure

NAMES = ("background", "left_hippocampus", "tumour", "csf", "right_ventral_DC")
STRUCTURES = tuple(Structure(name=name, values=(10 * i,)) for i, name in enumerate(NAMES))
ORIGIN = Origin("brains-2", "0123456789abcdef" * 4, "site-a")
SHAPE = (5, 7, 6)
AFFINE = np.diag([1.5, 1.25, 2.5, 1.0])
DATES = ("ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime", "ContributingEquipmentSequence")


def classes(seed: int = 0, shape: Sequence[int] = SHAPE, of: Sequence[int] = (0, 0, 1, 2, 4)) -> np.ndarray:
    return np.random.default_rng(seed).choice(of, shape).astype(np.uint8)


def series(folder: Path, affine: np.ndarray = AFFINE, **more: object) -> Path:
    volume = np.random.default_rng(9).integers(0, 4096, SHAPE, np.uint16)
    dicoms.write_series(folder, volume, affine, more=more)
    return folder


def changed(place: Path, **elements: object) -> Path:
    """The series with elements that the helper sets itself; None takes one away."""
    for file in place.iterdir():
        dataset = dcmread(file)
        for keyword, value in elements.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(file)
    return place


def written(place: Path, found: np.ndarray, origin: Origin = ORIGIN) -> Dataset:
    return dcmread(io.BytesIO(segmentation_file(place, found, STRUCTURES, origin)))


def voxels(seg: Dataset, affine: np.ndarray) -> np.ndarray:
    """The label map again, by nothing but the places that each frame says of its own pixels."""
    back = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
    shared = seg.SharedFunctionalGroupsSequence[0]
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    down, across = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    result = np.zeros(SHAPE, np.uint8)
    numbers = {item.SegmentNumber: NAMES.index(item.SegmentLabel) for item in seg.SegmentSequence}
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        corner = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, columns = np.nonzero(pixels)
        places = corner + columns[:, None] * across * axes[0] + rows[:, None] * down * axes[1]
        index = places @ back[:3, :3].T + back[:3, 3]
        assert np.abs(index - index.round()).max(initial=0) < 1e-3
        at = tuple(index.round().astype(int).T)
        assert (result[at] == 0).all()
        result[at] = numbers[frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
    return result


@settings(max_examples=25, deadline=None)
@given(
    turn=st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1),
    axes=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([1.0, -1.0])] * 3),
    oblique=st.booleans(),
    spacing=st.lists(st.floats(0.3, 5), min_size=3, max_size=3),
    origin=st.lists(st.floats(-300, 300), min_size=3, max_size=3),
    files=st.permutations(range(SHAPE[2])),
    seed=st.integers(0, 99),
)
def test_voxels_lie_where_they_lay_in_any_orientation_and_order_of_files(
    turn: list[float],
    axes: list[int],
    signs: tuple[float, ...],
    oblique: bool,
    spacing: list[float],
    origin: list[float],
    files: list[int],
    seed: int,
) -> None:
    affine = np.diag([*signs, 1.0])[[*axes, 3]] @ np.diag([*spacing, 1.0])
    if oblique:
        affine[:3, :3] = Rotation.from_quat(turn).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = origin
    with tempfile.TemporaryDirectory() as folder:
        volume = np.zeros(SHAPE, np.uint16)
        dicoms.write_series(Path(folder), volume, affine, names=[f"{i}.dcm" for i in files])
        own = open_series(Path(folder))
        found = classes(seed)
        seg = written(Path(folder), found)
        np.testing.assert_array_equal(voxels(seg, own.header.affine), found)
        # and by the instances that each frame says it segments
        uids = [dcmread(one.instance.file).SOPInstanceUID for one in own.slices]
        again = segread(io.BytesIO(segmentation_file(Path(folder), found, STRUCTURES, ORIGIN)))
        named = [again.get_segment_description(number).segment_label for number in again.segment_numbers]
        maps = again.get_pixels_by_source_instance(uids, combine_segments=True)
        numbers = np.array([0, *(NAMES.index(name) for name in named)])
        np.testing.assert_array_equal(numbers[maps].transpose(2, 1, 0), found)


@pytest.mark.parametrize("kind", ["series", "multi-frame", "radiograph"])
def test_it_is_read_back_as_the_label_that_it_is(tmp_path: Path, kind: str) -> None:
    volume, shape = np.zeros(SHAPE, np.uint16), SHAPE
    if kind == "series":
        place = series(tmp_path / "s")
    elif kind == "multi-frame":
        place = dicoms.write_enhanced(tmp_path / "e.dcm", volume, AFFINE)
    else:
        place, shape = dicoms.write_picture(tmp_path / "m.dcm", volume[..., 0]), SHAPE[:2]
    values = {structure_key(one.name): one.values[0] for one in STRUCTURES}
    for found in (classes(shape=shape), np.zeros(shape, np.uint8)):
        (tmp_path / "seg.dcm").write_bytes(segmentation_file(place, found, STRUCTURES, ORIGIN))
        labels = read_dicom_labels(tmp_path / "seg.dcm", place, values)
        np.testing.assert_array_equal(labels.pixels, 10 * found)


def test_each_frame_has_the_very_place_that_its_source_has(tmp_path: Path) -> None:
    place = series(tmp_path / "s")
    seg = written(place, classes())
    sources = {one.SOPInstanceUID: one for one in map(dcmread, place.iterdir())}
    shared = seg.SharedFunctionalGroupsSequence[0]
    for frame in seg.PerFrameFunctionalGroupsSequence:
        referenced = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        source = sources[referenced]
        assert frame.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == source.ImageOrientationPatient
        assert shared.PixelMeasuresSequence[0].PixelSpacing == source.PixelSpacing
    assert segmented_instances_of(seg, tmp_path) == set(sources)


def segmented_instances_of(seg: Dataset, folder: Path) -> set[str]:
    seg.save_as(folder / "seg.dcm")
    return segmented_instances(folder / "seg.dcm")


def test_the_distance_of_slices_is_that_of_their_places_whatever_the_source_says(tmp_path: Path) -> None:
    for says, thickness in (({"SpacingBetweenSlices": "9", "SliceThickness": "2"}, 2), ({"SliceThickness": None}, 2.5)):
        seg = written(changed(series(tmp_path / f"{thickness}"), **says), classes())
        measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        assert (float(measures.SpacingBetweenSlices), float(measures.SliceThickness)) == (2.5, thickness)


def test_a_multi_frame_file_in_any_order_of_frames_is_segmented_in_place(tmp_path: Path) -> None:
    volume = np.zeros(SHAPE, np.uint16)
    path = dicoms.write_enhanced(tmp_path / "e.dcm", volume, AFFINE, order=[3, 1, 0, 5, 2, 4])
    own = open_series(path)
    np.testing.assert_array_equal(voxels(written(path, classes()), own.header.affine), classes())


def test_a_radiograph_is_segmented_pixel_by_pixel(tmp_path: Path) -> None:
    path = dicoms.write_picture(tmp_path / "m.dcm", np.zeros((9, 7), np.uint16))
    found = classes(shape=(9, 7))
    seg = written(path, found)
    back = np.zeros((9, 7), np.uint8)
    numbers = {item.SegmentNumber: NAMES.index(item.SegmentLabel) for item in seg.SegmentSequence}
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        back[pixels == 1] = numbers[frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
    np.testing.assert_array_equal(back, found)


def test_a_structure_that_no_voxel_has_is_left_out(tmp_path: Path) -> None:
    seg = written(series(tmp_path / "s"), classes(of=(0, 2, 4)))
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["tumour", "right_ventral_DC"]
    assert [item.SegmentNumber for item in seg.SegmentSequence] == [1, 2]


def test_where_nothing_was_found_each_structure_is_described_with_one_blank_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = series(tmp_path / "s")
    with caplog.at_level(logging.WARNING):
        seg = written(place, np.zeros(SHAPE, np.uint8))
    assert caplog.messages == []
    assert [item.SegmentLabel for item in seg.SegmentSequence] == list(NAMES[1:])
    assert seg.NumberOfFrames == len(NAMES) - 1
    assert not seg.pixel_array.any()
    assert segmented_instances_of(seg, tmp_path) == {dcmread(file).SOPInstanceUID for file in place.iterdir()}


def test_it_is_a_binary_seg_that_says_what_made_it(tmp_path: Path) -> None:
    seg = written(series(tmp_path / "s"), classes())
    assert (seg.Modality, seg.SegmentationType, seg.SeriesDescription) == (
        "SEG", "BINARY", "Perdure segmentation, release brains-2",
    )  # fmt: skip
    for item in seg.SegmentSequence:
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("Perdure brains-2", ORIGIN.release)
        assert item.SegmentAlgorithmType == "AUTOMATIC"


def test_the_same_release_on_the_same_images_gives_the_same_object_but_for_dates(tmp_path: Path) -> None:
    place = series(tmp_path / "s")
    first, second = written(place, classes()), written(place, classes())
    for seg in (first, second):
        for keyword in DATES:
            del seg[keyword]
    assert first == second
    first.save_as(tmp_path / "1")
    second.save_as(tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_another_release_domain_series_or_voxel_is_another_object(tmp_path: Path) -> None:
    place = series(tmp_path / "s")
    others = [
        written(place, classes(), Origin("brains-2", "f" * 64, "site-a")),
        written(place, classes(), Origin("brains-2", ORIGIN.release, "site-b")),
        written(series(tmp_path / "t"), classes()),
        written(place, classes(1)),
        written(place, classes()),
    ]
    assert len({seg.SOPInstanceUID for seg in others}) == 5
    assert len({seg.SeriesInstanceUID for seg in others}) == 4  # voxels alone make no other series
    for seg in others:
        assert seg.SOPInstanceUID.is_valid
        assert seg.SOPInstanceUID.startswith("2.25.")


ODD = {
    "PatientName": "PLANTED^Jörg",
    "PatientID": "PLANTED 7 ",
    "PatientBirthDate": "1901-02-03",
    "PatientSex": "unknown",
    "AccessionNumber": "PLANTED-ACCESSION-NUMBER",
    "StudyID": "PLANTED",
    "StudyDate": "20200102",
    "StudyTime": "99",
    "ReferringPhysicianName": "PLANTED=a=b=c=d",
}


@pytest.mark.filterwarnings("ignore")  # pydicom's, of what this test writes on purpose
def test_patient_and_study_are_those_of_the_source_however_odd_and_nothing_speaks_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    place = series(tmp_path / "s", SpecificCharacterSet="ISO_IR 100", **ODD)
    capfd.readouterr()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        content = segmentation_file(place, classes(), STRUCTURES, ORIGIN)
    assert "PLANTED" not in caplog.text + "".join(capfd.readouterr())
    seg, source = dcmread(io.BytesIO(content)), dcmread(next(place.iterdir()))
    for keyword in (*ODD, "StudyInstanceUID", "FrameOfReferenceUID", "SpecificCharacterSet"):
        assert seg[keyword].value == source[keyword].value, keyword


def test_a_source_without_patient_and_study_gives_a_seg_where_they_are_empty(tmp_path: Path) -> None:
    place = changed(series(tmp_path / "s"), **dict.fromkeys(dicoms.PATIENT))
    seg = written(place, classes())
    for keyword in ODD:
        assert not seg[keyword].value


def test_a_source_that_lies_in_no_frame_of_reference_is_refused(tmp_path: Path) -> None:
    for uid in (None, ""):
        with pytest.raises(DataError, match=r"FrameOfReferenceUID: .*--format nifti"):
            written(changed(series(tmp_path / f"s{uid}"), FrameOfReferenceUID=uid), classes())


def test_what_highdicom_cannot_take_is_refused_without_its_words(tmp_path: Path) -> None:
    place = changed(series(tmp_path / "s", PatientName="PLANTED"), SOPClassUID="1.2.3.4")
    with pytest.raises(DataError, match="cannot be made from") as caught:
        written(place, classes())
    assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize(
    ("charset", "person"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 6", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        (["ISO 2022 IR 100", "ISO 2022 IR 144"], "Люкceмбypг"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_a_seg_has_the_character_set_of_its_source_and_all_texts_in_it(
    tmp_path: Path, charset: str | list[str], person: str
) -> None:
    texts = {"PatientName": person, "StudyDescription": person.split("=")[-1].replace("^", " ")}
    place = series(tmp_path / "s", SpecificCharacterSet=charset, **texts)
    (tmp_path / "seg.dcm").write_bytes(segmentation_file(place, classes(), STRUCTURES, ORIGIN))
    seg = dcmread(tmp_path / "seg.dcm")
    assert seg.SpecificCharacterSet == charset
    assert {name: str(seg[name].value) for name in texts} == texts


FOREIGN = ("background", "Größe", "Grüße", "schädel", "東", "left_Hüfte", "x" * 70 + "1", "x" * 70 + "2")


@pytest.mark.parametrize("charset", ["", "ISO_IR 100", "ISO_IR 192", "GB18030"])
def test_names_in_any_script_are_kept_apart_and_read_back_whatever_the_source_s_characters(
    tmp_path: Path, charset: str
) -> None:
    place = series(tmp_path / "s", **({"SpecificCharacterSet": charset} if charset else {}), PatientName="Doe^Jane")
    structures = tuple(Structure(name=name, values=(i,)) for i, name in enumerate(FOREIGN))
    found = classes(of=range(len(FOREIGN)))
    (tmp_path / "seg.dcm").write_bytes(segmentation_file(place, found, structures, ORIGIN))
    seg = dcmread(tmp_path / "seg.dcm")
    assert [item.SegmentLabel for item in seg.SegmentSequence][:5] == list(FOREIGN[1:6])
    assert all(len(item.SegmentLabel) <= 64 for item in seg.SegmentSequence)
    types = [item.SegmentedPropertyTypeCodeSequence[0] for item in seg.SegmentSequence]
    assert [one.CodeMeaning for one in types] == [item.SegmentLabel for item in seg.SegmentSequence]
    assert len({one.CodeMeaning for one in types}) == len(types)
    assert seg.get("SpecificCharacterSet", "") == charset
    values = {structure_key(item.SegmentLabel): item.SegmentNumber for item in seg.SegmentSequence}
    assert set(map(structure_key, FOREIGN[1:6])) < set(values)
    np.testing.assert_array_equal(read_dicom_labels(tmp_path / "seg.dcm", place, values).pixels, found)


@pytest.mark.parametrize("name", ["??", " ", "_"])
def test_a_structure_without_a_letter_or_digit_is_refused(tmp_path: Path, name: str) -> None:
    structures = (STRUCTURES[0], Structure(name=name, values=(1,)))
    with pytest.raises(DataError, match=r"structures: found a structure called .* a letter or digit"):
        segmentation_file(series(tmp_path / "s"), classes(of=(0, 1)), structures, ORIGIN)


@pytest.mark.filterwarnings("ignore:The value length")  # pydicom counts bytes where DICOM counts letters
@pytest.mark.parametrize("name", ["ä" * 70, "back\\slash", "x" * 200, "with space"])
def test_any_name_of_a_structure_or_release_can_be_written(tmp_path: Path, name: str) -> None:
    structures = (STRUCTURES[0], Structure(name=name, values=(1,)))
    content = segmentation_file(series(tmp_path / "s"), classes(of=(0, 1)), structures, Origin(name, ORIGIN.release))
    (item,) = dcmread(io.BytesIO(content)).SegmentSequence
    assert 0 < len(item.SegmentLabel) <= 64


# ---- codes


@pytest.mark.parametrize("concept", sorted(set(_CONCEPTS.values())))
def test_each_concept_of_the_table_is_one_of_dicom_s(concept: str) -> None:
    scheme, _, name = concept.rpartition(".")
    assert getattr(getattr(codes, scheme or "SCT"), name).value


@pytest.mark.parametrize(
    ("name", "coded"),
    [
        ("left_hippocampus", CodedName("AnatomicalStructure", "Hippocampus", "Left")),
        ("Right-Cerebral-Cortex", CodedName("AnatomicalStructure", "CerebralCortex", "Right")),
        ("ventricle_3", CodedName("AnatomicalStructure", "ThirdVentricle", None)),
        ("csf", CodedName("BodySubstance", "CerebrospinalFluid", None)),
        ("white matter", CodedName("Tissue", "WhiteMatter", None)),
        ("right_ventral_DC", CodedName("AnatomicalStructure", "DCM.VentralDiencephalon", "Right")),
        ("left", CodedName("SpatialAndRelationalConcept", None, None)),
        ("left_tumour", CodedName("SpatialAndRelationalConcept", None, None)),
    ],
)
def test_a_name_means_what_it_says_and_an_unknown_one_nothing(name: str, coded: CodedName) -> None:
    assert coded_name(name) == coded


def test_a_segment_is_coded_with_its_side_and_an_unknown_one_by_its_own_name(tmp_path: Path) -> None:
    seg = written(series(tmp_path / "s"), classes())
    hippocampus, tumour, diencephalon = (item.SegmentedPropertyTypeCodeSequence[0] for item in seg.SegmentSequence)
    assert (hippocampus.CodeValue, hippocampus.CodingSchemeDesignator) == ("5366008", "SCT")
    assert hippocampus.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"  # left
    assert (tumour.CodeValue, tumour.CodingSchemeDesignator) == ("tumour", "99PERDURE")
    assert (diencephalon.CodeValue, diencephalon.CodingSchemeDesignator) == ("110700", "DCM")
    assert diencephalon.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "24028007"  # right


def test_a_radiograph_in_no_frame_of_reference_has_a_seg_all_the_same(tmp_path: Path) -> None:
    path = dicoms.write_picture(tmp_path / "m" / "m.dcm", np.zeros((9, 7), np.uint16))
    changed(path.parent, FrameOfReferenceUID=None)
    values = {structure_key(one.name): one.values[0] for one in STRUCTURES}
    found = classes(shape=(9, 7))
    (tmp_path / "seg.dcm").write_bytes(segmentation_file(path, found, STRUCTURES, ORIGIN))
    np.testing.assert_array_equal(read_dicom_labels(tmp_path / "seg.dcm", path, values).pixels, 10 * found)


@pytest.mark.filterwarnings("ignore")  # pydicom's, of what this test writes on purpose
def test_a_real_pacs_takes_a_seg_of_an_odd_patient_and_gives_it_back_equal(tmp_path: Path, orthanc: str) -> None:
    place = series(tmp_path / "s", SpecificCharacterSet="ISO_IR 100", **ODD)
    content = segmentation_file(place, classes(), STRUCTURES, ORIGIN)
    seg = dcmread(io.BytesIO(content))
    with Pacs(orthanc) as archive:
        assert archive.store(content) == "stored"
        came = dcmread(io.BytesIO(archive.instance(seg.StudyInstanceUID, seg.SeriesInstanceUID, seg.SOPInstanceUID)))
    assert came == seg
    assert came.PixelData == seg.PixelData
