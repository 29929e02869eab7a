"""A data folder of simulated scans."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perdure.data.phantom.anatomy import TISSUES, Anatomy
from perdure.data.phantom.deformation import Deformation, majority
from perdure.data.phantom.files import describe, holds, numbers_of, renumbered, save_image, save_labels, write_record
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
from perdure.errors import DataError


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
    if holds(folder, recipe.record()):
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
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not holds(folder, recipe.record()):
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _write(folder: Path, recipe: Recipe, progress: Callable[[int, int], None] | None) -> None:
    structures = recipe.named()
    written = numbers_of(structures)
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
    scans = [(case.subject, case.scanner, case.split, case.file("images"), case.file("labels")) for case in cases]
    describe(folder, recipe.about, structures, recipe.scanners, recipe.spacing_mm, scans)
    write_record(folder, recipe.record())
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
    label = renumbered(majority(subject.labels, factor), written)
    affine = subject.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.full(3, (factor - 1) / 2)
    affine[:3, :3] *= factor
    save_image(folder / case.file("images"), image, affine)
    save_labels(folder / case.file("labels"), label, affine)
    return {int(value) for value in np.unique(label)}
