"""DICOM files as scanners write them, made with pydicom: series of slices, multi-frame files, radiographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from highdicom.seg import SegmentationTypeValues
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RTStructureSetStorage,
    generate_uid,
)
from skimage.measure import find_contours

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
    for name in ("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "PatientSex", "ReferringPhysicianName"):
        setattr(dataset, name, None)
    return dataset


def place(dataset: Dataset, affine: NDArray[np.float64], k: int) -> None:
    """Says where slice k of a volume lies."""
    lps = _LPS @ affine
    lengths = np.linalg.norm(lps[:3, :2], axis=0)
    dataset.ImageOrientationPatient = decimals([*(lps[:3, 0] / lengths[0]), *(lps[:3, 1] / lengths[1])])
    dataset.ImagePositionPatient = decimals(lps[:3, 3] + k * lps[:3, 2])
    dataset.PixelSpacing = decimals([lengths[1], lengths[0]])
    dataset.SliceThickness = "99"  # thick slices may overlap; their distance is that of their positions


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


def write_segmentation(
    path: Path,
    files: Sequence[Path],
    labels: NDArray[np.integer],
    names: Mapping[int, str],
    kind: SegmentationTypeValues = SegmentationTypeValues.BINARY,
    **options: object,
) -> Path:
    """Writes a SEG with highdicom; `labels` are `(x, y, z)`, its slices in the order of `files`."""
    algorithm = hd.AlgorithmIdentificationSequence(
        name="by hand", version="1", family=codes.cid7162.ArtificialIntelligence
    )
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(names.values(), 1)
    ]
    numbered = np.zeros(labels.shape, np.uint8)
    for number, value in enumerate(names, 1):
        numbered[labels == value] = number
    pixels = numbered.transpose(2, 1, 0)
    if kind == SegmentationTypeValues.FRACTIONAL:
        pixels = np.stack([pixels == number for number in range(1, len(names) + 1)], -1).astype(np.float32) * 0.5
    made = hd.seg.Segmentation(
        source_images=[dcmread(file) for file in files],
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=2,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
        **options,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path)
    return path


def write_contours(
    path: Path,
    files: Sequence[Path],
    labels: NDArray[np.integer],
    affine: NDArray[np.float64],
    names: Mapping[int, str],
) -> Path:
    """Writes an RTSTRUCT whose contours run half a pixel around the centres of each structure, holes among them."""
    source = dcmread(files[0], stop_before_pixels=True)
    dataset = Dataset()
    for name, value in PATIENT.items():
        setattr(dataset, name, value)
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = source.StudyInstanceUID, generate_uid()
    dataset.Modality = "RTSTRUCT"
    frame, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = source.FrameOfReferenceUID, [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    to_lps = _LPS @ affine
    for number, (value, name) in enumerate(names.items(), 1):
        region, contours = Dataset(), Dataset()
        region.ROINumber, region.ROIName, region.ReferencedFrameOfReferenceUID = number, name, frame.FrameOfReferenceUID
        contours.ReferencedROINumber, contours.ContourSequence = number, []
        for k in range(labels.shape[2]):
            padded = np.pad(labels[:, :, k] == value, 1)
            for outline in find_contours(padded, 0.5):
                points = np.c_[outline[:-1] - 1, np.full(len(outline) - 1, k), np.ones(len(outline) - 1)] @ to_lps.T
                contour = Dataset()
                contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
                contour.ContourData = decimals(points[:, :3].ravel())
                contours.ContourSequence.append(contour)
        dataset.StructureSetROISequence.append(region)
        dataset.ROIContourSequence.append(contours)
    return save(dataset, path)
