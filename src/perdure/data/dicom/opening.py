"""Opening one DICOM file, so that whatever is wrong with it is one error that quotes nothing of a patient."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.data.content import refusal

if TYPE_CHECKING:
    from types import ModuleType
    from typing import BinaryIO

    from pydicom import Dataset

_NO_IMAGES = ("SEG", "RTDOSE", "RTSTRUCT", "PR", "SR", "KO")
_NAMES = (".dcm", ".dicom", ".ima")
_WITHOUT_SERIES = (
    "Media Storage Directory", "Hanging Protocol", "Color Palette", "Implant", "Procedure Protocol", "Inventory",
)  # fmt: skip
_PREAMBLE = 128  # bytes before the letters DICM
_MAGIC = b"DICM"
_STARTS = (
    b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"%PDF", b"PK\x03\x04", b"\x1f\x8b",
    b"7z\xbc\xaf", b"Rar!", b"\xd0\xcf\x11\xe0", b"\x7fELF", b"MZ", b"SQLite", b"\xff\xfe", b"\xfe\xff",
)  # fmt: skip
"""Of pictures, archives, documents, programs, databases and text in UTF-16."""
_FIRST_GROUP = 8
"""Of the elements that a file without a preamble begins with."""
_MOST_OF_AN_ELEMENT = 512
"""Bytes of each of the first ones: character set, kind of image, class."""
_BEGINNING = 3 * _MOST_OF_AN_ELEMENT
_NO_TEXT = frozenset(range(32)) - frozenset(b"\t\n\f\r\x1b")
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
"""Transfer syntaxes whose pixels are not compressed."""
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MOST_INFLATED = 2**28
"""Bytes of a deflated file, unpacked: a small one may unpack to any size."""


def looks_like_dicom(path: Path) -> bool:
    """Whether the name or the first bytes of a file say that it is DICOM, with a preamble or without."""
    if path.name.lower().endswith(_NAMES):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(_BEGINNING)
    except OSError:
        return False
    return start[_PREAMBLE : _PREAMBLE + 4] == _MAGIC or _is_without_preamble(start)


def _is_without_preamble(start: bytes) -> bool:
    """Whether a file begins with its dataset, as old archives write it: three elements of group 0008 in order.

    They are in little endian, with VRs or without. One would say little, since other files begin with an 8 too.
    """
    if start[_PREAMBLE : _PREAMBLE + 4] == _MAGIC:
        return False
    at, before = 0, -1
    for _ in range(3):
        if len(start) < at + 8:
            return False
        group, number, length = struct.unpack_from("<HHI", start, at)
        if re.fullmatch(rb"[A-Z]{2}", start[at + 4 : at + 6]):
            length >>= 16  # behind a VR it takes two bytes, but for VRs that are not among the first
        if group != _FIRST_GROUP or number <= before or length % 2 or length > _MOST_OF_AN_ELEMENT:
            return False
        at, before = at + 8 + length, number
    return True


def is_of_another_kind(path: Path) -> bool:
    """Whether the first bytes of a file say that it is a picture, an archive, a text or the like.

    One that is empty, cannot be read or begins with anything else may be a DICOM file that was damaged.
    """
    try:
        with path.open("rb") as file:
            start = file.read(1024)
    except OSError:
        return False
    return start.startswith(_STARTS) or (start != b"" and _NO_TEXT.isdisjoint(start))


def read_dataset(place: Path, file: Path, called: str, *, pixels: bool = False) -> Dataset:
    """Opens a file with pydicom.

    Args:
        place: what the user has named: the file, or the folder that it lies in.
        file: the file.
        called: what it is called in errors.
        pixels: whether the pixels are read too.

    Raises:
        DataError: it is no DICOM file, or a damaged one, or an image that ends before its pixels do; pydicom is not
            installed.
    """
    pydicom = _pydicom(place)
    try:
        with quiet(), file.open("rb") as stream:
            is_bare = _is_without_preamble(stream.read(_BEGINNING))
            stream.seek(0)
            syntax = None if is_bare else pydicom.filereader.read_file_meta_info(file).get("TransferSyntaxUID")
            if syntax == _DEFLATED and _inflates_beyond(stream, _MOST_INFLATED):
                found = f"{called}, a deflated file that unpacks to more than {_MOST_INFLATED:,} bytes"
                raise refusal(place, found, "write it without (dcmconv +te)")
            dataset: Dataset = pydicom.dcmread(stream, stop_before_pixels=not pixels, force=is_bare)
            if is_bare:
                is_implicit, _ = dataset.original_encoding
                syntax = pydicom.uid.ImplicitVRLittleEndian if is_implicit else pydicom.uid.ExplicitVRLittleEndian
                dataset.file_meta.TransferSyntaxUID = syntax
            rest = os.fstat(stream.fileno()).st_size - stream.tell()
            if not pixels and syntax in _PLAIN and rest < (length := _length_of_pixels(dataset)):
                found = f"{called}, which ends {length - rest:,} bytes before its pixels do"
                raise refusal(place, found, "the file was cut off: fetch it again", "PixelData")
            return dataset
    except FileNotFoundError as error:
        raise refusal(place, f"no such file as {called}", "mend the path, or put the file there") from error
    except damaged() as error:
        # not the message of the error: it may quote any element
        found = f"{called}, which is no readable DICOM file ({type(error).__name__})"
        raise refusal(place, found, "the file is damaged, or of another format: fetch it again") from error


def _inflates_beyond(stream: BinaryIO, most: int) -> bool:
    """Whether a deflated file unpacks to more bytes than that; the stream stays at its beginning."""
    from pydicom.filereader import read_dataset as elements

    # the group before says how long it is; pydicom goes by where it ends, and so must we
    stream.seek(_PREAMBLE + len(_MAGIC))
    before = elements(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != 2)
    list(before)  # one that cannot be read would let pydicom begin anew, and end elsewhere
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream.read(), most + 1)
    stream.seek(0)
    return len(inflated) > most


def _length_of_pixels(dataset: Dataset) -> int:
    """How many bytes the pixels of an image take, with tag and length; 0 where it does not say, or is no image."""
    from pydicom.pixels.utils import get_expected_length

    try:
        return 0 if no_image(dataset) else int(get_expected_length(dataset)) + 8
    except damaged():  # whoever looks at the element says what is wrong with it
        return 0


def no_image(dataset: Dataset) -> bool:
    """Whether a dataset is a report, a plan, a segmentation or something else that is no image.

    An image that was cut short before its pixels is an image.
    """
    if dataset.get("Modality") in _NO_IMAGES:
        return True
    return "Rows" not in dataset and "Image Storage" not in _class_name(dataset)


def is_cut_short(dataset: Dataset) -> bool:
    """Whether a dataset ends before it says what series it belongs to, though it is of a kind that belongs to one.

    pydicom reads as far as a file goes.
    """
    return not dataset.get("SeriesInstanceUID") and not any(kind in _class_name(dataset) for kind in _WITHOUT_SERIES)


def _class_name(dataset: Dataset) -> str:
    kind = dataset.file_meta.get("MediaStorageSOPClassUID") or dataset.get("SOPClassUID")
    return str(getattr(kind, "name", ""))


@contextlib.contextmanager
def reading(place: Path, called: str) -> Iterator[None]:
    """Makes an error that names the file of all that pydicom raises on an element that cannot be read."""
    try:
        yield
    except damaged() as error:
        found = f"{called}, with an element that cannot be read ({type(error).__name__})"
        raise refusal(place, found, "the file is damaged: fetch it again") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Lets pydicom read what breaks rules that do not concern us; its warnings quote elements, names among them."""
    from pydicom import config

    loggers = [logging.getLogger(name) for name in ("pydicom", "openjpeg")]
    before = [logger.propagate for logger in loggers]
    nowhere = logging.NullHandler()  # without one, Python prints warnings of a logger that does not propagate
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.addHandler(nowhere)
            logger.propagate = False
        try:
            yield
        finally:
            for logger, propagate in zip(loggers, before, strict=True):
                logger.removeHandler(nowhere)
                logger.propagate = propagate


def _pydicom(place: Path) -> ModuleType:
    try:
        import pydicom
    except ImportError as error:
        raise refusal(place, "DICOM, and no pydicom to read it", "pip install 'perdure[dicom]'") from error
    return pydicom


def damaged() -> tuple[type[Exception], ...]:
    """All that pydicom raises on a damaged file or element."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    # as tests with damaged files have shown
    own = (BytesLengthException, InvalidDicomError, struct.error, zlib.error)
    plain = (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, IndexError, NotImplementedError)
    return (*own, *plain, OverflowError, MemoryError, RecursionError)
