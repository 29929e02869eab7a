"""A data folder of simulated scans."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from perdure.data.phantom.anatomy import TISSUES, Anatomy
from perdure.data.phantom.deformation import Deformation, majority
from perdure.data.phantom.physics import Labels
from perdure.data.phantom.recipe import (
    ABOUT_MNI,
    BASE,
    LATER,
    About,
    Case,
    LabelMaps,
    Recipe,
    Structures,
    Subjects,
    anatomies_of,
    structures_of,
)
from perdure.data.phantom.scanner import SCANNERS, Scanner
from perdure.errors import DataError, Problem

_RECORD = "phantom.json"
_FULL_SCALE = 1000  # a signal of 1 in the 16-bit file


def write_dataset(
    folder: Path | str,
    *,
    labels: LabelMaps | None = None,
    affine: NDArray[np.float64] | None = None,
    structures: Structures | None = None,
    scanners: Sequence[Scanner] = SCANNERS,
    subjects: Subjects | None = None,
    spacing_mm: float = 2.5,
    supersampling: int = 2,
    deformation: Deformation | None = None,
    seed: int = 0,
    about: About | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes a data folder with one domain a scanner; every subject is a new deformation, and in one domain only.

    The folder appears whole or not at all. One that was made with the same arguments is left as it is. The same
    arguments give the same voxels, as long as NumPy and SciPy stay the same.

    Args:
        folder: where to; must not exist, be empty, or hold the same data set.
        labels: a label map (NIfTI file, or array with its `affine`), or several files, which subjects take in turn:
            give as many as there are subjects where no anatomy may come back in another split. None is the MNI152
            brain. Value 0 is background.
        affine: of an array, 4 x 4, voxel indices to mm; None is 1 mm along each axis.
        structures: name -> value in the label maps, or several values, which are written as the first. Values that are
            not named are imaged but written as 0, background. None names every value.
        scanners: whose contrast knows every value in the label maps, see `Scanner.seeing`; a scanner's name becomes
            that of its domain.
        subjects: scanner name -> split -> how many. None is `BASE` for the first scanner, `LATER` for the others.
        spacing_mm: isotropic voxel size of image and label.
        supersampling: label voxels along each axis that an image voxel averages. 2 gives partial volumes; 1 gives none
            and takes a quarter of the time.
        deformation: None is `Deformation()`.
        seed: of everything random, 0 or more.
        about: for `dataset.toml`.
        progress: called with the scans done and the scans in all.

    Returns:
        The folder.

    Raises:
        DataError: the folder holds something else, a label map cannot be read, a value has no tissue, a structure has
            no voxel in any subject.
        ValueError: an argument outside its range.
    """
    folder = Path(folder)
    if labels is None and structures is None:
        structures = TISSUES
    recipe = Recipe(
        anatomies=anatomies_of(labels, affine),
        structures=structures_of(structures or {}),
        scanners=tuple(scanners),
        subjects=subjects or {scanner.name: LATER if index else BASE for index, scanner in enumerate(scanners)},
        spacing_mm=float(spacing_mm),
        supersampling=supersampling,
        deformation=deformation or Deformation(),
        seed=seed,
        about=about or (ABOUT_MNI if labels is None else About(folder.name, f"scans simulated as {folder.name}")),
    )
    if _holds(folder, recipe):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    unfinished.mkdir()
    try:
        _write(unfinished, recipe, progress)
        try:
            unfinished.rename(folder)
        except OSError as error:
            # another process was faster: fine if it wrote the same
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not _holds(folder, recipe):
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _holds(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder is there and holds this data set; False where it is missing or empty."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    again = "give another folder, or remove this one"
    record = folder / _RECORD
    if not record.is_file():
        raise DataError(
            [Problem(str(folder), "folder", f"no {_RECORD}", f"it must be empty or a phantom set; {again}")]
        )
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError([Problem(str(record), "file", str(error), f"it must be JSON; {again}")]) from error
    wanted = recipe.record()
    other = sorted(key for key in wanted if not isinstance(found, dict) or found.get(key) != wanted[key])
    if other:
        raise DataError([Problem(str(record), ", ".join(other), "a set made with other arguments", again)])
    return True


def _write(folder: Path, recipe: Recipe, progress: Callable[[int, int], None] | None) -> None:
    structures = recipe.named()
    written = {value: values[0] for values in structures.values() for value in values}
    cases = recipe.cases()
    seen: set[int] = set()
    anatomy = recipe.anatomy(0)
    for done, case in enumerate(cases, start=1):
        if len(recipe.anatomies) > 1:
            anatomy = recipe.anatomy(case.number)
        seen |= _scan(folder, recipe, case, anatomy, written)
        if progress is not None:
            progress(done, len(cases))
    lost = [name for name, values in structures.items() if values[0] not in seen]
    if lost:
        raise DataError(
            f"No simulated subject has a voxel of {', '.join(lost)} at {recipe.spacing_mm} mm. "
            "Check the values in `structures`, leave these out, or lower `spacing_mm`."
        )
    _describe(folder, recipe, structures, cases)
    for path in folder.rglob("*"):
        # a power cut after the rename must not leave empty files behind
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _scan(folder: Path, recipe: Recipe, case: Case, anatomy: Anatomy, written: Mapping[int, int]) -> set[int]:
    """Writes image and label of one case; returns the values in the label."""
    factor = recipe.supersampling
    of_subject, of_scan = recipe.generators(case)
    subject = recipe.deformation.subject(anatomy, recipe.spacing_mm / factor, of_subject, multiple=factor)
    image = case.scanner.image(subject.labels, subject.spacing_mm, of_scan, factor)
    label = _renumbered(majority(subject.labels, factor), written)
    affine = subject.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.full(3, (factor - 1) / 2)
    affine[:3, :3] *= factor
    stored = np.clip(np.rint(image * _FULL_SCALE), 0, np.iinfo(np.int16).max)
    _save(folder / case.file("images"), stored.astype(np.int16), affine)
    _save(folder / case.file("labels"), label, affine)
    return {int(value) for value in np.unique(label)}


def _renumbered(labels: Labels, written: Mapping[int, int]) -> Labels:
    """The label map with each value replaced by what it is written as, and all others by 0."""
    values = np.unique(labels)
    numbers = np.array([written.get(int(value), 0) for value in values], dtype=np.uint16)[
        np.searchsorted(values, labels)
    ]
    return numbers.astype(np.uint8) if max(written.values()) <= np.iinfo(np.uint8).max else numbers


def _save(path: Path, voxels: NDArray[np.generic], affine: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


def _describe(folder: Path, recipe: Recipe, structures: Mapping[str, tuple[int, ...]], cases: Sequence[Case]) -> None:
    """Writes manifest.csv, dataset.toml and the record."""
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "subject", "domain", "split", "image", "label"))
        for case in cases:
            domain = case.scanner.name
            files = case.file("images"), case.file("labels")
            writer.writerow((f"{domain}_{case.subject}", case.subject, domain, case.split, *files))

    about = recipe.about
    fields: dict[str, object] = {
        "name": about.name,
        "title": about.title if "SIMULATED" in about.title else f"SIMULATED: {about.title}",
        "task": "segmentation",
        "modality": about.modality,
        "domains": [scanner.name for scanner in recipe.scanners],
        "spacing": [recipe.spacing_mm] * 3,
        "licence": about.licence,
        "citation": about.citation,
    }
    # JSON's strings, numbers and lists of them are also TOML
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    lines += ["", "[labels]", "background = 0"]
    lines += [f"{json.dumps(name, ensure_ascii=False)} = {values[0]}" for name, values in structures.items()]
    (folder / "dataset.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / _RECORD).write_text(json.dumps(recipe.record(), indent=2) + "\n", encoding="utf-8")
