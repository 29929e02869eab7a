"""All that decides what a simulated data set holds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from perdure.data.phantom.anatomy import Anatomy, mni_tissues
from perdure.data.phantom.deformation import Deformation
from perdure.data.phantom.physics import Labels
from perdure.data.phantom.scanner import Scanner
from perdure.errors import DataError, Problem
from perdure.types import SPLITS, Split

LabelMaps: TypeAlias = "Path | str | Labels | Sequence[Path | str]"
Structures: TypeAlias = "Mapping[str, int | Sequence[int]]"
Subjects: TypeAlias = "Mapping[str, Mapping[Split, int]]"

BASE: Mapping[Split, int] = {"train": 4, "val": 1, "test": 2}
"""Subjects of the first scanner."""
LATER: Mapping[Split, int] = {"train": 1, "val": 1, "test": 2}
"""Subjects of each later scanner: one scan to learn from, as in Özgün et al. 2020."""

_FORMAT = 1
_LARGEST = 65535  # of the label values that a data folder may hold


@dataclass(frozen=True)
class About:
    """What `dataset.toml` says about the set; "SIMULATED" is put before a title that does not say so."""

    name: str
    title: str
    modality: str = "simulated MRI"
    licence: str = "that of the label maps; the images are simulated from them"
    citation: str = "that of the label maps"


ABOUT_MNI = About(
    name="brain_phantom",
    title="SIMULATED brain MRI: tissues of deformed MNI152 brains before simulated scanners",
    licence="ICBM 152 template: (C) 1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological "
    "Institute, McGill University; free to use, copy, modify and distribute with this notice. The images are "
    "simulated from its tissue maps.",
    citation="Fonov et al. 2011, Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54; "
    "Fonov et al. 2009, NeuroImage 47 S1; Collins et al. 1999, ANIMAL+INSECT, LNCS 1613",
)


@dataclass(frozen=True)
class Case:
    """One scan of one subject.

    Args:
        number: from 0; decides, with the seed, everything random about the subject and the scan.
        scanner: before which the subject lies.
        split: in which the subject is.
    """

    number: int
    scanner: Scanner
    split: Split

    @property
    def subject(self) -> str:
        """The subject's name; no subject is scanned twice."""
        return f"phantom{self.number + 1:03d}"

    def file(self, kind: str) -> str:
        """Where the file of this kind, `images` or `labels`, lies in the data folder."""
        return f"{kind}/{self.scanner.name}/{self.subject}.nii.gz"


@dataclass(frozen=True)
class Recipe:
    """The arguments of `write_dataset`, checked. No anatomies: the MNI152 brain. No structures: every value is one."""

    anatomies: tuple[Path | Anatomy, ...]
    structures: Mapping[str, tuple[int, ...]]
    scanners: tuple[Scanner, ...]
    subjects: Subjects
    spacing_mm: float
    supersampling: int
    deformation: Deformation
    seed: int
    about: About

    def __post_init__(self) -> None:
        if not self.spacing_mm > 0 or self.supersampling < 1 or self.seed < 0:
            raise ValueError(
                "`spacing_mm` must be above 0, `supersampling` 1 or more, `seed` 0 or more; "
                f"got {self.spacing_mm}, {self.supersampling}, {self.seed}."
            )
        _check_scanners(self.scanners, self.subjects)
        check_structures(self.structures)

    def anatomy(self, number: int) -> Anatomy:
        """The anatomy that a subject is a deformation of."""
        if not self.anatomies:
            return Anatomy(*mni_tissues(1.0))
        anatomy = self.anatomies[number % len(self.anatomies)]
        return anatomy if isinstance(anatomy, Anatomy) else Anatomy.read(anatomy)

    def cases(self) -> list[Case]:
        """All scans, scanner by scanner and split by split."""
        places = [
            (scanner, split)
            for scanner in self.scanners
            for split in SPLITS
            for _ in range(self.subjects[scanner.name].get(split, 0))
        ]
        return [Case(number, scanner, split) for number, (scanner, split) in enumerate(places)]

    def generators(self, case: Case) -> tuple[np.random.Generator, np.random.Generator]:
        """Where the randomness of a case comes from: of the subject, and of the scan."""
        subject, scan = np.random.default_rng([self.seed, case.number]).spawn(2)
        return subject, scan

    def named(self) -> Mapping[str, tuple[int, ...]]:
        """The structures that are written, and the values in the label maps that mean each."""
        if self.structures:
            return self.structures
        values = {int(v) for number in range(len(self.anatomies)) for v in np.unique(self.anatomy(number).labels)}
        return {f"label_{value}": (value,) for value in sorted(values - {0})}

    def record(self) -> dict[str, Any]:
        """As plain JSON values, equal for equal data sets."""
        return {
            "format": _FORMAT,
            "anatomies": [_digest(anatomy) for anatomy in self.anatomies] or "mni152",
            "structures": {name: list(values) for name, values in self.structures.items()},
            "scanners": [repr(scanner) for scanner in self.scanners],
            "subjects": {
                scanner.name: {split: self.subjects[scanner.name].get(split, 0) for split in SPLITS}
                for scanner in self.scanners
            },
            "spacing_mm": self.spacing_mm,
            "supersampling": self.supersampling,
            "deformation": repr(self.deformation),
            "seed": self.seed,
            "about": asdict(self.about),
        }


