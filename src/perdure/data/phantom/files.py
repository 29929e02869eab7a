"""The files of a data folder of simulated scans."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from perdure.data.phantom.physics import Labels
from perdure.data.phantom.recipe import About
from perdure.data.phantom.scanner import Scanner
from perdure.data.toml import toml_text
from perdure.errors import DataError, Problem
from perdure.types import Split

RECORD = "phantom.json"
_FULL_SCALE = 1000  # a signal of 1 in the 16-bit file


def holds(folder: Path, record: Mapping[str, object]) -> bool:
    """Whether the folder belongs to a run with these arguments; False where it is missing or empty.

    Raises:
        DataError: it holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    again = "give another folder, or remove this one"
    file = folder / RECORD
    if not file.is_file():
        raise DataError([Problem(str(folder), "folder", f"no {RECORD}", f"it must be empty or a phantom set; {again}")])
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError([Problem(str(file), "file", str(error), f"the record of a phantom set; {again}")]) from error
    other = sorted(key for key in record if not isinstance(found, dict) or found.get(key) != record[key])
    if other:
        raise DataError([Problem(str(file), ", ".join(other), "a set made with other arguments", again)])
    return True


def write_record(folder: Path, record: Mapping[str, object]) -> None:
    """Writes what `holds` reads."""
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def save_image(path: Path, signal: NDArray[np.floating], affine: NDArray[np.float64]) -> None:
    """Writes a scan in 16 bits; a signal of 1 is stored as 1000."""
    stored = np.clip(np.rint(signal * _FULL_SCALE), 0, np.iinfo(np.int16).max)
    _save(path, stored.astype(np.int16), affine)


def save_labels(path: Path, labels: Labels, affine: NDArray[np.float64]) -> None:
    """Writes a label map."""
    _save(path, labels, affine)


def numbers_of(structures: Mapping[str, tuple[int, ...]]) -> dict[int, int]:
    """What each value of a structure is written as: the first of the structure's values."""
    return {value: values[0] for values in structures.values() for value in values}


def renumbered(labels: Labels, written: Mapping[int, int]) -> Labels:
    """The label map with each value replaced by what it is written as, and all others by 0."""
    values, places = np.unique(labels, return_inverse=True)
    numbers = np.array([written.get(int(value), 0) for value in values])
    return numbers.astype(np.min_scalar_type(max(written.values())))[places.reshape(labels.shape)]


def describe(
    folder: Path,
    about: About,
    structures: Mapping[str, tuple[int, ...]],
    scanners: Sequence[Scanner],
    spacing_mm: float,
    scans: Iterable[tuple[str, Scanner, Split, str, str]],
) -> None:
    """Writes manifest.csv and dataset.toml.

    Args:
        folder: where to.
        about: what it is.
        structures: name -> values in the label maps.
        scanners: each a domain.
        spacing_mm: isotropic voxel size.
        scans: subject, scanner, split, image and label file of each.
    """
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "subject", "domain", "split", "image", "label"))
        for subject, scanner, *rest in scans:
            writer.writerow((f"{scanner.name}_{subject}", subject, scanner.name, *rest))
    fields: dict[str, object] = {
        "name": about.name,
        "title": about.title if "SIMULATED" in about.title else f"SIMULATED: {about.title}",
        "task": "segmentation",
        "modality": about.modality,
        "domains": [scanner.name for scanner in scanners],
        "spacing": [float(spacing_mm)] * 3,
        "licence": about.licence,
        "citation": about.citation,
        "labels": {"background": 0} | {name: values[0] for name, values in structures.items()},
    }
    (folder / "dataset.toml").write_text(toml_text(fields), encoding="utf-8")


def _save(path: Path, voxels: NDArray[np.generic], affine: NDArray[np.float64]) -> None:
    """Writes a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    unfinished = path.with_name(f".{path.name}")
    image.to_filename(unfinished)
    unfinished.replace(path)
