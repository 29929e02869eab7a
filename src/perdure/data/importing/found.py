"""What stands in a folder of somebody else's layout, before anything is written."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from perdure.data.content import refusal
from perdure.data.manifest import file_in
from perdure.types import Split, Task, unprintable_in

TAGS = ("manufacturer", "model", "field_strength", "station", "institution")
"""What is known of a scanner; columns of the manifest where a case has them."""

_LARGEST = 65535
"""Value of a class that a data folder may have; see `perdure.data.manifest.Value`."""


@dataclass(frozen=True)
class FoundCase:
    """One image with its truth, under the names that the source has.

    Args:
        subject: the patient. Never written.
        name: of the case, once in the source. Never written.
        image: path in the source.
        label: path in the source, of a segmentation.
        grade: name of its class, of a classification.
        split: if the source says so.
        tags: of the scanner, and whatever else may become a domain.
        image_files: DICOM files in the source, in order, that `image` is a list of.
        label_files: the same for `label`.
    """

    subject: str
    name: str
    image: str = ""
    label: str = ""
    grade: str = ""
    split: Split | str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    image_files: tuple[str, ...] = ()
    label_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """All cases of a folder.

    Args:
        source: the folder.
        task: what the labels are for.
        labels: name of each class and the value, or values, that mean it.
        cases: at least one.
        name: of the dataset, as the source has it.
        title: one line for people.
        modality: free text.
        licence: free text.
        citation: free text.
        ignore_values: values in label files that do not count.
        background_structures: names of DICOM structures that are background.
        left_out: what is there and will not be in the manifest, each with the reason: as the source has it.
        structures: of each structure that SEG and RTSTRUCT name, by its key: how many `labels` name it, `of` how many.
        notes: what the user has to judge; it hinders nothing.
        failed: what should be in the manifest and cannot be, by pseudonym: its files and the reason.
    """

    source: Path
    task: Task
    labels: Mapping[str, int | list[int]]
    cases: Sequence[FoundCase]
    name: str = ""
    title: str = ""
    modality: str = ""
    licence: str = ""
    citation: str = ""
    ignore_values: tuple[int, ...] = ()
    background_structures: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    structures: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failed: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)


def read_json(path: Path, wanted: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: the file.
        wanted: what to do where it is not there.

    Raises:
        DataError: it is missing, no JSON, or no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise refusal(path, "no such file", wanted, "file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise refusal(path, f"no readable JSON ({type(error).__name__})", "mend the file", "file") from error
    if not isinstance(content, dict):
        raise refusal(path, "no object", "a JSON object: { ... }", "file")
    return content


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table with tabs (.tsv) or commas (.csv).

    Raises:
        DataError: it cannot be read.
    """
    delimiter = "\t" if path.suffix == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, delimiter=delimiter, restkey="", restval="")
            return [{str(key): str(cell).strip() for key, cell in row.items()} for row in rows]
    except FileNotFoundError as error:
        raise refusal(path, "no such file", "is the path right?", "file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise refusal(path, f"no readable table ({error})", "save it in UTF-8", "file") from error


def checked_file(source: Path, name: str, named_in: Path) -> str:
    """A path in the source in its plainest form, after a look whether it is there.

    Args:
        source: the folder.
        name: relative to it; `./` in front does not matter.
        named_in: the file that names it.

    Raises:
        DataError: it is not there, or leads out of the source.
    """
    plain = re.sub(r"^(\./)+", "", name)
    found = file_in(source, plain)
    if isinstance(found, str) or not found.is_file():
        raise refusal(named_in, repr(name), found if isinstance(found, str) else "name a file", "path")
    return plain


def label_value(said: object) -> int | None:
    """The whole number that a label file may hold for a class, also as the text that JSON keys and tables have."""
    if isinstance(said, str) and re.fullmatch(r"[0-9]{1,5}", said):
        said = int(said)
    return said if type(said) is int and 0 <= said <= _LARGEST else None


def is_label_name(said: object) -> TypeGuard[str]:
    """Whether it can be the name of a class: names go into tables and onto terminals, one line each."""
    return (
        isinstance(said, str) and bool(said.strip()) and said.splitlines() == [said] and not any(unprintable_in(said))
    )


def subject_in(name: str, pattern: re.Pattern[str] | None, named_in: Path) -> str:
    """The patient in the name of a case: the first group of a pattern, or the whole name without one.

    Raises:
        DataError: the pattern is not in the name.
    """
    if pattern is None:
        return name
    found = pattern.search(name)
    if found is None or not (subject := found.group(1 if pattern.groups else 0)):
        raise refusal(named_in, f"a case {name!r}, without {pattern.pattern!r}", "mend --subject", "subject")
    return subject
