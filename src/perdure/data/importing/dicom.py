"""Any folder with DICOM files: series by patient, with the labels that refer to them.

Nothing that names a person leaves this import: subjects and cases become pseudonyms, files are listed apart, and an
error says which list it is about. Of the elements that describe a patient only PatientID is read, for the pseudonym.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from perdure.data.content import refusal
from perdure.data.dicom.labels import check_dicom_labels
from perdure.data.dicom.series import Series, assembled
from perdure.data.importing.found import Found, FoundCase, read_table
from perdure.data.importing.walk import Chosen, Group, Walk
from perdure.data.manifest import structure_key
from perdure.data.places import LIST_SUFFIX
from perdure.errors import DataError

_MAPS = (".nii.gz", ".nii", ".mgz")
_WITHOUT = "series or picture(s) without a label or class"


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
        DataError: a folder or table that was named is not there; `--structure` names what no label has; there is no
            series with a label or class, or none that can be read.
    """
    chosen = chosen or Chosen()
    if chosen.label_maps is not None:
        # as the source, or no path in it would be relative to the folder that holds both
        chosen = replace(chosen, label_maps=chosen.label_maps.resolve())
    grades = _checked(source, chosen)  # first, because looking at all files of a large export takes hours
    base = source.resolve()
    walk = Walk(base, salt, chosen)
    files = walk.files()
    for done, file in enumerate(files, 1):
        walk.look(file)
        progress(done, len(files))
    walk.end()
    root = base if chosen.label_maps is None else _common(base, chosen.label_maps)
    made = _Cases(walk, root, grades)
    cases = [case for uid, group in walk.series.items() for case in made.of(uid, group)]
    made.count_unused()
    if not cases:
        reasons = "; ".join([*dict.fromkeys(why for _, why in walk.failed.values()), *walk.left_out()])
        allowed = "SEG or RTSTRUCT in the folder, --labels, or --classes"
        raise refusal(source, f"no series that can be imported ({reasons or 'no DICOM file'})", allowed, "series")
    times, of = made.named_in(cases)
    names = set(times)
    if not any(case.label for case in cases):  # what a label map calls its values, only the user knows
        _check_names(source, chosen.structures, walk.structures())
    labels = _label_set(chosen, sorted(names), sorted({case.grade for case in cases}))
    failed = {name: (_relative(root, files), why) for name, (files, why) in walk.failed.items()}
    return Found(
        source=root,
        task="classification" if chosen.classes else "segmentation",
        labels=labels,
        cases=cases,
        name="dicom",
        modality=", ".join(sorted(made.modalities)),
        background_structures=tuple(sorted(names - set(map(structure_key, labels)))) if not chosen.classes else (),
        left_out=tuple(walk.left_out()),
        structures={name: {"labels": times[name], "of": of} for name in sorted(names - {""})},
        notes=(*walk.notes, *_incomplete(labels, times, of)),
        failed=failed,
    )


