"""A data folder of simulated scans of real anatomies: one label map a subject, nothing deformed.

The test subjects are travelling heads: each lies in every scanner, so that scanners are compared on the same anatomies.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from perdure.data.phantom.anatomy import Anatomy
from perdure.data.phantom.deformation import majority, sampled
from perdure.data.phantom.files import describe, holds, numbers_of, renumbered, save_image, save_labels, write_record
from perdure.data.phantom.physics import Labels, TissueContrast
from perdure.data.phantom.recipe import About, Structures, check_names, check_structures, structures_of
from perdure.data.phantom.scanner import SCANNERS, Scanner
from perdure.errors import DataError, Problem
from perdure.types import SPLITS, Split

_SIDED = {
    "cerebral_white_matter": ((2, 25), (41, 57)),  # with lesions
    "cerebral_cortex": ((3,), (42,)),
    "lateral_ventricle": ((4, 136), (43, 163)),
    "inferior_lateral_ventricle": ((5, 137), (44, 164)),
    "cerebellum_white_matter": ((7,), (46,)),
    "cerebellum_cortex": ((8,), (47,)),
    "thalamus": ((10,), (49,)),
    "caudate": ((11,), (50,)),
    "putamen": ((12,), (51,)),
    "pallidum": ((13,), (52,)),
    "hippocampus": ((17,), (53,)),
    "amygdala": ((18,), (54,)),
    "accumbens_area": ((26,), (58,)),
    "ventral_DC": ((28,), (60,)),
}
STRUCTURES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {f"left_{name}": left for name, (left, _) in _SIDED.items()}
    | {"ventricle_3": (14,), "ventricle_4": (15,), "brain_stem": (16,)}
    | {f"right_{name}": right for name, (_, right) in _SIDED.items()}
)
"""FreeSurfer's structures and numbers, as SynthSeg's label maps have them: 31, or 17 with the sides merged."""

FIRST: Mapping[Split, int] = MappingProxyType({"train": 5, "val": 1})
"""Subjects of the first scanner, apart from the test subjects."""
FOLLOWING: Mapping[Split, int] = MappingProxyType({"train": 1, "val": 1})
"""Subjects of each later scanner: one scan to learn from, as in Özgün et al. 2020."""

_OWN: tuple[Split, ...] = ("train", "val")  # the splits of which every scanner has subjects of its own
_FORMAT = 1
_MARGIN_MM = 12.0  # of head around the structures
_SUFFIXES = (".nii.gz", ".nii")


def write_dataset_of_labelmaps(
    folder: Path | str,
    labelmaps: Path | str,
    table: Path | str,
    *,
    structures: Structures = STRUCTURES,
    scanners: Sequence[Scanner] = SCANNERS,
    first: Mapping[Split, int] = FIRST,
    following: Mapping[Split, int] = FOLLOWING,
    spacing_mm: float = 2.0,
    deviation: float = 0.3,
    seed: int = 0,
    about: About | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes a data folder with one domain a scanner from a folder of label maps, one a subject.

    Subjects are dealt out at random. Training and validation subjects lie in one scanner each; all others are test
    subjects and lie in every scanner. A map is cut to its structures and 12 mm around them, and keeps its axes.

    An image voxel averages the signal of the label voxels in it (partial volume); its label is the commonest structure
    among them. A run that was stopped goes on: scans that are there are left as they are. The same arguments give the
    same bytes, as long as NumPy and SciPy stay the same.

    Args:
        folder: where to; must not exist, be empty, or belong to a run with the same arguments.
        labelmaps: folder of NIfTI label maps; a file's name is the subject's.
        table: the T1 signal of every label value, see `TissueContrast.from_table`.
        structures: name -> value in the label maps, or several values, which are written as the first. Values that are
            not named are imaged but written as 0, background.
        scanners: see `Scanner.seeing`; a scanner's name becomes that of its domain.
        first: how many training and validation subjects the first scanner has.
        following: the same of each later scanner.
        spacing_mm: isotropic voxel size of image and label.
        deviation: how far tissues deviate from the table from subject to subject, as a fraction of the standard
            deviation over subjects in it. That also holds what scanners differ by, hence less than 1; 0.3 is our
            choice. A subject deviates alike in every scanner, and values with the same row of numbers (left and
            right) deviate together.
        seed: of everything random, 0 or more.
        about: for `dataset.toml`.
        progress: called with the scans done and the scans in all.

    Returns:
        The folder.

    Raises:
        DataError: the folder holds something else; a label map or the table cannot be read; a value has no row in the
            table; a structure is in no label map, or a label map has none; there are too few label maps.
        ValueError: an argument outside its range.
    """
    folder, table = Path(folder), Path(table)
    about = about or About(folder.name, f"scans simulated as {folder.name}", modality="simulated T1-weighted MRI")
    named = structures_of(structures)
    _check_arguments(named, scanners, (first, following), spacing_mm, deviation, seed)
    maps = _maps(Path(labelmaps))
    contrast = _contrast(table)
    scans = _dealt(tuple(maps), scanners, (first, following), seed, Path(labelmaps))
    record = {
        "format": _FORMAT,
        "labelmaps": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in maps.items()},
        "table": hashlib.sha256(table.read_bytes()).hexdigest(),
        "structures": {name: list(values) for name, values in named.items()},
        "scanners": [repr(scanner) for scanner in scanners],
        "first": dict(first),
        "following": dict(following),
        "spacing_mm": float(spacing_mm),
        "deviation": float(deviation),
        "seed": seed,
        "about": asdict(about),
    }
    if not holds(folder, record):
        _check_maps(maps, named, contrast, table)
        folder.mkdir(parents=True, exist_ok=True)
        write_record(folder, record)
    site = _Site(folder, named, contrast, float(spacing_mm), deviation, seed)
    done = 0
    for name, path in maps.items():
        own = [scan for scan in scans if scan.subject == name]
        for _ in site.scan(path, own):
            done += 1
            if progress is not None:
                progress(done, len(scans))
    rows = [(scan.subject, scan.scanner, scan.split, scan.image, scan.label) for scan in scans]
    describe(folder, about, named, scanners, spacing_mm, rows)
    return folder


