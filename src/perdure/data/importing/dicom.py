"""Any folder with DICOM files: series by patient, with the labels that refer to them.

Nothing that names a person leaves this module: subjects and cases become pseudonyms, files are listed apart, and an
error says which list it is about. Of the elements that describe a patient only PatientID is read, for the pseudonym.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.data.content import refusal
from perdure.data.dicom.instances import (
    Instance,
    instance_of,
    looks_like_dicom,
    no_image,
    quiet,
    read_dataset,
    reading,
)
from perdure.data.dicom.labels import Reference, reference
from perdure.data.dicom.series import assembled
from perdure.data.importing.found import Found, FoundCase, read_table
from perdure.data.manifest import structure_key
from perdure.data.places import LIST_SUFFIX, LISTS
from perdure.data.pseudonyms import pseudonym
from perdure.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

_TAGS = {
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "field_strength": "MagneticFieldStrength",
    "station": "StationName",
    "institution": "InstitutionName",
}
_LABELS = ("SEG", "RTSTRUCT")


@dataclass(frozen=True)
class Chosen:
    """What of a folder is wanted, and where its truth is.

    Args:
        modality: only series of this one.
        description: only series whose SeriesDescription has this in it.
        structures: name -> value of the classes in SEG and RTSTRUCT, or in label maps; all others are background. By
            default every structure is a class, numbered in alphabetical order.
        label_maps: a folder with NIfTI label maps called SERIESINSTANCEUID.nii.gz.
        classes: a table with columns `uid` (of an image, a series, a study, or a PatientID) and `class`.
    """

    modality: str | None = None
    description: re.Pattern[str] | None = None
    structures: Mapping[str, int] = field(default_factory=dict)
    label_maps: Path | None = None
    classes: Path | None = None


@dataclass(frozen=True)
class _Said:
    """What a file says of where it belongs; `patient` is issuer and PatientID."""

    modality: str
    series: str
    study: str
    patient: tuple[str, str]
    description: str
    tags: Mapping[str, str]
    no_image: bool

    @classmethod
    def of(cls, dataset: Dataset) -> _Said:
        """Reads the elements of a dataset."""

        def text(keyword: str) -> str:
            return str(dataset.get(keyword) or "")

        modality = text("Modality")
        tags = {tag: text(keyword) for tag, keyword in _TAGS.items() if text(keyword)}
        return cls(
            modality=modality,
            series=text("SeriesInstanceUID"),
            study=text("StudyInstanceUID"),
            patient=(text("IssuerOfPatientID"), text("PatientID")),
            description=text("SeriesDescription"),
            tags={**tags, "modality": modality},
            no_image=no_image(dataset),
        )


@dataclass
class _Group:
    """The files of one series, and whose it is: issuer and PatientID."""

    patients: set[tuple[str, str]] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    study: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    failure: str = ""


def find_dicom(
    source: Path,
    salt: bytes,
    chosen: Chosen | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Found:
    """Looks at every file of a folder and below it.

    Args:
        source: the folder.
        salt: of the pseudonyms that errors name.
        chosen: which series, and where their truth is.
        progress: told how many of how many files are read.

    Raises:
        DataError: there is no series with a label or class, or none that can be read.
    """
    chosen = chosen or Chosen()
    base = source.resolve()
    walk = _Walk(base, salt, chosen)
    files = sorted(file for file in base.rglob("*") if file.is_file() and not file.name.startswith("."))
    for done, file in enumerate(files, 1):
        walk.look(file)
        progress(done, len(files))
    root = base if chosen.label_maps is None else _common(base, chosen.label_maps.resolve())
    grades = _grades(chosen.classes)
    cases: list[FoundCase] = []
    for uid, group in walk.series.items():
        cases += walk.cases(uid, group, root, grades)
    if not cases:
        reasons = "; ".join([*dict.fromkeys(why for _, why in walk.failed.values()), *walk.left_out()])
        allowed = "SEG or RTSTRUCT in the folder, --labels, or --classes"
        raise refusal(source, f"no series that can be imported ({reasons or 'no DICOM file'})", allowed, "series")
    names = {structure_key(name) for case in cases for name in walk.structures.get(case.label_files, ())}
    if not chosen.structures and any(case.label for case in cases):
        allowed = "--label NAME=VALUE for each"
        raise refusal(chosen.label_maps or source, "no names of the values in label maps", allowed, "labels")
    labels = _label_set(chosen, sorted(names), sorted({case.grade for case in cases}))
    failed = {name: (_relative(root, files), why) for name, (files, why) in walk.failed.items()}
    return Found(
        source=root,
        task="classification" if chosen.classes else "segmentation",
        labels=labels,
        cases=cases,
        name="dicom",
        modality=", ".join(sorted(walk.modalities)),
        background_structures=tuple(sorted(names - set(map(structure_key, labels)))) if not chosen.classes else (),
        left_out=tuple(walk.left_out()),
        failed=failed,
    )


class _Walk:
    """All series of a folder, and all labels, by the series that they refer to."""

    def __init__(self, source: Path, salt: bytes, chosen: Chosen) -> None:
        self.source, self.salt, self.chosen = source, salt, chosen
        self.series: dict[str, _Group] = defaultdict(_Group)
        self.labels: dict[str, dict[Path, Reference]] = defaultdict(dict)
        self.structures: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.failed: dict[str, tuple[list[Path], str]] = {}
        self.modalities: set[str] = set()
        self._passed: Counter[str] = Counter()

    def look(self, file: Path) -> None:
        """Sorts one file in."""
        if file.name == "DICOMDIR" or not looks_like_dicom(file):
            self._passed["file(s) that are no DICOM"] += 1
            return
        place = Path(self._pseudonym(str(file.relative_to(self.source))))
        try:
            if not file.resolve().is_relative_to(self.source):
                raise refusal(place, "a link that leads out of the folder", "import the folder that the file is in")
            dataset = read_dataset(place, file, "file 1")
            with reading(place, "file 1"), quiet():
                said = _Said.of(dataset)
            if said.modality in _LABELS:
                made_on = reference(place, "file 1", dataset)
                self.labels[made_on.series][file] = made_on
            elif said.no_image:
                self._passed["DICOM file(s) without an image"] += 1
            elif self._is_wanted(said):
                self._add(file, said, dataset)
        except DataError as error:
            self._fail(place.name, [file], error)

    def _add(self, file: Path, said: _Said, dataset: Dataset) -> None:
        group = self.series[said.series]
        group.files.append(file)
        group.patients.add(said.patient)
        group.study = said.study
        group.tags |= said.tags
        try:
            called = f"file {len(group.files)}"
            group.instances.append(instance_of(self._list(said.series), file, called, dataset))
        except DataError as error:
            group.failure = group.failure or _reason(error)

    def _is_wanted(self, said: _Said) -> bool:
        if self.chosen.modality not in (None, said.modality):
            self._passed["file(s) of another modality"] += 1
        elif self.chosen.description is not None and not self.chosen.description.search(said.description):
            self._passed["file(s) of series with another description"] += 1
        else:
            return True
        return False

    def cases(self, uid: str, group: _Group, root: Path, grades: Mapping[str, str]) -> Iterator[FoundCase]:
        """The cases of one series: one of a volume, or one of each picture."""
        pictures = not group.failure and all(one.is_picture for one in group.instances)
        parts = [[i] for i in range(len(group.files))] if pictures else [list(range(len(group.files)))]
        for part in parts:
            files, instances = [group.files[i] for i in part], tuple(group.instances[i] for i in part if pictures)
            name = instances[0].uid if instances else uid
            place = self._list(name)
            try:
                # first, because a series that nobody labelled may be as odd as it likes
                truth = self._truth(uid, name if pictures else None, group, root, grades)
                if truth is None:
                    self._passed["series or picture(s) without a label or class"] += 1
                    continue
                if group.failure:
                    raise refusal(place, "a file that cannot be read", group.failure)
                series = assembled(place, instances or tuple(group.instances))
                if uid == "" or len(group.patients) > 1 or "" in {patient for _, patient in group.patients}:
                    found = "several patients" if len(group.patients) > 1 else "no PatientID or SeriesInstanceUID"
                    raise refusal(place, found, "whose it is has to be known, or splits would mix people", "PatientID")
            except DataError as error:
                self._fail(place.name.removesuffix(LIST_SUFFIX), files, error)
                continue
            in_order = [one.instance.file for one in series.slices] or files
            self.modalities.add(group.tags["modality"])
            who = "\0".join(next(iter(group.patients)))
            yield replace(truth, subject=who, name=name, tags=group.tags, image_files=_relative(root, in_order))

    def _truth(
        self, uid: str, picture: str | None, group: _Group, root: Path, grades: Mapping[str, str]
    ) -> FoundCase | None:
        """The label or class of a series, or of one picture in it, as a case with nothing else; None if it has none."""
        if self.chosen.classes is not None:
            keys = (picture, uid, group.study, *(patient for _, patient in group.patients))
            found = [grades[key] for key in keys if key is not None and key in grades]
            return FoundCase("", "", grade=found[0]) if found else None
        maps = [] if self.chosen.label_maps is None else self._maps(uid)
        references = self.labels.get(uid, {})
        files = [file for file, made_on in references.items() if picture is None or picture in made_on.images]
        if len(maps) + len(files) > 1:
            raise refusal(self._list(uid), f"{len(maps) + len(files)} labels", "one label a series", "labels")
        if maps:
            return FoundCase("", "", label=_relative(root, maps)[0])
        if not files:
            return None
        listed = _relative(root, files)
        self.structures[listed] = references[files[0]].structures
        return FoundCase("", "", label_files=listed)

    def _maps(self, uid: str) -> list[Path]:
        folder = self.chosen.label_maps
        assert folder is not None
        files = (folder / f"{uid}{ending}" for ending in (".nii.gz", ".nii", ".mgz"))
        return [file for file in files if re.fullmatch(r"[0-9.]+", uid) and file.is_file()]

    def left_out(self) -> list[str]:
        """What is in the folder and was passed over, with its number."""
        unknown = sum(len(files) for uid, files in self.labels.items() if uid not in self.series)
        more = Counter({"label(s) of series that are not here": unknown})
        return [f"{number} {what}" for what, number in sorted((self._passed + more).items())]

    def _pseudonym(self, text: str) -> str:
        return pseudonym(self.salt, "refused", text)

    def _list(self, uid: str) -> Path:
        return Path(LISTS) / f"{self._pseudonym(uid)}{LIST_SUFFIX}"

    def _fail(self, name: str, files: list[Path], error: DataError) -> None:
        self.failed[name] = (files, _reason(error))


def _reason(error: DataError) -> str:
    return "; ".join(f"{problem.field}: {problem.found}; {problem.allowed}" for problem in error.problems)


def _grades(table: Path | None) -> dict[str, str]:
    if table is None:
        return {}
    rows = read_table(table)
    if not rows or not {"uid", "class"} <= set(rows[0]):
        raise refusal(table, "no columns uid and class", "one row an image, series, study or patient", "columns")
    if not all(row["uid"] and row["class"] for row in rows):
        raise refusal(table, "an empty cell under uid or class", "fill it, or remove the row", "rows")
    grades: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if grades.setdefault(row["uid"], row["class"]) != row["class"]:
            raise refusal(table, f"line {number}, a uid with another class before", "each uid has one class", "uid")
    return grades


def _label_set(chosen: Chosen, names: list[str], grades: list[str]) -> dict[str, int | list[int]]:
    if chosen.classes is not None:
        if len(grades) < 2:
            raise refusal(chosen.classes, "one class only", "a classification tells two or more apart", "class")
        numbers = all(grade.isdigit() for grade in grades)
        return {grade: int(grade) if numbers else place for place, grade in enumerate(grades)}
    if chosen.structures:
        background = {} if 0 in chosen.structures.values() else {"background": 0}
        return {**background, **chosen.structures}
    others = [name for name in names if name != "background"]
    return {"background": 0, **{name: number for number, name in enumerate(others, 1)}}


def _common(source: Path, labels: Path) -> Path:
    """The folder that holds both, which the manifest's paths are relative to then."""
    common = Path(os.path.commonpath([source, labels]))
    if common == Path(common.anchor):
        raise refusal(labels, "no folder that holds the images too", "put both into one folder", "--labels")
    return common


def _relative(root: Path, files: Iterable[Path]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(file.relative_to(root).as_posix() for file in files))
