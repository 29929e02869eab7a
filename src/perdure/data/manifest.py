"""What stands in a dataset folder: `dataset.toml` and `manifest.csv`, as they were written."""

from __future__ import annotations

import csv
import math
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator

from perdure.data.splitting import split_subjects
from perdure.errors import DataError, Problem
from perdure.types import IGNORED, Structure, Task, unprintable_in

Value = Annotated[StrictInt, Field(ge=0, le=65535)]

_SIDES = ("left_", "right_")
_BEYOND = "(beyond the header)"
_COLUMNS = ("id", "subject", "domain", "split", "image", "label", "class")


def _fractions(fractions: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError("fractions of train, val and test must be at least 0 and add up to 1")
    return fractions


class Splitting(BaseModel):
    """How a manifest without splits is split, by subject.

    Args:
        fractions: of the subjects, for train, val and test.
        seed: which of the many ways.
        stratify: whether each class has its share in each split (classification).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fractions: Annotated[tuple[float, float, float], AfterValidator(_fractions)] = (0.7, 0.2, 0.1)
    seed: int = Field(default=0, ge=0)
    stratify: bool = True


class Description(BaseModel):
    """What `dataset.toml` says; an unknown key is an error.

    Args:
        name: of the dataset.
        task: `segmentation` or `classification`.
        labels: the name of each class and the value, or values, that mean it in label files or in the class column. In
            a segmentation one class has the value 0: the background.
        title: one line for people.
        modality: free text.
        domains: their names, in order; without it, those of the manifest in the order in which they come.
        licence: free text.
        citation: free text.
        spacing: mm, of the grid on which volumes are worked on unless a contract says otherwise; one number or three.
        ordinal: whether the classes of a classification are grades in order.
        ignore_outside: a manifest column with mask files; pixels where the mask is 0 do not count.
        ignore_values: values in label files that do not count.
        background_structures: names of segments (DICOM SEG) or regions (RTSTRUCT) that are background here.
        source: the folder that images and labels are in, relative to the data folder; without it, the data folder. See
            `perdure.data.places`.
        splitting: how a manifest without splits is split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    task: Task
    labels: dict[str, Value | list[Value]] = Field(min_length=2, max_length=IGNORED)
    title: str = ""
    modality: str = ""
    domains: tuple[str, ...] | None = None
    licence: str = ""
    citation: str = ""
    spacing: tuple[float, float, float] | None = None
    ordinal: bool = False
    ignore_outside: str | None = None
    ignore_values: tuple[Value, ...] = ()
    background_structures: tuple[str, ...] = ()
    source: str | None = Field(default=None, min_length=1)
    splitting: Splitting = Splitting()

    @model_validator(mode="before")
    @classmethod
    def _one_spacing_for_all_axes(cls, fields: object) -> object:
        if isinstance(fields, dict) and isinstance(fields.get("spacing"), int | float):
            return {**fields, "spacing": (fields["spacing"],) * 3}
        return fields

    @model_validator(mode="after")
    def _is_consistent(self) -> Description:
        values = [value for structure in self.structures() for value in structure.values]
        if twice := sorted(value for value, count in Counter(values).items() if count > 1):
            raise ValueError(f"labels: a value may mean one thing only; {twice} stand there twice")
        if self.task == "segmentation" and 0 not in values:
            raise ValueError("labels: one label must have the value 0, the background; add `background = 0`")
        if both := sorted(set(values) & set(self.ignore_values)):
            raise ValueError(f"ignore_values: {both} are labels too; take them out of one of the two")
        if self.ignore_outside is not None and self.task != "segmentation":
            raise ValueError("ignore_outside: masks are for a segmentation; remove the key")
        if self.spacing is not None and not all(0 < length < math.inf for length in self.spacing):
            raise ValueError(f"spacing must be one or three positive lengths in mm; got {self.spacing}")
        return self

    def structures(self, *, merge_sides: bool = False) -> tuple[Structure, ...]:
        """The classes in order, the background of a segmentation first.

        Args:
            merge_sides: whether `left_X` and `right_X`, where both exist, become one class `X`.
        """
        classes: dict[str, list[int]] = {}
        for name, value in self.labels.items():
            merged = merge_sides and all(side + base_name(name) in self.labels for side in _SIDES)
            values = [value] if isinstance(value, int) else value
            classes.setdefault(base_name(name) if merged else name, []).extend(values)
        structures = [Structure(name=name, values=tuple(values)) for name, values in classes.items()]
        if self.task == "segmentation":
            structures.sort(key=lambda structure: 0 not in structure.values)
        return tuple(structures)

    def structure_values(self) -> Mapping[str, int]:
        """What each structure that a DICOM SEG or RTSTRUCT may name is in a label map, by `structure_key`.

        A class with several values has the first of them. Names that differ only in what does not count are not there.
        """
        named = [(structure_key(structure.name), structure.values[0]) for structure in self.structures()]
        named += [(key, 0) for key in dict.fromkeys(map(structure_key, self.background_structures))]
        times = Counter(key for key, _ in named)
        return {key: value for key, value in named if times[key] == 1}


def structure_key(name: str) -> str:
    """A name without what does not count in it: "Left Kidney" is `left_kidney`."""
    # an "a" with two dots is one letter, or a letter and a mark: which, depends on the system that wrote it
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFC", name).casefold()).strip("_")


def base_name(name: str) -> str:
    """The name of a structure without its side."""
    return next((name.removeprefix(side) for side in _SIDES if name.startswith(side)), name)


@dataclass(frozen=True)
class Case:
    """One row of a manifest, as it stands there; an empty cell is an empty string.

    Args:
        line: its line in the file.
        id: of the case, once in a manifest.
        subject: the patient; all cases of one are in the same split.
        domain: site, scanner or population.
        split: train, val or test.
        image: path in the folder.
        label: path in the folder, for a segmentation.
        grade: the value in the column `class`, or the name of a class, for a classification.
        mask: path in the folder, where `ignore_outside` names a column.
        metadata: all other columns.
    """

    line: int
    id: str
    subject: str
    domain: str
    split: str
    image: str
    label: str = ""
    grade: str = ""
    mask: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_description(folder: Path) -> Description:
    """Reads `dataset.toml`.

    Raises:
        DataError: it is missing, is not TOML, or has keys or values that are not allowed: all of them at once.
    """
    path = folder / "dataset.toml"
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            [Problem(str(path), "file", "nothing", "a dataset folder has one: see the data folder layout")]
        ) from error
    except (OSError, ValueError, RecursionError) as error:  # no TOML, no UTF-8, or too deep or too large to be meant
        raise DataError([Problem(str(path), "file", f"no readable TOML ({error})", "mend that line")]) from error
    allowed = "write it without control characters"
    if problems := [Problem(str(path), "text", repr(text[:80]), allowed) for text in unprintable_in(fields)]:
        raise DataError(problems)
    try:
        return Description(**fields)
    except ValidationError as error:
        raise DataError([_described(str(path), details) for details in error.errors(include_url=False)]) from error