@dataclass(frozen=True)
class _Scan:
    """One subject in one scanner."""

    subject: str
    scanner: Scanner
    split: Split

    @property
    def image(self) -> str:
        return f"images/{self.scanner.name}/{self.subject}.nii.gz"

    @property
    def label(self) -> str:
        """The label map is that of the subject: the same in every scanner."""
        return f"labels/{self.subject}.nii.gz"


@dataclass(frozen=True, eq=False)
class _Site:
    """Where subjects are scanned, and how."""

    folder: Path
    structures: Mapping[str, tuple[int, ...]]
    contrast: TissueContrast
    spacing_mm: float
    deviation: float
    seed: int

    def scan(self, labelmap: Path, scans: Sequence[_Scan]) -> Iterator[_Scan]:
        """Writes the files of one subject that are not there yet."""
        files = [name for scan in scans for name in (scan.image, scan.label)]
        if all((self.folder / name).is_file() for name in files):
            yield from scans
            return
        anatomy = Anatomy.read(labelmap)
        factor = max(1, round(self.spacing_mm / min(anatomy.spacing_mm)))
        fine, affine = cut(anatomy, _values(self.structures), self.spacing_mm, factor)
        written = numbers_of(self.structures)
        for scan in scans:
            if not (self.folder / scan.label).is_file():
                # merged before the vote: what is not named stands together against a structure
                save_labels(self.folder / scan.label, majority(renumbered(fine, written), factor), affine)
            if not (self.folder / scan.image).is_file():
                voxel = self.spacing_mm / factor
                generator = _generator(self.seed, scan.subject, scan.scanner.name)
                volume = self._before(scan).image(fine, (voxel, voxel, voxel), generator, factor)
                save_image(self.folder / scan.image, volume, affine)
            yield scan

    def _before(self, scan: _Scan) -> Scanner:
        """The scanner with this subject's own tissues."""
        rows = sorted({(tissue.mean, tissue.between, tissue.within) for tissue in self.contrast.tissues.values()})
        drawn = _generator(self.seed, scan.subject).standard_normal(len(rows)).tolist()
        share = {row: self.deviation * number for row, number in zip(rows, drawn, strict=True)}
        seen = scan.scanner.seeing(self.contrast)
        tissues = {}
        for value, tissue in self.contrast.tissues.items():
            here = seen.contrast.tissues[value]
            apart = share[tissue.mean, tissue.between, tissue.within] * here.between
            tissues[value] = replace(here, mean=max(0.0, here.mean + apart), between=0.0)
        return replace(seen, contrast=TissueContrast(tissues))


def cut(anatomy: Anatomy, values: Sequence[int], spacing_mm: float, factor: int) -> tuple[Labels, NDArray[np.float64]]:
    """The part of a label map with these values and 12 mm around it, on a fine grid along its own axes.

    Where the fine voxels are those of the map, nothing is interpolated; else each takes the likeliest value.

    Args:
        anatomy: the label map.
        values: what must be inside.
        spacing_mm: isotropic voxel size of the image.
        factor: fine voxels along each axis in a voxel of the image.

    Returns:
        The fine label map, its shape a multiple of `factor`; and the affine of the image's voxels.
    """
    old = np.array(anatomy.spacing_mm)
    where = np.argwhere(np.isin(anatomy.labels, values))
    # mm along the axes of the map, from the outer face of its first voxel
    start = where.min(axis=0) * old - _MARGIN_MM
    extent = (where.max(axis=0) + 1) * old + _MARGIN_MM - start
    # rounded, because 1.6000000000000001 voxels of 1 mm are no reason for another
    shape = [math.ceil(length) for length in np.round(extent / spacing_mm, 6).tolist()]
    fine = spacing_mm / factor
    along = [
        (begin + (np.arange(n * factor) + 0.5) * fine) / voxel - 0.5
        for begin, n, voxel in zip(start, shape, old, strict=True)
    ]
    coordinates = np.stack(np.meshgrid(*along, indexing="ij")).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = anatomy.affine[:3, :3] / old * spacing_mm
    affine[:3, 3] = anatomy.affine[:3, 3] + anatomy.affine[:3, :3] @ ((start + spacing_mm / 2) / old - 0.5)
    return sampled(anatomy.labels, coordinates), affine


