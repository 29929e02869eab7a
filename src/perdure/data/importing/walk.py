"""Which series and labels are in a folder with DICOM files, and whose they are."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.data.content import refusal
from perdure.data.dicom.instances import Instance, instance_of
from perdure.data.dicom.labels import Reference, is_by_perdure, reference
from perdure.data.dicom.opening import (
    is_cut_short,
    is_of_another_kind,
    looks_like_dicom,
    quiet,
    read_dataset,
    reading,
)
from perdure.data.importing.said import Said
from perdure.data.listing import is_file_or_lost
from perdure.data.manifest import structure_key
from perdure.data.places import LIST_SUFFIX, LISTS
from perdure.data.pseudonyms import pseudonym
from perdure.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

_NO_DICOM = "file(s) that are no DICOM"
_COPIES = "file(s) that are a copy of another, byte by byte"
_LABELS = ("SEG", "RTSTRUCT")


@dataclass(frozen=True)
class Chosen:
    """What of a folder is wanted, and where its truth is.

    Args:
        modality: only series of this one.
        description: only series whose SeriesDescription has this in it.
        label_description: only SEG and RTSTRUCT whose SeriesDescription has this in it.
        own_labels: whether a SEG that Perdure made counts as truth.
        structures: name -> value of the classes. Of those in SEG and RTSTRUCT all others are background, and by default
            every one is a class, numbered in alphabetical order. In label maps every value but 0 has to be named.
        label_maps: a folder with NIfTI label maps called SERIESINSTANCEUID.nii.gz.
        classes: a table with columns `uid` (of an image, a series, a study, or a PatientID) and `class`.
    """

    modality: str | None = None
    description: re.Pattern[str] | None = None
    label_description: re.Pattern[str] | None = None
    own_labels: bool = False
    structures: Mapping[str, int] = field(default_factory=dict)
    label_maps: Path | None = None
    classes: Path | None = None


@dataclass
class Group:
    """The files of one series, whose it is (issuer and PatientID), and which files are byproducts, and why."""

    patients: set[tuple[str, str]] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    study: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    failure: str = ""
    byproducts: dict[Path, str] = field(default_factory=dict)


class Walk:
    """All series of a folder, and all labels, by the series that they refer to."""

    def __init__(self, source: Path, salt: bytes, chosen: Chosen) -> None:
        self.source, self.salt, self.chosen = source, salt, chosen
        self.series: dict[str, Group] = defaultdict(Group)
        self.labels: dict[str, dict[Path, Reference]] = defaultdict(dict)
        self.failed: dict[str, tuple[list[Path], str]] = {}
        self.passed: Counter[str] = Counter()
        self.notes: list[str] = []
        self.unread: Counter[Path] = Counter()  # DICOM files, by folder
        self._series_in: dict[Path, set[str]] = defaultdict(set)
        self._first: dict[str, Path] = {}  # file of each SOPInstanceUID
        self._digests: dict[str, set[str]] = {}  # of the files of a SOPInstanceUID that several have
        self._endings: dict[Path, set[str]] = defaultdict(set)  # of DICOM files, by folder
        self._others: list[Path] = []

    def files(self) -> list[Path]:
        """All files in the folder and below it, links to nothing among them; not those in folders that are links."""

        def fail(error: OSError) -> None:
            place = self._place(Path(error.filename))
            problem = refusal(place, "a folder that cannot be read", "mend its permissions")
            self.fail(place.name, [Path(error.filename)], problem)

        found = []
        for where, folders, names in os.walk(self.source, onerror=fail):
            self.passed["folder(s) that are links"] += sum(Path(where, name).is_symlink() for name in folders)
            found += [Path(where, name) for name in names if not name.startswith(".")]
        return sorted(file for file in found if is_file_or_lost(file))

    def look(self, file: Path) -> None:
        """Sorts one file in."""
        if file.name == "DICOMDIR":
            self.passed[_NO_DICOM] += 1
            return
        if not looks_like_dicom(file):
            self._others.append(file)
            return
        place = self._place(file)
        try:
            # not Path.resolve, which takes no link that leads to itself
            if not Path(os.path.realpath(file)).is_relative_to(self.source):
                self.unread[file.parent] += 1
                raise refusal(place, "a link that leads out of the folder", "import the folder that the file is in")
            dataset, said = self._opened(place, file)
            if said.modality in _LABELS:
                self._add_label(place, file, said, dataset)
            elif said.no_image:
                self.passed["DICOM file(s) without an image"] += 1
            elif self._is_wanted(said):
                self._add(file, said, dataset)
        except DataError as error:
            self.fail(place.name, [file], error)

    def _opened(self, place: Path, file: Path) -> tuple[Dataset, Said]:
        try:
            dataset = read_dataset(place, file, "file 1")
            with reading(place, "file 1"), quiet():
                if is_cut_short(dataset):
                    found = "file 1, which ends before it says what series it belongs to"
                    raise refusal(place, found, "the file is damaged: fetch it again", "SeriesInstanceUID")
                said = Said.of(dataset)
        except DataError:
            self.unread[file.parent] += 1
            raise
        self._endings[file.parent].add(_ending(file))
        return dataset, said

    def end(self) -> None:
        """Says what only all files together say: which of them are damaged, and who has which PatientID."""
        self._tell_damaged()
        self._tell_patients()

    def _tell_damaged(self) -> None:
        """Tells damaged files from those of another kind, when it is known in which folders DICOM files are."""
        for file in self._others:
            endings = self._endings.get(file.parent)
            if endings is None or _ending(file) not in {"", *endings} or is_of_another_kind(file):
                self.passed[_NO_DICOM] += 1
                continue
            self.unread[file.parent] += 1
            found = "file 1, which is empty, unreadable or damaged and lies beside DICOM files"
            allowed = "it may be one of them: fetch it again, or remove it"
            self.fail(self._place(file).name, [file], refusal(self._place(file), found, allowed))

    def _tell_patients(self) -> None:
        """Gives a PatientID without an issuer the one that it has elsewhere in the folder, if that is one."""
        issuers: dict[str, set[str]] = defaultdict(set)
        for issuer, patient in (who for group in self.series.values() for who in group.patients):
            issuers[patient] |= {issuer} - {""}
        for group in self.series.values():
            group.patients = {
                (next(iter(issuers[patient])) if len(issuers[patient]) == 1 else issuer, patient)
                for issuer, patient in group.patients
            }
        if several := sum(len(of) > 1 for patient, of in issuers.items() if patient):
            self.notes.append(
                f"{several} PatientID(s) have several issuers: that of each is taken for another person, and so is "
                "one without an issuer. If they are one person, who may be in train and in test then, give all files "
                "the same issuer."
            )

    def _place(self, file: Path) -> Path:
        return Path(self._pseudonym(str(file.relative_to(self.source))))

    def unread_beside(self, uid: str) -> int:
        """How many files that could not be read may be slices of a series: they lie in a folder with no other."""
        return sum(number for folder, number in self.unread.items() if self._series_in[folder] == {uid})

    def _is_copy(self, file: Path, uid: str) -> bool:
        """Whether a file before had this SOPInstanceUID and the same bytes; such a file is counted."""
        first = self._first.setdefault(uid, file)
        if first == file:
            return False
        try:
            known = self._digests.get(uid) or {_digest(first)}
            own = _digest(file)
        except OSError:  # unknown, so that both stay
            return False
        is_copy = own in known
        self.passed[_COPIES] += is_copy
        known.add(own)
        self._digests[uid] = known
        return is_copy

    def _add(self, file: Path, said: Said, dataset: Dataset) -> None:
        self._series_in[file.parent].add(said.series)
        if self._is_copy(file, said.uid):
            return
        group = self.series[said.series]
        group.files.append(file)
        group.patients.add(said.patient)
        group.study = said.study
        group.tags |= said.tags
        if said.byproduct:
            group.byproducts[file] = said.byproduct
        try:
            called = f"file {len(group.files)}"
            group.instances.append(instance_of(self.listed(said.series), file, called, dataset))
        except DataError as error:
            group.failure = group.failure or _reason(error)

    def _add_label(self, place: Path, file: Path, said: Said, dataset: Dataset) -> None:
        pattern = self.chosen.label_description
        with reading(place, "file 1"), quiet():
            is_own = is_by_perdure(dataset)
        if is_own and not self.chosen.own_labels:
            self.passed["segmentation(s) that Perdure made (--own-labels takes them)"] += 1
        elif pattern is not None and not pattern.search(said.description):
            self.passed["label(s) with another description"] += 1
        elif not self._is_copy(file, said.uid):
            made_on = reference(place, "file 1", dataset)
            self.labels[made_on.series][file] = made_on

    def _is_wanted(self, said: Said) -> bool:
        if self.chosen.modality not in (None, said.modality):
            self.passed["file(s) of another modality"] += 1
        elif self.chosen.description is not None and not self.chosen.description.search(said.description):
            self.passed["file(s) of series with another description"] += 1
        else:
            return True
        return False

    def structures(self) -> set[str]:
        """The keys of all structures that SEG and RTSTRUCT of the series here name."""
        named = [made_on.structures for uid in self.series for made_on in self.labels.get(uid, {}).values()]
        return {structure_key(name) for names in named for name in names}

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
        """Notes what cannot be imported, all files of one name together."""
        before, _ = self.failed.get(name, ([], ""))
        self.failed[name] = ([*before, *files], _reason(error))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _ending(file: Path) -> str:
    """`.dcm`, `.ima` ...; none of a name that ends in a UID or in a number."""
    return file.suffix.lower() if re.fullmatch(r"\.[A-Za-z]\w{0,7}", file.suffix) else ""


def _reason(error: DataError) -> str:
    return "; ".join(f"{problem.field}: {problem.found}; {problem.allowed}" for problem in error.problems)