class _Cases:
    """Makes cases of the series in a folder that have a label or class."""

    def __init__(self, walk: Walk, root: Path, grades: Mapping[str, str]) -> None:
        self.walk, self.root, self.grades = walk, root, grades
        self.structures: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.modalities: set[str] = set()
        self.used: set[str] = set()  # of the uids in the table of classes
        # studies and patients with images that were taken to be read: the class is of those
        self.own_images = {
            key
            for group in walk.series.values()
            if len(group.byproducts) < len(group.files)
            for key in (group.study, *(patient for _, patient in group.patients))
        }
        every = (one for group in walk.series.values() for one in group.instances)
        self.times = Counter(one.uid or one.series for one in every if one.is_picture)

    def of(self, uid: str, group: Group) -> Iterator[FoundCase]:
        """The cases of one series: one of a volume, or one of each picture."""
        pictures = not group.failure and all(one.is_picture for one in group.instances)
        parts = [[i] for i in range(len(group.files))] if pictures else [list(range(len(group.files)))]
        for part in parts:
            files, instances = [group.files[i] for i in part], tuple(group.instances[i] for i in part if pictures)
            name = (instances[0].uid if instances else "") or uid
            place = self.walk.listed(name)
            try:
                # first, because a series that nobody labelled may be as odd as it likes
                truth = self._truth(uid, name if pictures else None, group, files)
                if isinstance(truth, str):
                    self.walk.passed[truth] += 1
                    continue
                if pictures and self.times[name] > 1:
                    found = f"{self.times[name]} files with the same one, or none, and different content"
                    raise refusal(place, found, "each image has its own: mend or remove all but one", "SOPInstanceUID")
                if group.failure:
                    raise refusal(place, "a file that cannot be read", group.failure)
                series = assembled(place, instances or tuple(group.instances))
                if not pictures and (unread := self.walk.unread_beside(uid)):
                    found = f"{unread} file(s) in its folder that cannot be read"
                    raise refusal(place, found, "they may be slices of it: mend, or remove, each", "slices")
                if len(group.patients) > 1 or "" in {patient for _, patient in group.patients}:
                    found = "several patients" if len(group.patients) > 1 else "no PatientID"
                    raise refusal(place, found, "whose it is has to be known, or splits would mix people", "PatientID")
                if truth.label_files:
                    files = [*files, *(self.root / name for name in truth.label_files)]
                    self._check_label(
                        place, files[-1], f"file {len(files)}", series, self.structures[truth.label_files]
                    )
            except DataError as error:
                self.walk.fail(place.name.removesuffix(LIST_SUFFIX), files, error)
                continue
            in_order = [one.instance.file for one in series.slices] or [one.file for one in series.instances]
            self.modalities.add(group.tags["modality"])
            who = "\0".join(next(iter(group.patients)))
            yield replace(truth, subject=who, name=name, tags=group.tags, image_files=_relative(self.root, in_order))

    def _truth(self, uid: str, picture: str | None, group: Group, own: list[Path]) -> FoundCase | str:
        """The label or class of a series, or of one picture in it, as a case with nothing else; or why it has none."""
        if self.walk.chosen.classes is not None:
            keys = (picture, uid, group.study, *(patient for _, patient in group.patients))
            found = [key for key in keys if key is not None and key in self.grades]
            self.used.update(found)
            if found and found[0] in self.own_images and all(file in group.byproducts for file in own):
                return group.byproducts[own[0]]
            return FoundCase("", "", grade=self.grades[found[0]]) if found else _WITHOUT
        maps = [] if self.walk.chosen.label_maps is None else self._maps(uid)
        references = self.walk.labels.get(uid, {})
        files = [file for file, made_on in references.items() if picture is None or picture in made_on.images]
        if len(maps) + len(files) > 1:
            allowed = "one label a series; choose among SEG and RTSTRUCT by --label-description"
            raise refusal(self.walk.listed(uid), f"{len(maps) + len(files)} labels", allowed, "labels")
        if maps:
            if not maps[0].resolve().is_relative_to(self.root):
                allowed = "put a copy of the file in its place"
                raise refusal(self.walk.listed(uid), "a label map that is a link out of the folder", allowed, "labels")
            return FoundCase("", "", label=_relative(self.root, maps)[0])
        if not files:
            return _WITHOUT
        listed = _relative(self.root, files)
        self.structures[listed] = references[files[0]].structures
        return FoundCase("", "", label_files=listed)

    def named_in(self, cases: Iterable[FoundCase]) -> tuple[Counter[str], int]:
        """How many of the SEG and RTSTRUCT of these cases name each structure, by its key, and how many they are."""
        labels = {case.label_files for case in cases if case.label_files}
        return Counter(key for label in labels for key in set(map(structure_key, self.structures[label]))), len(labels)

    def count_unused(self) -> None:
        """Counts truths that belong to nothing in the folder, after all cases were made."""
        self.walk.passed["row(s) of --classes with a uid that is not here"] += len(self.grades.keys() - self.used)
        folder = self.walk.chosen.label_maps
        names = [] if folder is None else [file.name for file in folder.iterdir()]
        uids = {name.removesuffix(ending) for name in names for ending in _MAPS if name.endswith(ending)}
        self.walk.passed["label map(s) that are not called after a series here"] += len(uids - self.walk.series.keys())

    def _check_label(self, place: Path, file: Path, called: str, series: Series, names: Iterable[str]) -> None:
        """Refuses what training could not read, as far as the header says so."""
        classes = self.walk.chosen.structures
        if classes:
            wanted = {structure_key(name) for name, value in classes.items() if value}
        else:
            wanted = {structure_key(name) for name in names} - {"background"}
        if "" in wanted:
            allowed = "name it, or choose classes by --structure; all other structures are background"
            raise refusal(
                place, f"a structure in {called} without a letter or digit in its name", allowed, "structures"
            )
        check_dicom_labels(place, file, called, series, wanted)

    def _maps(self, uid: str) -> list[Path]:
        folder = self.walk.chosen.label_maps
        assert folder is not None
        files = (folder / f"{uid}{ending}" for ending in _MAPS)
        return [file for file in files if re.fullmatch(r"[0-9.]+", uid) and file.is_file()]