def _maps(folder: Path) -> dict[str, Path]:
    """The label maps in a folder, by subject."""
    found = sorted(path for path in folder.glob("*") if path.name.endswith(_SUFFIXES) and path.name[0] != ".")
    if not found:
        raise DataError([Problem(str(folder), "folder", "no label map", "give a folder of .nii.gz or .nii files")])
    maps: dict[str, Path] = {}
    for path in found:
        name = path.name.removesuffix(".gz").removesuffix(".nii")
        if name in maps:
            taken = f"subject {name} a second time"
            raise DataError([Problem(str(path), "name", taken, f"{maps[name].name} is there; remove one of the two")])
        maps[name] = path
    return maps


def _contrast(table: Path) -> TissueContrast:
    try:
        contrast = TissueContrast.from_table(table)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError([Problem(str(table), "file", str(error), "a readable CSV table goes here")]) from error
    problems = [
        Problem(str(table), f"value {value}", str(tissue), "mean and deviations are finite numbers, 0 or more")
        for value, tissue in contrast.tissues.items()
        if not all(0 <= number < math.inf for number in (tissue.mean, tissue.between, tissue.within))
    ]
    if 0 not in contrast.tissues:
        problems.append(Problem(str(table), "value", "no row with 0", "add one: what lies outside a label map is 0"))
    if problems:
        raise DataError(problems)
    return contrast


def _check_maps(
    maps: Mapping[str, Path], structures: Mapping[str, tuple[int, ...]], contrast: TissueContrast, table: Path
) -> None:
    problems: list[Problem] = []
    seen: set[int] = set()
    for path in maps.values():
        try:
            present = {int(value) for value in np.unique(Anatomy.read(path).labels)}
        except DataError as error:
            problems += error.problems
            continue
        seen |= present
        if unknown := sorted(present - set(contrast.tissues)):
            found = ", ".join(map(str, unknown))
            problems.append(Problem(str(path), "values", found, f"each needs a row in {table}; add them there"))
        if not present.intersection(_values(structures)):
            problems.append(Problem(str(path), "values", "no structure", f"one or more of {', '.join(structures)}"))
    if not problems:
        folder = str(next(iter(maps.values())).parent)
        problems = [
            Problem(folder, f"structure {name}", f"none of {list(values)} in any label map", "leave it out, or mend it")
            for name, values in structures.items()
            if not seen.intersection(values)
        ]
    if problems:
        raise DataError(problems)


def _check_arguments(
    structures: Mapping[str, tuple[int, ...]],
    scanners: Sequence[Scanner],
    counts: Sequence[Mapping[Split, int]],
    spacing_mm: float,
    deviation: float,
    seed: int,
) -> None:
    if not 0 < spacing_mm < math.inf or not 0 <= deviation < math.inf or seed < 0:
        raise ValueError(
            f"`spacing_mm` must be above 0, `deviation` and `seed` 0 or more; got {spacing_mm}, {deviation} and {seed}."
        )
    if not structures:
        raise ValueError("`structures` must name one or more, and give every structure values of its own; got none.")
    check_structures(structures)
    check_names(scanners)
    for argument, count in zip(("first", "following"), counts, strict=True):
        if set(count) != set(_OWN) or min(count.values()) < 1:
            raise ValueError(f"`{argument}` must give 1 or more subjects for train and for val; got {dict(count)}.")


def _dealt(
    subjects: Sequence[str],
    scanners: Sequence[Scanner],
    counts: tuple[Mapping[Split, int], Mapping[Split, int]],
    seed: int,
    folder: Path,
) -> list[_Scan]:
    """Who lies in which scanner, scanner by scanner and split by split; a subject is in one split only."""
    first, following = counts
    places = [
        (scanner, split)
        for index, scanner in enumerate(scanners)
        for split in _OWN
        for _ in range((following if index else first)[split])
    ]
    if len(subjects) <= len(places):
        allowed = f"{len(places) + 1} or more: {len(places)} for training and validation, and the others for the test"
        raise DataError([Problem(str(folder), "label maps", str(len(subjects)), allowed)])
    shuffled = [subjects[place] for place in _generator(seed).permutation(len(subjects))]
    scans = [_Scan(name, scanner, split) for name, (scanner, split) in zip(shuffled, places, strict=False)]
    scans += [_Scan(name, scanner, "test") for name in shuffled[len(places) :] for scanner in scanners]
    names = [scanner.name for scanner in scanners]
    return sorted(scans, key=lambda scan: (names.index(scan.scanner.name), SPLITS.index(scan.split), scan.subject))


def _generator(seed: int, *names: str) -> np.random.Generator:
    """Randomness of a seed and of who is scanned where, whatever else is scanned."""
    return np.random.default_rng([seed, *hashlib.sha256("/".join(names).encode()).digest()])


def _values(structures: Mapping[str, tuple[int, ...]]) -> list[int]:
    return [value for values in structures.values() for value in values]
