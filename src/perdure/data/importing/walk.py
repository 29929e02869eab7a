"""Which series and labels are in a folder with DICOM files, and whose they are."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.data.content import refusal
from perdure.data.dicom.instances import Instance, instance_of
from perdure.data.dicom.labels import Reference, reference
from perdure.data.dicom.opening import looks_like_dicom, no_image, quiet, read_dataset, reading
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
        structures: name -> value of the classes. Of those in SEG and RTSTRUCT all others are background, and by default
            every one is a class, numbered in alphabetical order. In label maps every value but 0 has to be named.
        label_maps: a folder with NIfTI label maps called SERIESINSTANCEUID.nii.gz.
        classes: a table with columns `uid` (of an image, a series, a study, or a PatientID) and `class`.
    """

    modality: str | None = None
    description: re.Pattern[str] | None = None
    structures: Mapping[str, int] = field(default_factory=dict)
    label_maps: Path | None = None
    classes: Path | None = None


@dataclass(frozen=True)
class Said:
    """What a file says of where it belongs; `patient` is issuer and PatientID."""

    modality: str
    series: str
    study: str
    patient: tuple[str, str]
    description: str
    tags: Mapping[str, str]
    no_image: bool

    @classmethod
    def of(cls, dataset: Dataset) -> Said:
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
class Group:
    """The files of one series, and whose it is: issuer and PatientID."""

    patients: set[tuple[str, str]] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    study: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    failure: str = ""


class Walk:
    """All series of a folder, and all labels, by the series that they refer to."""

    def __init__(self, source: Path, salt: bytes, chosen: Chosen) -> None:
        self.source, self.salt, self.chosen = source, salt, chosen
        self.series: dict[str, Group] = defaultdict(Group)
        self.labels: dict[str, dict[Path, Reference]] = defaultdict(dict)
        self.failed: dict[str, tuple[list[Path], str]] = {}
        self.passed: Counter[str] = Counter()

    def look(self, file: Path) -> None:
        """Sorts one file in."""
        if file.name == "DICOMDIR" or not looks_like_dicom(file):
            self.passed["file(s) that are no DICOM"] += 1
            return
        place = Path(self._pseudonym(str(file.relative_to(self.source))))
        try:
            if not file.resolve().is_relative_to(self.source):
                raise refusal(place, "a link that leads out of the folder", "import the folder that the file is in")
            dataset = read_dataset(place, file, "file 1")
            with reading(place, "file 1"), quiet():
                said = Said.of(dataset)
            if said.modality in _LABELS:
                made_on = reference(place, "file 1", dataset)
                self.labels[made_on.series][file] = made_on
            elif said.no_image:
                self.passed["DICOM file(s) without an image"] += 1
            elif self._is_wanted(said):
                self._add(file, said, dataset)
        except DataError as error:
            self.fail(place.name, [file], error)

    def _add(self, file: Path, said: Said, dataset: Dataset) -> None:
        group = self.series[said.series]
        group.files.append(file)
        group.patients.add(said.patient)
        group.study = said.study
        group.tags |= said.tags
        try:
            called = f"file {len(group.files)}"
            group.instances.append(instance_of(self.listed(said.series), file, called, dataset))
        except DataError as error:
            group.failure = group.failure or _reason(error)

    def _is_wanted(self, said: Said) -> bool:
        if self.chosen.modality not in (None, said.modality):
            self.passed["file(s) of another modality"] += 1
        elif self.chosen.description is not None and not self.chosen.description.search(said.description):
            self.passed["file(s) of series with another description"] += 1
        else:
            return True
        return False

    def left_out(self) -> list[str]:
        """What is in the folder and was passed over, with its number."""
        unknown = sum(len(files) for uid, files in self.labels.items() if uid not in self.series)
        more = Counter({"label(s) of series that are not here": unknown})
        return [f"{number} {what}" for what, number in sorted((self.passed + more).items())]

    def _pseudonym(self, text: str) -> str:
        return pseudonym(self.salt, "refused", text)

    def listed(self, uid: str) -> Path:
        """The list that errors about a series or a picture name."""
        return Path(LISTS) / f"{self._pseudonym(uid)}{LIST_SUFFIX}"

    def fail(self, name: str, files: list[Path], error: DataError) -> None:
        """Notes what cannot be imported."""
        self.failed[name] = (files, _reason(error))


def _reason(error: DataError) -> str:
    return "; ".join(f"{problem.field}: {problem.found}; {problem.allowed}" for problem in error.problems)