def anatomies_of(labels: LabelMaps | None, affine: NDArray[np.float64] | None) -> tuple[Path | Anatomy, ...]:
    """The label maps as a user gives them, one or several."""
    if isinstance(labels, np.ndarray):
        return (Anatomy(labels, np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64)),)
    if affine is not None:
        raise ValueError("`affine` belongs to an array given as `labels`; a file has its own.")
    if labels is None:
        return ()
    if isinstance(labels, Path | str):
        return (Path(labels),)
    if not labels:
        raise ValueError("`labels` must hold one label map or more; got none.")
    return tuple(Path(path) for path in labels)


def structures_of(structures: Structures) -> dict[str, tuple[int, ...]]:
    """The structures as a user names them, without the background."""
    listed = {name: (value,) if isinstance(value, int) else tuple(value) for name, value in structures.items()}
    return {name: values for name, values in listed.items() if values != (0,)}


def check_structures(structures: Mapping[str, tuple[int, ...]]) -> None:
    """Passes if every structure has values of its own that 16 bits hold.

    Raises:
        ValueError: if not.
    """
    values = [value for structure in structures.values() for value in structure]
    fit = all(structures.values()) and all(0 < value <= _LARGEST for value in values)
    if not fit or len(set(values)) < len(values):
        raise ValueError(
            f"`structures` must give every structure values of its own, from 1 to {_LARGEST}; got {dict(structures)}."
        )


def check_names(scanners: Sequence[Scanner]) -> list[str]:
    """The names of scanners, each of which can be that of a folder.

    Raises:
        ValueError: if one cannot, or there are none.
    """
    names = [scanner.name for scanner in scanners]
    if not names or len(set(names)) < len(names) or not all(re.fullmatch(r"\w[\w.-]*", name) for name in names):
        raise ValueError(f"Each scanner needs a name of its own, of letters, digits and `_.-`; got {names}.")
    return names


def _check_scanners(scanners: Sequence[Scanner], subjects: Subjects) -> None:
    names = check_names(scanners)
    if set(subjects) != set(names):
        raise ValueError(f"`subjects` must have one entry for each of the scanners {names}; got {sorted(subjects)}.")
    for name, counts in subjects.items():
        if not set(counts) <= set(SPLITS) or min(counts.values(), default=0) < 0 or not sum(counts.values()):
            raise ValueError(
                f"`subjects` must say how many are in {', '.join(SPLITS)}, one or more in all; "
                f"got {dict(counts)} for `{name}`."
            )


def _digest(anatomy: Path | Anatomy) -> str:
    if isinstance(anatomy, Anatomy):
        about = f"{anatomy.labels.dtype} {anatomy.labels.shape} {anatomy.affine.tolist()}".encode()
        return hashlib.sha256(about + np.ascontiguousarray(anatomy.labels).tobytes()).hexdigest()
    try:
        return hashlib.sha256(anatomy.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError([Problem(str(anatomy), "file", str(error), "a readable NIfTI label map goes here")]) from error
