"""Reading keeps every number, and says of what it cannot read which file it is and what is wrong."""

from __future__ import annotations

import contextlib
import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PillowImage

import perdure.data.images as images
from perdure.data.images import is_volume_file, read_header, read_image, read_labels
from perdure.errors import DataError


def png(width: int, height: int, depth: int, colour: int, rows: bytes, palette: bytes = b"") -> bytes:
    """A PNG by hand, for what no encoder here writes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    middle = chunk(b"PLTE", palette) if palette else b""
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("shape", "channels"), [((5, 7), 1), ((5, 7, 2), 1), ((5, 7, 3), 3), ((5, 7, 4), 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_of_8_and_16_bits_keeps_every_number_and_drops_alpha(
    tmp_path: Path, shape: tuple[int, ...], channels: int, dtype: type
) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    image = read_image(tmp_path / "a.png")
    assert image.maximum == np.iinfo(dtype).max
    assert image.header == read_header(tmp_path / "a.png")
    assert (image.header.shape, image.header.channels, image.header.is_volume) == ((5, 7), channels, False)
    np.testing.assert_array_equal(image.pixels, np.atleast_3d(pixels)[..., :channels].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("depth", "row", "values"), [(1, b"\x60", [0, 1, 1, 0]), (2, b"\x1b", [0, 1, 2, 3]), (4, b"\x01\x23", [0, 1, 2, 3])]
)
def test_grey_of_fewer_bits_keeps_its_numbers(tmp_path: Path, depth: int, row: bytes, values: list[int]) -> None:
    (tmp_path / "a.png").write_bytes(png(4, 1, depth, 0, b"\0" + row))
    assert read_labels(tmp_path / "a.png").pixels.tolist() == [values]
    assert read_image(tmp_path / "a.png").maximum == 2**depth - 1


def test_a_palette_gives_indices_as_labels_and_colours_as_an_image(tmp_path: Path) -> None:
    picture = PillowImage.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode=None)
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(tmp_path / "a.png")
    labels, image = read_labels(tmp_path / "a.png"), read_image(tmp_path / "a.png")
    assert labels.pixels.tolist() == [[0, 1], [2, 1]]
    assert image.pixels[:, 1, 0].tolist() == [70, 80, 90]
    assert image.header.channels == 3


def save(path: Path, volume: np.ndarray, affine: np.ndarray | None = None) -> Path:
    kind = nib.MGHImage if path.suffix in (".mgz", ".mgh") else nib.Nifti1Image
    nib.save(kind(volume, np.diag([2.0, 3, 4, 1]) if affine is None else affine), path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "A.NII.GZ"])
def test_volumes_keep_numbers_and_affine(tmp_path: Path, name: str) -> None:
    volume = np.random.default_rng(0).integers(0, 200, (3, 4, 5), dtype=np.uint8)
    path = save(tmp_path / name.lower(), volume).rename(tmp_path / name)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, volume)
    np.testing.assert_allclose(image.header.affine, np.diag([2.0, 3, 4, 1]))
    assert image.maximum == 255
    assert read_header(path).shape == (3, 4, 5)


def test_a_fourth_dimension_of_one_is_dropped(tmp_path: Path) -> None:
    assert read_image(save(tmp_path / "a.nii", np.zeros((3, 4, 5, 1), np.int16))).pixels.shape == (3, 4, 5)


def test_the_scaling_in_the_header_is_applied(tmp_path: Path) -> None:
    volume = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    volume.header.set_slope_inter(2.0, -5.0)
    nib.save(volume, tmp_path / "a.nii")
    image = read_image(tmp_path / "a.nii")
    assert (image.pixels == -5).all()
    assert image.maximum is None


def test_labels_stored_as_floating_point_are_whole_numbers(tmp_path: Path) -> None:
    labels = read_labels(save(tmp_path / "a.nii", np.full((2, 2, 2), 17, np.float32)))
    assert labels.pixels.dtype.kind == "i"
    assert (labels.pixels == 17).all()


def refusal(path: Path, labels: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        (read_labels if labels else read_image)(path)
    assert [problem.file for problem in caught.value.problems] == [str(path)]
    return str(caught.value)


def test_interpolated_labels_are_refused(tmp_path: Path) -> None:
    volume = np.zeros((2, 2, 2), np.float32)
    volume[1, 0, 1] = 1.5
    assert "content: found the value 1.5; labels are whole numbers" in refusal(
        save(tmp_path / "a.nii", volume), labels=True
    )


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e300])
def test_a_voxel_that_is_not_finite_is_refused_with_its_place(tmp_path: Path, number: float) -> None:
    volume = np.zeros((2, 3, 4))
    volume[1, 2, 3] = volume[1, 2, 2] = number
    message = refusal(save(tmp_path / "a.nii", volume))
    assert "voxels: found" in message
    assert "at (1, 2, 2), and 2 voxels in all" in message


def test_labels_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    assert "not finite" in refusal(save(tmp_path / "a.nii", np.full((2, 2, 2), np.nan, np.float32)), labels=True)


@pytest.mark.parametrize(
    ("affine", "what"),
    [
        (np.diag([1, np.nan, 1, 1]), "not finite"),
        (np.diag([1.0, 0, 1, 1]), "flat"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "flat"),
    ],
)
def test_an_affine_without_inverse_is_refused(tmp_path: Path, affine: np.ndarray, what: str) -> None:
    volume = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    for i, row in enumerate("xyz"):
        volume.header[f"srow_{row}"] = affine[i]
    volume.header["sform_code"] = 1
    (tmp_path / "a.nii").write_bytes(volume.to_bytes())
    # nibabel writes the affine that it was given; put ours in its place
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[280:328] = affine[:3].astype("<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    message = refusal(tmp_path / "a.nii")
    assert "affine: found" in message
    assert what in message


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("unit", "said"), [("meter", "found metres"), ("micron", "found micrometres")])
def test_a_volume_that_is_not_in_mm_is_refused(tmp_path: Path, kind: type, unit: str, said: str) -> None:
    volume = kind(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    for right in ("unknown", "mm"):
        volume.header.set_xyzt_units(right, "sec")
        nib.save(volume, tmp_path / "a.nii")
        np.testing.assert_array_equal(read_header(tmp_path / "a.nii").affine, np.eye(4))
    volume.header.set_xyzt_units(unit, "sec")
    nib.save(volume, tmp_path / "a.nii")
    message = refusal(tmp_path / "a.nii")
    assert f"xyzt_units: {said}" in message
    assert "mm" in message


@pytest.mark.parametrize(("sform", "qform"), [(0, 0), (1, 0), (0, 1), (2, 4)])
def test_a_volume_of_which_left_and_right_are_not_known_is_refused(tmp_path: Path, sform: int, qform: int) -> None:
    volume = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    volume.set_sform(np.eye(4), sform)
    volume.set_qform(np.eye(4), qform)
    nib.save(volume, tmp_path / "a.nii")
    if sform or qform:
        np.testing.assert_array_equal(read_header(tmp_path / "a.nii").affine, np.eye(4))
    else:
        assert "sform_code, qform_code: found 0 and 0" in refusal(tmp_path / "a.nii")


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5, 2)])
def test_one_file_is_one_volume(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert "one volume of three dimensions" in refusal(save(tmp_path / "a.nii", np.zeros(shape, np.uint8)))


def test_complex_voxels_are_refused(tmp_path: Path) -> None:
    assert "complex64" in refusal(save(tmp_path / "a.nii", np.zeros((2, 2, 2), np.complex64)))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.png"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str, keep: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 17, 18), dtype=np.uint8)
    path = tmp_path / name
    if name == "a.png":
        path.write_bytes(imagecodecs.png_encode(pixels[..., 0].copy()))
    else:
        save(path, pixels)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    assert "content: found" in refusal(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.png"])
def test_another_file_under_an_image_s_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("patient,age\n1,70\n" * 100)
    assert "content: found" in refusal(tmp_path / name)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_header_is_refused_or_read_but_never_breaks(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = save(tmp_path / "a.nii", np.zeros((4, 4, 4), np.uint8))
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, 352, 12):
        content[place] = rng.integers(256)
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        read_image(path)


def test_a_16_bit_colour_png_with_a_damaged_middle_is_refused(tmp_path: Path) -> None:
    content = bytearray(
        imagecodecs.png_encode(np.random.default_rng(0).integers(0, 65535, (30, 30, 3), dtype=np.uint16))
    )
    content[200:260] = bytes(60)
    (tmp_path / "a.png").write_bytes(content)
    assert "unreadable" in refusal(tmp_path / "a.png")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(png(60_000, 60_000, 8, 0, b""))
    assert "60000 x 60000 pixels; at least one and at most 80,000,000" in refusal(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_VOXELS", 100)
    assert "too many voxels" in refusal(save(tmp_path / "a.nii", np.zeros((5, 5, 5), np.uint8)))


def test_a_missing_file_and_an_unknown_format_say_what_to_do(tmp_path: Path) -> None:
    assert "found no such file" in refusal(tmp_path / "a.png")
    assert "found no such file" in refusal(tmp_path / "a.nii.gz")
    assert ".nii, .nii.gz, .mgz, .mgh, .png" in refusal(tmp_path / "a.jpeg")
    assert is_volume_file(Path("a.nii.gz"))


def test_a_label_map_in_colour_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.zeros((4, 4, 3), np.uint8)))
    assert "a picture of 3 channels; a label map has one channel" in refusal(tmp_path / "a.png", labels=True)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mgz", "a.png"])
def test_any_bit_that_flips_in_a_file_with_a_checksum_is_noticed(tmp_path: Path, name: str) -> None:
    """nibabel stops reading before the checksum of a compressed volume, and shows whatever comes out of it."""
    rng = np.random.default_rng(0)
    path = tmp_path / name
    if name.endswith(".png"):
        path.write_bytes(imagecodecs.png_encode(rng.integers(0, 255, (20, 20, 3), np.uint8)))
    else:
        kind = nib.MGHImage if name.endswith(".mgz") else nib.Nifti1Image
        nib.save(kind(rng.integers(0, 255, (9, 9, 9)).astype(np.uint8), np.eye(4)), path)
    content, before = path.read_bytes(), read_image(path)
    for _ in range(150):
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with contextlib.suppress(DataError):
            # the time in the header of gzip has no checksum, and says nothing
            np.testing.assert_array_equal(read_image(path).pixels, before.pixels)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz"])
def test_a_header_that_says_more_than_the_file_holds_takes_no_memory(tmp_path: Path, name: str) -> None:
    """A few hundred bytes would become gigabytes of zeros before the end of the file is noticed."""
    kind = nib.MGHImage if "mg" in name else nib.Nifti1Image
    content = bytearray(kind(np.zeros((2, 2, 2), np.uint8), np.eye(4)).to_bytes())
    struct.pack_into(">3i" if "mg" in name else "<3h", content, 4 if "mg" in name else 42, 1000, 1000, 1000)
    packed = gzip.compress(bytes(content)) if name.endswith(("gz", "mgz")) else bytes(content)
    (tmp_path / name).write_bytes(packed)
    tracemalloc.start()
    message = refusal(tmp_path / name)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert "bytes of 1,000,000" in message
    assert "cut short" in message


def test_a_compressed_volume_with_far_more_behind_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_MAX_EXTENSION", 2**12)
    content = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)).to_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content + bytes(2**20)))
    assert "more content than its header says" in refusal(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_extension_that_would_fill_the_memory_is_refused(tmp_path: Path, order: str) -> None:
    """nibabel reads it with the header: two hundred kilobytes could be two gigabytes."""
    volume = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    volume = nib.Nifti1Image(volume.dataobj, None, volume.header.as_byteswapped(order))
    content = bytearray(volume.to_bytes())
    struct.pack_into(f"{order}f", content, 108, 2e9)
    content[348:] = b"\1\0\0\0" + struct.pack(f"{order}2i", 2_000_000_000, 6)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(content) + bytes(10**6)))
    assert "voxels that begin at byte 2e+09; at most 67,108,864 bytes" in refusal(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("size", [(9, 7), (70_000, 70_000)])
def test_a_second_header_in_a_png_does_not_change_its_size(tmp_path: Path, size: tuple[int, int]) -> None:
    """Pillow believes the last one."""
    good = png(4, 1, 8, 0, b"\0abcd")
    other = png(*size, 8, 0, b"")
    (tmp_path / "a.png").write_bytes(good[:33] + other[8:33] + good[33:])
    assert "unreadable" in refusal(tmp_path / "a.png")


def test_an_mgh_file_of_no_size_is_refused(tmp_path: Path) -> None:
    content = bytearray(nib.MGHImage(np.zeros((2, 2, 2), np.uint8), np.eye(4)).to_bytes())
    content[4:8] = bytes(4)
    (tmp_path / "a.mgz").write_bytes(gzip.compress(bytes(content)))
    assert "a.mgz: content: found" in refusal(tmp_path / "a.mgz")


def test_a_damaged_picture_is_refused_whatever_another_library_has_set_for_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WeasyPrint, which makes PDFs of reports, lets Pillow read what was cut short, in the whole process."""
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    file = tmp_path / "cut.png"
    PillowImage.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:600])
    with pytest.raises(DataError, match="damaged"):
        read_image(file)
