"""DICOM files as scanners write them, made with pydicom: series of slices, multi-frame files, radiographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

PATIENT = {"PatientName": "Doe^Jane", "PatientID": "MRN-4711", "PatientBirthDate": "19500607"}
SCANNER = {
    "Manufacturer": "Acme Medical",
    "ManufacturerModelName": "Spin 3",
    "StationName": "MR-EAST",
    "MagneticFieldStrength": "3",
}
_STORAGE = {"MR": MRImageStorage, "CT": CTImageStorage}
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_series(
    folder: Path,
    volume: NDArray[np.integer],
    affine: NDArray[np.float64],
    *,
    modality: str = "MR",
    bits: int = 16,
    names: Sequence[str] | None = None,
    uid: str | None = None,
    more: Mapping[str, object] | None = None,
) -> list[Path]:
    """Writes each slice along the third axis of a volume `(x, y, z)` to a file; returns the files in that order.

    Args:
        folder: where the files go.
        volume: stored numbers.
        affine: voxel to mm, RAS, its axes at right angles.
        modality: MR or CT.
        bits: stored.
        names: of the files.
        uid: of the series.
        more: elements that each file gets besides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid, study = uid or generate_uid(), generate_uid()
    files = []
    for k in range(volume.shape[2]):
        dataset = header(modality, uid, study, more)
        place(dataset, affine, k)
        dataset.InstanceNumber = k + 1
        put_pixels(dataset, volume[:, :, k].T, bits)
        files.append(save(dataset, folder / (names[k] if names else f"slice{k:03}.dcm")))
    return files


def write_enhanced(
    path: Path, volume: NDArray[np.integer], affine: NDArray[np.float64], *, order: Sequence[int] | None = None
) -> Path:
    """Writes a volume as one multi-frame file, its frames in any order."""
    dataset = header("MR", generate_uid(), generate_uid(), None)
    dataset.SOPClassUID = EnhancedMRImageStorage
    order = range(volume.shape[2]) if order is None else order
    put_pixels(dataset, np.stack([volume[:, :, k].T for k in order]), 16)
    dataset.NumberOfFrames = len(order)
    measures, shared = Dataset(), Dataset()
    frames = []
    for k in order:
        of = Dataset()
        place(of, affine, k)
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = of.ImagePositionPatient
        frame.PlanePositionSequence = [position]
        frames.append(frame)
        orientation = Dataset()
        orientation.ImageOrientationPatient = of.ImageOrientationPatient
        measures.PixelSpacing = of.PixelSpacing
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
    return save(dataset, path)


def write_picture(
    path: Path, pixels: NDArray[np.integer], *, bits: int = 12, more: Mapping[str, object] | None = None
) -> Path:
    """Writes a mammogram `(height, width)` of unsigned numbers."""
    dataset = header("MG", generate_uid(), generate_uid(), None)
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    put_pixels(dataset, pixels, bits)
    for name, value in (more or {}).items():
        setattr(dataset, name, value)
    return save(dataset, path)


def header(modality: str, uid: str, study: str, more: Mapping[str, object] | None) -> Dataset:
    """All but place and pixels."""
    dataset = Dataset()
    for name, value in {**PATIENT, **SCANNER, **(more or {})}.items():
        setattr(dataset, name, value)
    dataset.SOPClassUID = _STORAGE.get(modality, MRImageStorage)
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID = generate_uid(), uid
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = study, study
    dataset.Modality = modality
    return dataset


def place(dataset: Dataset, affine: NDArray[np.float64], k: int) -> None:
    """Says where slice k of a volume lies."""
    lps = _LPS @ affine
    lengths = np.linalg.norm(lps[:3, :2], axis=0)
    dataset.ImageOrientationPatient = decimals([*(lps[:3, 0] / lengths[0]), *(lps[:3, 1] / lengths[1])])
    dataset.ImagePositionPatient = decimals(lps[:3, 3] + k * lps[:3, 2])
    dataset.PixelSpacing = decimals([lengths[1], lengths[0]])


def decimals(values: Sequence[float] | NDArray[np.float64]) -> list[str]:
    """As decimal strings of at most 16 characters, with as many digits as go in."""
    return [next(text for digits in range(16, 0, -1) if len(text := f"{value:.{digits}g}") <= 16) for value in values]


def put_pixels(dataset: Dataset, pixels: NDArray[np.integer], bits: int) -> None:
    """Sets pixels and what describes them; `(rows, columns)` or `(frames, rows, columns)`."""
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.add_new("PixelData", "OW", np.ascontiguousarray(pixels).tobytes())


def save(dataset: Dataset, path: Path) -> Path:
    """Writes a file that says what it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path