def read_manifest(folder: Path, description: Description) -> tuple[Case, ...]:
    """Reads `manifest.csv`, and splits the subjects where it has no splits (no such column, or nothing in it).

    Raises:
        DataError: it is missing, empty, not CSV, or lacks columns.
    """
    path = folder / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey=_BEYOND, strict=True)
            rows = [(reader.line_num, row) for row in reader]
            columns = list(reader.fieldnames or ())
    except FileNotFoundError as error:
        raise DataError(
            [Problem(str(path), "file", "nothing", "a dataset folder has one: see the data folder layout")]
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            [Problem(str(path), "file", f"no readable CSV ({error})", "save it as CSV in UTF-8")]
        ) from error
    needed = ["id", "subject", "domain", "image", "label" if description.task == "segmentation" else "class"]
    needed += [description.ignore_outside] if description.ignore_outside else []
    allowed = f"the columns {', '.join(needed)} must be there, and `split` unless it is to be split for you"
    problems = [Problem(str(path), f"column {name}", "nothing", allowed) for name in needed if name not in columns]
    problems += [
        Problem(
            str(path),
            f"line {line}",
            "more cells than columns",
            f"the header has {len(columns)}; quote commas in a cell",
        )
        for line, row in rows
        if _BEYOND in row
    ]
    problems += [
        Problem(str(path), f"column {name}", "twice", "each column stands in the header once")
        for name, count in Counter(columns).items()
        if count > 1
    ]
    if not rows and not problems:
        problems = [Problem(str(path), "rows", "none", "one row a case")]
    if problems:
        raise DataError(problems)
    cases = tuple(_case(line, row, description.ignore_outside) for line, row in rows)
    if any(case.split for case in cases):
        return cases
    splitting = description.splitting
    splits = split_subjects(cases, splitting.fractions, splitting.seed, stratify=splitting.stratify)
    return tuple(replace(case, split=splits.get(case.subject, "")) for case in cases)


def file_in(folder: Path, name: str) -> Path | str:
    """The file, or the folder with a DICOM series, that a manifest names, or why it may not be read.

    A path is relative to the folder and stays in it, also after symbolic links: a manifest that somebody sends must not
    be able to read other files.
    """
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name or "\0" in name:
        return "a path must be relative to the dataset folder and stay in it (no `..`, no backslash)"
    path = folder / name
    try:
        if not path.exists():
            return "there is no such file"
        root = folder.resolve()
        if not path.resolve().is_relative_to(root):
            return "this link leads out of the dataset folder; copy the file into it"
        if path.is_file():
            return path
        if path.resolve() == root or not path.is_dir():
            return "this is not a file; name one, or a folder with one DICOM series"
        if not all(file.resolve().is_relative_to(root) for file in path.iterdir()):
            return "a link in this folder leads out of the dataset folder; copy the file into it"
        return path
    except OSError as error:  # a name that is too long, a folder that may not be entered
        return f"it cannot be opened: {error.strerror}"


def _case(line: int, row: Mapping[str, str | None], mask: str | None) -> Case:
    cells = {name: (cell or "").strip() for name, cell in row.items()}
    known = {name: cells.get(name, "") for name in _COLUMNS}
    metadata = {name: cell for name, cell in cells.items() if name not in _COLUMNS and name != mask}
    grade = known.pop("class")
    return Case(line=line, grade=grade, mask=cells[mask] if mask else "", metadata=metadata, **known)


def _described(file: str, details: Mapping[str, object]) -> Problem:
    place = details["loc"]
    where = ".".join(str(part) for part in place) if isinstance(place, tuple) else str(place)
    if details["type"] == "extra_forbidden":
        known = ", ".join(Splitting.model_fields if where.startswith("splitting") else Description.model_fields)
        return Problem(file, where, "an unknown key", f"known are {known}; mend its spelling or remove it")
    if details["type"] == "missing":
        return Problem(file, where, "nothing", "this key must be there")
    found = "these keys" if not where else repr(details["input"])
    return Problem(file, where or "keys", found, str(details["msg"]).removeprefix("Value error, "))
