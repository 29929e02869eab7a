"""A DICOM series becomes the volume that it is, in any orientation; what is no volume is refused."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sys
import tempfile
from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from scipy.spatial.transform import Rotation

from dicoms import PATIENT, write_contours, write_enhanced, write_picture, write_segmentation, write_series
from perdure.data.dicom.opening import looks_like_dicom
from perdure.data.images import is_volume_file, read_header, read_image
from perdure.data.listing import images_below
from perdure.errors import DataError

TURNS = [
    np.diag([*signs, 1.0])[[*order, 3]]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]
SPACING = np.diag([0.75, 1.5, 2.25, 1.0])


def numbers(shape: tuple[int, ...] = (4, 5, 6), low: int = 0, high: int = 4095, seed: int = 0) -> np.ndarray:
    kind = np.int16 if low < 0 else np.uint16
    return np.random.default_rng(seed).integers(low, high, shape, endpoint=True).astype(kind)


def check_same_in_space(folder: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    """Each voxel lies where it lay, whichever way the reader counts slices."""
    image = read_image(folder)
    read, truth = (
        nib.Nifti1Image(np.asarray(v, np.int32), a) for v, a in ((image.pixels, image.header.affine), (volume, affine))
    )
    own, wanted = (nib.as_closest_canonical(one) for one in (read, truth))
    np.testing.assert_array_equal(own.dataobj, wanted.dataobj)
    np.testing.assert_allclose(own.affine, wanted.affine, rtol=0, atol=1e-9)
    np.testing.assert_allclose(image.header.affine[:, :2], affine[:, :2], rtol=0, atol=1e-9)
    assert read_header(folder).shape == image.pixels.shape == volume.shape


@pytest.mark.parametrize("number", range(48))
def test_a_series_in_each_of_48_orientations_keeps_voxels_and_affine(tmp_path: Path, number: int) -> None:
    affine = TURNS[number] @ SPACING
    affine[:3, 3] = 11.5, -7.25, 3.0
    write_series(tmp_path / "s", numbers(), affine)
    check_same_in_space(tmp_path / "s", numbers(), affine)


@settings(max_examples=25, deadline=None)
@given(
    turn=st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1),
    number=st.integers(0, 47),
    spacing=st.lists(st.floats(0.2, 5), min_size=3, max_size=3),
    origin=st.lists(st.floats(-300, 300), min_size=3, max_size=3),
    shuffle=st.permutations(range(6)),
    enhanced=st.booleans(),
)
def test_an_oblique_series_in_any_order_of_files_keeps_voxels_and_affine(
    turn: list[float], number: int, spacing: list[float], origin: list[float], shuffle: list[int], enhanced: bool
) -> None:
    affine = TURNS[number] @ np.diag([*spacing, 1])
    affine[:3, :3] = Rotation.from_quat(turn).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = origin
    with tempfile.TemporaryDirectory() as folder:
        if enhanced:
            path = write_enhanced(Path(folder) / "s.dcm", numbers(), affine, order=shuffle)
        else:
            path = Path(folder) / "s"
            write_series(path, numbers(), affine, names=[f"{i}" for i in shuffle])
        image = read_image(path)
        k = slice(None, None, 1 if np.linalg.det(affine[:3, :3]) > 0 else -1)
        np.testing.assert_array_equal(image.pixels[:, :, k], numbers())
        np.testing.assert_allclose(np.linalg.norm(image.header.affine[:3, :3], axis=0), spacing, rtol=1e-6)
        corner = image.header.affine @ [0, 0, 0 if k.step == 1 else 5, 1]
        np.testing.assert_allclose(corner[:3], origin, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "bits", "maximum"),
    [
        (0, 4095, 12, 4095),
        (0, 16383, 14, 16383),
        (0, 65535, 16, 65535),
        (-2048, 2047, 12, None),
        (-32768, 32767, 16, None),
    ],
)
def test_signed_and_unsigned_numbers_of_any_depth_are_kept(
    tmp_path: Path, low: int, high: int, bits: int, maximum: int | None
) -> None:
    volume = numbers(low=low, high=high)
    volume[0, 0, 0], volume[1, 1, 1] = low, high
    write_series(tmp_path / "s", volume, np.eye(4), bits=bits)
    image = read_image(tmp_path / "s")
    np.testing.assert_array_equal(image.pixels, volume)
    assert image.pixels.dtype == volume.dtype
    assert image.maximum == maximum


def test_labels_and_reports_in_the_folder_of_a_series_are_passed_over(tmp_path: Path) -> None:
    files = write_series(tmp_path / "s", numbers(), np.eye(4))
    expected = read_image(tmp_path / "s").pixels
    write_segmentation(tmp_path / "s" / "seg", files, numbers() > 0, {1: "core"})
    write_contours(tmp_path / "s" / "contours.dcm", files, numbers() > 0, np.eye(4), {1: "core"})
    write_picture(tmp_path / "s" / "report.dcm", numbers()[:, :, 0], more={"Modality": "SR"})
    np.testing.assert_array_equal(read_image(tmp_path / "s").pixels, expected)


def test_a_file_of_the_series_without_an_image_is_no_label_beside_it(tmp_path: Path) -> None:
    files = write_series(tmp_path / "s", numbers(), np.eye(4))
    lost = dcmread(files[-1])
    del lost.Rows
    lost.SOPClassUID = lost.file_meta.MediaStorageSOPClassUID = "1.2.3.4"
    lost.save_as(files[-1])
    with pytest.raises(DataError, match=f"{files[-1].name}"):
        read_image(tmp_path / "s")


def test_negative_numbers_whose_spare_bits_are_zero_are_negative(tmp_path: Path) -> None:
    volume = numbers(low=-2048, high=2047)
    write_series(tmp_path / "s", (volume & 0x0FFF).astype(np.int16), np.eye(4), bits=12)
    np.testing.assert_array_equal(read_image(tmp_path / "s").pixels, volume)


def test_hounsfield_units_are_whole_numbers_and_each_slice_has_its_own_rescaling(tmp_path: Path) -> None:
    more = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    files = write_series(tmp_path / "s", numbers(), np.eye(4), modality="CT", more=more)
    image = read_image(tmp_path / "s")
    np.testing.assert_array_equal(image.pixels, numbers().astype(int) - 1024)
    assert image.pixels.dtype == np.int32
    assert image.maximum is None
    dataset = dcmread(files[2])
    dataset.RescaleSlope = "0.5"
    dataset.save_as(files[2])
    wanted = numbers() - 1024.0
    wanted[:, :, 2] = numbers()[:, :, 2] * 0.5 - 1024
    np.testing.assert_array_equal(read_image(tmp_path / "s").pixels, wanted)


def test_a_slice_without_the_rescaling_of_the_others_is_refused(tmp_path: Path) -> None:
    more = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    files = write_series(tmp_path / "s", numbers(), np.eye(4), modality="CT", more=more)
    change(files[2], RescaleIntercept=None)
    assert "RescaleIntercept: found none in slice002.dcm (1 of 6 slices are without)" in refusal(tmp_path / "s")
    change(files[2], RescaleIntercept="-1024", RescaleSlope="")
    assert "RescaleSlope: found none in slice002.dcm" in refusal(tmp_path / "s")


CT = {"RescaleSlope": "2", "RescaleIntercept": "-1000"}


def pad(file: Path, value: int, limit: int | None = None, vr: str = "SS") -> None:
    dataset = dcmread(file)
    dataset.add_new("PixelPaddingValue", vr, value)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", vr, limit)
    dataset.save_as(file)


@pytest.mark.parametrize(("vr", "is_implicit"), [("SS", False), ("US", False), ("US", True)])
def test_padding_of_a_ct_is_as_dark_as_the_darkest_pixel_of_the_series(
    tmp_path: Path, vr: str, is_implicit: bool
) -> None:
    """Whatever VR the element has; slices with padding alone and without any agree with the others."""
    volume = numbers(low=-200, high=2047)
    padding = np.zeros(volume.shape, bool)
    padding[0], padding[:, 1], padding[:, :, 2], padding[:, :, 4] = True, True, True, False
    volume[2, 3, 4] = -201
    for file in write_series(tmp_path / "s", np.where(padding, -2000, volume), np.eye(4), modality="CT", more=CT):
        pad(file, -2000 if vr == "SS" else 63536, vr=vr)
        if is_implicit:
            strip(file, implicit=True)
    np.testing.assert_array_equal(read_image(tmp_path / "s").pixels, np.where(padding, -1402, 2 * volume - 1000))


def test_padding_of_spare_bits_that_are_zero_is_padding(tmp_path: Path) -> None:
    volume = numbers(high=2047).astype(np.int16)
    volume[0, 0], volume[1, 1, 1] = -2000, 0
    more = {"PixelPaddingValue": -2000}
    write_series(tmp_path / "s", (volume & 0x0FFF).astype(np.int16), np.eye(4), bits=12, more=more)
    assert read_image(tmp_path / "s").pixels.min() == 0
    for file in (tmp_path / "s").iterdir():
        pad(file, 2096)
    assert read_image(tmp_path / "s").pixels.min() == 0


@pytest.mark.parametrize("ends", [(10, 30), (30, 10)])
def test_padding_is_a_range_in_either_order(tmp_path: Path, ends: tuple[int, int]) -> None:
    pixels = np.arange(5, 55, dtype=np.uint16).reshape(5, 10)
    more = {"PixelPaddingValue": ends[0], "PixelPaddingRangeLimit": ends[1]}
    image = read_image(write_picture(tmp_path / "a.dcm", pixels, more=more))
    np.testing.assert_array_equal(image.pixels[0], np.where((pixels >= 10) & (pixels <= 30), 5, pixels))
    assert image.maximum == 4095


def test_padding_of_monochrome1_is_as_dark_as_what_is_darkest_when_it_is_turned_round(tmp_path: Path) -> None:
    pixels = np.array([[7, 7, 100], [4000, 3000, 2000]], np.uint16)
    more = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 7}
    image = read_image(write_picture(tmp_path / "a.dcm", pixels, more=more))
    np.testing.assert_array_equal(image.pixels[0], [[95, 95, 3995], [95, 1095, 2095]])
    more = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 3000}
    image = read_image(write_picture(tmp_path / "b.dcm", pixels, more=more))
    np.testing.assert_array_equal(image.pixels[0], [[4088, 4088, 3995], [2095, 2095, 2095]])


def test_padding_of_0_stays_0_where_no_pixel_is_below_it(tmp_path: Path) -> None:
    """Scalings leave 0 out as what is no tissue."""
    volume = numbers(low=20)
    volume[0] = 0
    write_series(tmp_path / "s", volume, np.eye(4), bits=12, more={"PixelPaddingValue": 0})
    np.testing.assert_array_equal(read_image(tmp_path / "s").pixels, volume)


def test_a_0_between_others_was_measured_though_a_scanner_calls_it_padding(tmp_path: Path) -> None:
    """Phases and differences: 0 is no dark there."""
    volume = numbers(low=-2000, high=2000)
    volume[0], volume[1, 1, 1] = 0, -2001
    for file in write_series(tmp_path / "s", volume, np.eye(4)):
        pad(file, 0)
    np.testing.assert_array_equal(read_image(tmp_path / "s").pixels, volume)
    for file in write_series(tmp_path / "ct", volume, np.eye(4), modality="CT", more=CT):
        pad(file, 0)
    assert (read_image(tmp_path / "ct").pixels[0] == 2 * -2001 - 1000).all()


@pytest.mark.parametrize(("vr", "value"), [("OW", b"\x07\x00\x00\x00"), ("US", [7, 7]), ("DS", "7.0")])
def test_padding_is_read_whatever_its_vr(tmp_path: Path, vr: str, value: object) -> None:
    pixels = np.array([[7, 7, 100], [4000, 3000, 2000]], np.uint16)
    path = write_picture(tmp_path / "a.dcm", pixels)
    pad(path, value, vr=vr)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_image(path).pixels[0], [[100, 100, 100], [4000, 3000, 2000]])


def test_a_link_to_nothing_in_a_folder_of_a_series_is_named(tmp_path: Path) -> None:
    write_series(tmp_path / "s", numbers(), np.eye(4))
    (tmp_path / "s" / "zz.dcm").symlink_to("nowhere.dcm")
    assert "found no file, or a link to none, zz.dcm" in refusal(tmp_path / "s")


def test_padding_in_a_multi_frame_file_is_darkened_too(tmp_path: Path) -> None:
    volume = numbers(low=-200, high=2000)
    volume[0] = -2000
    path = write_enhanced(tmp_path / "a.dcm", volume, SPACING, order=[3, 0, 5, 1, 2, 4])
    pad(path, -2000)
    volume[0] = volume[1:].min()
    np.testing.assert_array_equal(read_image(path).pixels, volume)


@pytest.mark.parametrize(("value", "limit"), [(-1, None), (5000, None), (-2000, 2000)])
def test_padding_that_no_pixel_can_have_changes_nothing(tmp_path: Path, value: int, limit: int | None) -> None:
    pixels = numbers((5, 7))
    path = write_picture(tmp_path / "a.dcm", pixels)
    pad(path, value, limit)
    np.testing.assert_array_equal(read_image(path).pixels[0], pixels)


def test_an_image_that_is_padding_alone_is_refused(tmp_path: Path) -> None:
    more = {"PixelPaddingValue": 3}
    path = write_picture(tmp_path / "a.dcm", np.full((5, 7), 3, np.uint16), more=more)
    with pytest.raises(DataError, match="PixelPaddingValue: found nothing but padding"):
        read_image(path)
    write_series(tmp_path / "s", np.full((4, 5, 6), 3, np.uint16), np.eye(4), more=more)
    with pytest.raises(DataError, match="PixelPaddingValue: found nothing but padding"):
        read_image(tmp_path / "s")


def change(file: Path, **elements: object) -> None:
    with config.disable_value_validation():
        dataset = dcmread(file)
        for name, value in elements.items():
            if value is None:
                del dataset[name]
            else:
                setattr(dataset, name, value)
        dataset.save_as(file)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_image(path)
    with pytest.raises(DataError, match=".") as of_header:
        read_header(path)
    assert str(of_header.value) == str(caught.value)
    assert [problem.file for problem in caught.value.problems] == [str(path)]
    return str(caught.value)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "s", numbers(), SPACING)


def test_a_missing_slice_is_refused_with_its_place(tmp_path: Path, files: list[Path]) -> None:
    files[3].unlink()
    message = refusal(tmp_path / "s")
    assert "2.25 to 4.5 mm apart, most between slice002.dcm and slice004.dcm" in message
    assert "is one missing" in message


def test_two_slices_at_one_place_are_refused(tmp_path: Path, files: list[Path]) -> None:
    shutil.copy(files[3], tmp_path / "s" / "slice003b.dcm")
    message = refusal(tmp_path / "s")
    assert "two slices at one place (slice003.dcm and slice003b.dcm), and 1 such pairs" in message
    assert "a SeriesInstanceUID and a folder of its own" in message


def test_a_localizer_among_the_slices_is_refused(tmp_path: Path, files: list[Path]) -> None:
    change(files[0], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    assert "different orientations (slice000.dcm and slice001.dcm)" in refusal(tmp_path / "s")


def test_slices_of_two_shapes_or_pixel_sizes_are_refused(tmp_path: Path, files: list[Path]) -> None:
    change(files[2], PixelSpacing=[1.5, 0.8])
    assert "PixelSpacing: found pixels of (1.5, 0.75) mm" in refusal(tmp_path / "s")
    change(files[2], PixelSpacing=[1.5, 0.75], Rows=4)
    assert "slices of 5 x 4 and 4 x 4 pixels (slice002.dcm)" in refusal(tmp_path / "s")


def test_several_series_in_one_folder_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "s", numbers(), SPACING)
    write_series(tmp_path / "s", numbers(), SPACING, names=[f"other{i}" for i in range(6)])
    assert "SeriesInstanceUID: found 2 series (of 6, 6 files); one series a folder" in refusal(tmp_path / "s")


@pytest.mark.parametrize("name", ["ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"])
def test_a_slice_that_does_not_say_where_it_lies_is_refused(tmp_path: Path, files: list[Path], name: str) -> None:
    change(files[1], **{name: None})
    assert f"{name}: found nothing in slice001.dcm" in refusal(tmp_path / "s")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ImagePositionPatient", ["nan", "0", "0"]),
        ("ImagePositionPatient", ["1e300", "0", "0"]),
        ("PixelSpacing", ["0", "1"]),
        ("PixelSpacing", ["1e5", "1"]),
        ("RescaleSlope", "1e300"),
        ("ImageOrientationPatient", ["1", "0", "0", "1", "0", "0"]),
        ("ImageOrientationPatient", ["2", "0", "0", "0", "1", "0"]),
        ("RescaleSlope", "0"),
        ("HighBit", 14),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(tmp_path: Path, files: list[Path], name: str, value: object) -> None:
    change(files[1], **{name: value})
    message = refusal(tmp_path / "s")
    assert f"{name}: found" in message
    assert "slice001.dcm" in message


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    affine = SPACING.copy()
    affine[1, 2] = 0.5
    write_series(tmp_path / "s", numbers(), affine)
    assert "shifted sideways against each other (by 12.5° on the whole)" in refusal(tmp_path / "s")


def test_one_slice_is_no_volume(tmp_path: Path, files: list[Path]) -> None:
    assert "one slice of a volume; name the folder of its series" in refusal(files[0])
    for file in files[1:]:
        file.unlink()
    assert "at least two are needed" in refusal(tmp_path / "s")


def test_numbers_beyond_the_bits_that_are_stored_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "s", numbers(high=65535), np.eye(4), bits=12)
    with pytest.raises(DataError, match=r"PixelData: found the number \d+ in slice000.dcm; 12 bits are stored"):
        read_image(tmp_path / "s")


@pytest.mark.parametrize("bits", [8, 12, 14, 16])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_mammogram_is_a_picture_with_the_maximum_of_its_bits(tmp_path: Path, bits: int, inverted: bool) -> None:
    pixels = numbers((5, 7), high=2**bits - 1).astype(np.uint8 if bits == 8 else np.uint16)
    more = {"PhotometricInterpretation": "MONOCHROME1"} if inverted else {}
    path = write_picture(tmp_path / "a.dcm", pixels, bits=bits, more=more)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, (2**bits - 1 - pixels if inverted else pixels)[None])
    assert image.maximum == 2**bits - 1
    assert image.header == read_header(path)
    assert not is_volume_file(path)


def test_no_error_names_the_patient(tmp_path: Path, files: list[Path]) -> None:
    content = files[1].read_bytes()
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(60):
        damaged = bytearray(content)
        for at in rng.integers(132, len(content), 8):
            damaged[at] = rng.integers(256)
        files[1].write_bytes(damaged[: rng.integers(200, len(content) + 1)])
        with contextlib.suppress(DataError):
            read_image(tmp_path / "s")
            continue
        errors.append(refusal(tmp_path / "s"))
    assert len(errors) > 30
    assert not [error for error in errors for secret in PATIENT.values() if secret.split("^")[0] in error]


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, ExplicitVRBigEndian])
@pytest.mark.parametrize("low", [0, -2048])
def test_compressed_and_turned_bytes_are_decoded(tmp_path: Path, syntax: UID, low: int) -> None:
    volume = numbers((40, 36, 2), low=low, high=low + 4095)
    for file in write_series(tmp_path / "s", volume, np.eye(4), bits=12):
        compress(file, syntax)
    image = read_image(tmp_path / "s")
    stored = nib.as_closest_canonical(nib.Nifti1Image(image.pixels, image.header.affine)).dataobj
    np.testing.assert_array_equal(stored, volume)


def compress(file: Path, syntax: UID) -> None:
    dataset = dcmread(file)
    pixels = dataset.pixel_array
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = pixels.byteswap().tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        dcmwrite(file, dataset, implicit_vr=False, little_endian=False, force_encoding=True)
        return
    if syntax == RLELossless:
        dataset.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
        dataset.save_as(file)
        return
    unsigned = pixels.view(np.uint16) & (2**dataset.BitsStored - 1)
    frame = {
        # JPEG-LS knows no sign; JPEG 2000 does
        JPEGLSLossless: lambda: imagecodecs.jpegls_encode(unsigned),
        JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(
            pixels, codecformat="j2k", level=0, reversible=True, bitspersample=int(dataset.BitsStored)
        ),
        HTJ2KLossless: lambda: imagecodecs.htj2k_encode(unsigned),
        JPEGLosslessSV1: lambda: imagecodecs.ljpeg_encode(unsigned, bitspersample=int(dataset.BitsStored)),
    }[syntax]()
    put_frame(dataset, frame, syntax)
    dataset.save_as(file)


def put_frame(dataset: Dataset, frame: bytes, syntax: UID) -> None:
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax


@pytest.mark.parametrize("bits", [8, 12, 14, 16])
def test_lossless_jpeg_as_mammographs_write_it_is_decoded(tmp_path: Path, bits: int) -> None:
    pixels = numbers((32, 40), high=2**bits - 1)
    path = write_picture(tmp_path / "a.dcm", pixels, bits=bits)
    compress(path, JPEGLosslessSV1)
    np.testing.assert_array_equal(read_image(path).pixels[0], pixels)


@pytest.mark.parametrize(("bits", "syntax"), [(8, JPEGBaseline8Bit), (12, JPEGExtended12Bit)])
def test_jpeg_is_decoded_to_what_was_coded(tmp_path: Path, bits: int, syntax: UID) -> None:
    shade = np.add.outer(np.arange(32), np.arange(40)) * (2**bits // 80)
    pixels = shade.astype(np.uint8 if bits == 8 else np.uint16)
    path = write_picture(tmp_path / "a.dcm", pixels, bits=bits)
    dataset = dcmread(path)
    put_frame(dataset, imagecodecs.jpeg8_encode(pixels, level=99, bitspersample=bits), syntax)
    dataset.save_as(path)
    assert np.abs(read_image(path).pixels[0].astype(int) - pixels).max() <= 2 ** (bits - 7)


@pytest.mark.parametrize(("photometric", "colorspace"), [("YBR_FULL_422", "YCBCR"), ("RGB", "RGB")])
def test_colours_of_a_jpeg_are_those_that_were_coded(tmp_path: Path, photometric: str, colorspace: str) -> None:
    path = write_picture(tmp_path / "a.dcm", numbers((16, 24), high=255).astype(np.uint8), bits=8)
    colours = np.full((16, 24, 3), (200, 100, 30), np.uint8)
    dataset = dcmread(path)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, photometric, 0
    frame = imagecodecs.jpeg8_encode(colours, level=98, colorspace="RGB", outcolorspace=colorspace)
    put_frame(dataset, frame, JPEGBaseline8Bit)
    dataset.save_as(path)
    assert np.abs(read_image(path).pixels.transpose(1, 2, 0).astype(int) - colours).max() <= 4


def test_a_frame_of_another_size_than_the_file_says_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    pixels = numbers((32, 40), high=4095)
    for syntax in (JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless):
        path = write_picture(tmp_path / "a.dcm", pixels)
        compress(path, syntax)
        change(path, Rows=31)
        with pytest.raises(DataError, match="PixelData: found pixels of a.dcm that cannot be decoded .JPEG"):
            read_image(path)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG2000Lossless, RLELossless])
def test_damaged_frames_are_refused_or_read_and_never_end_the_process(tmp_path: Path, syntax: UID) -> None:
    path = write_picture(tmp_path / "a.dcm", numbers((32, 40), high=4095))
    compress(path, syntax)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    start = content.rindex(b"\xe0\x7f\x10\x00")
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for at in rng.integers(start, min(len(content), start + 200), rng.integers(1, 6)):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(start, len(content) + 1)] if rng.random() < 0.2 else damaged)
        with contextlib.suppress(DataError):
            read_image(path)
            continue
        refused += 1
    assert refused > 20


def test_a_coding_that_is_not_read_is_refused_by_name(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.dcm", numbers((32, 40), high=4095))
    dataset = dcmread(path)
    put_frame(dataset, b"1234", MPEG2MPML)
    dataset.save_as(path)
    with pytest.raises(DataError, match="TransferSyntaxUID: found pixels of a.dcm in MPEG2 Main Profile"):
        read_image(path)


def test_without_pydicom_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_picture(tmp_path / "a.dcm", numbers((5, 7)))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"no pydicom to read it; pip install 'perdure\[dicom\]'"):
        read_image(path)


def test_colour_is_a_picture_of_three_channels(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.dcm", numbers((5, 7), high=255).astype(np.uint8), bits=8)
    colours = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    change(path, PhotometricInterpretation="RGB", SamplesPerPixel=3, PlanarConfiguration=0, PixelData=colours.tobytes())
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, colours.transpose(2, 0, 1))
    assert (image.header.channels, image.maximum) == (3, 255)


def strip(file: Path, *, implicit: bool) -> None:
    """Leaves the dataset alone, as old archives write it."""
    dataset = dcmread(file)
    dcmwrite(file, Dataset(dataset), implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert file.read_bytes()[:2] == b"\x08\0"


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_a_preamble_are_read(tmp_path: Path, files: list[Path], implicit: bool) -> None:
    whole = read_image(tmp_path / "s")
    for number, file in enumerate(files):
        strip(file.rename(tmp_path / "s" / f"IM{number}"), implicit=implicit)
    image = read_image(tmp_path / "s")
    np.testing.assert_array_equal(image.pixels, whole.pixels)
    np.testing.assert_array_equal(image.header.affine, whole.header.affine)
    assert images_below(tmp_path) == [tmp_path / "s"]


def test_a_file_without_a_preamble_that_is_cut_off_or_compressed_is_refused(tmp_path: Path, files: list[Path]) -> None:
    content = files[0].read_bytes()
    strip(files[0], implicit=True)
    files[0].write_bytes(files[0].read_bytes()[:-5])
    assert "slice000.dcm, which ends 5 bytes before its pixels do" in refusal(tmp_path / "s")
    files[0].write_bytes(content)
    dataset = dcmread(files[0])
    put_frame(dataset, bytes(range(40)), JPEGLSLossless)  # with what is around them, more bytes than pixels take
    dataset["PixelData"].is_undefined_length = True
    dcmwrite(files[0], Dataset(dataset), implicit_vr=False, little_endian=True, enforce_file_format=False)
    with pytest.raises(DataError, match=r"PixelData: found pixels of slice000\.dcm that cannot be decoded"):
        read_image(tmp_path / "s")


@pytest.mark.parametrize(
    "start",
    [
        b"\x08\0",
        b"\x08\0" * 200,  # 16-bit numbers
        b"\x08\0\0\0" * 200,
        b"\x08\0\x05\0\x04\0\0\0ISO1" + bytes(200),
        b"\x08\0\x05\0CS\x04\0ISO1\x08\0\x05\0CS\x04\0ISO1\x08\0\x16\0UI\x02\x001.",  # not in order
        b"\x08\0\x05\0\xff\xff\xff\0",
    ],
)
def test_another_file_that_begins_with_an_8_is_no_dicom(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "a").write_bytes(start)
    assert not looks_like_dicom(tmp_path / "a")


def deflate(file: Path) -> None:
    dataset = dcmread(file)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(file)


def test_a_deflated_file_is_read(tmp_path: Path, files: list[Path]) -> None:
    whole = read_image(tmp_path / "s").pixels
    deflate(files[0])
    np.testing.assert_array_equal(read_image(tmp_path / "s").pixels, whole)


def test_a_deflated_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    deflate(files[0])
    monkeypatch.setattr("perdure.data.dicom.opening._MOST_INFLATED", 200)
    refused = "slice000.dcm, a deflated file that unpacks to more than 200 bytes; write it"
    assert refused in refusal(tmp_path / "s")
    # a group that says that it goes on to the end of the file
    content = files[0].read_bytes()
    files[0].write_bytes(content[:140] + (len(content) - 144).to_bytes(4, "little") + content[144:])
    assert refused in refusal(tmp_path / "s")


def test_a_damaged_deflated_file_is_refused(tmp_path: Path, files: list[Path]) -> None:
    deflate(files[0])
    content = files[0].read_bytes()
    for damaged in (content[:-40], content[:400] + b"\xff" * (len(content) - 400)):
        files[0].write_bytes(damaged)
        assert "slice000.dcm, which is no readable DICOM file (error)" in refusal(tmp_path / "s")


def test_a_deflated_segmentation_beside_slices_is_passed_over(tmp_path: Path, files: list[Path]) -> None:
    whole = read_image(tmp_path / "s").pixels
    labels = np.zeros(whole.shape, np.uint8)
    labels[1, 1, 1] = 1
    deflate(write_segmentation(tmp_path / "s" / "seg.dcm", files, labels, {1: "ball"}))
    np.testing.assert_array_equal(read_image(tmp_path / "s").pixels, whole)


def test_small_numbers_of_monochrome1_are_bright_in_mr_and_refused_in_ct(tmp_path: Path) -> None:
    for kind in ("MR", "CT"):
        for file in write_series(tmp_path / kind, numbers(), SPACING, modality=kind, bits=12):
            change(file, PhotometricInterpretation="MONOCHROME1")
    assert sorted(read_image(tmp_path / "MR").pixels.ravel()) == sorted(4095 - numbers().ravel())
    assert "numbers of CT and PET have a unit" in refusal(tmp_path / "CT")


def test_pixels_cut_short_are_refused_by_whoever_reads_no_pixels_too(tmp_path: Path, files: list[Path]) -> None:
    """4 x 5 pixels of two bytes; tag and length take eight bytes in one transfer syntax and twelve in another."""
    whole = files[0].read_bytes()
    for content, missing in ((whole[:-5], 1), (whole[: -40 - 12], 48)):
        files[0].write_bytes(content)
        assert f"PixelData: found slice000.dcm, which ends {missing} bytes before its pixels do" in refusal(
            tmp_path / "s"
        )
    files[0].write_bytes(whole)
    change(files[0], PixelData=b"1234")
    assert "PixelData: found slice000.dcm, which ends 32 bytes before its pixels do" in refusal(tmp_path / "s")


def test_deflated_pixels_cut_short_are_refused(tmp_path: Path, files: list[Path]) -> None:
    change(files[0], PixelData=b"1234")
    deflate(files[0])
    with pytest.raises(DataError, match=r"PixelData: found pixels of slice000\.dcm that cannot be decoded"):
        read_image(tmp_path / "s")


def test_too_many_voxels_are_refused_before_they_are_read(tmp_path: Path, files: list[Path]) -> None:
    dataset = dcmread(files[0])
    dataset.compress(RLELossless)  # whatever is not compressed would end before its pixels do
    dataset.save_as(files[0])
    change(files[0], Rows=60_000, Columns=60_000)
    assert "1 frames of 60000 x 60000 pixels in slice000.dcm" in refusal(tmp_path / "s")


def test_frames_of_two_echoes_are_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a.dcm", numbers(), SPACING, order=[0, 1, 2, 2, 1, 0])
    assert "two slices at one place (frame 1 and frame 6), and 3 such pairs" in refusal(path)


def test_pictures_in_one_folder_are_no_volume(tmp_path: Path) -> None:
    pixels = numbers((5, 7))
    first = write_picture(tmp_path / "s" / "a.dcm", pixels)
    write_picture(tmp_path / "s" / "b.dcm", pixels, more={"SeriesInstanceUID": dcmread(first).SeriesInstanceUID})
    assert "several pictures (a.dcm); slices have ImagePositionPatient" in refusal(tmp_path / "s")


def test_an_empty_folder_and_a_folder_in_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s" / "t").mkdir(parents=True)
    assert "another folder in it, t" in refusal(tmp_path / "s")
    assert "an empty folder" in refusal(tmp_path / "s" / "t")