def _checked(source: Path, chosen: Chosen) -> dict[str, str]:
    """The classes in a table, after a look whether all that was named is there and can be."""
    for folder, called in ((source, "SRC"), (chosen.label_maps, "--labels")):
        if folder is not None and not folder.is_dir():
            found = "a file" if folder.exists() else "no such folder"
            raise refusal(folder, found, "name a folder; is the path right?", called)
    if chosen.label_maps is not None and not chosen.structures:
        allowed = "--structure NAME=VALUE for each"
        raise refusal(chosen.label_maps, "no names of the values in label maps", allowed, "labels")
    times = Counter(structure_key(name) for name in chosen.structures)
    if odd := [name for name in chosen.structures if (key := structure_key(name)) == "" or times[key] > 1]:
        allowed = "each has a letter or digit, and more than case, spaces and punctuation tells it from others"
        raise refusal(source, ", ".join(map(repr, odd)), allowed, "--structure")
    return _grades(chosen.classes)


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
    _check_several(table, set(grades.values()))
    return grades


def _check_several(table: Path, grades: Collection[str]) -> None:
    if len(grades) < 2:
        raise refusal(table, "one class only", "a classification tells two or more apart", "class")


def _check_names(source: Path, structures: Mapping[str, int], present: set[str]) -> None:
    """Refuses classes that no label has: under a mistyped name the structure itself would be background."""
    keys = {name: structure_key(name) for name, value in structures.items() if value}
    if unknown := sorted(name for name, key in keys.items() if key not in present):
        allowed = f"the labels here name {', '.join(sorted(present - {''})) or 'none'}"
        raise refusal(source, f"no structure {', '.join(map(repr, unknown))}", allowed, "--structure")


def _incomplete(labels: Mapping[str, int | list[int]], times: Mapping[str, int], of: int) -> list[str]:
    """A note on classes that some labels do not name: "Leber" in one of them, where all others say "Liver"."""
    classes = sorted(structure_key(name) for name, value in labels.items() if value)
    some = [name for name in classes if times.get(name, 0) < of]
    note = (
        f"{', '.join(some)}: not in every label. Where one is missing, it may be there under another name, or not be "
        "drawn; what is not drawn is learnt as background. Give one structure one name in all labels."
    )
    return [note] if some else []


def _label_set(chosen: Chosen, names: list[str], grades: list[str]) -> dict[str, int | list[int]]:
    if chosen.classes is not None:
        _check_several(chosen.classes, grades)
        if all(grade.isdigit() for grade in grades):
            return {grade: int(grade) for grade in sorted(grades, key=int)}
        return {grade: place for place, grade in enumerate(grades)}
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
