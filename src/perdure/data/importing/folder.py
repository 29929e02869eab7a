"""The data folder that comes out of an import: manifest, description, lists of files. Never an image."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from perdure.data.content import refusal
from perdure.data.importing.domains import PROPOSED, domain_of
from perdure.data.importing.found import TAGS, Found
from perdure.data.places import LIST_SUFFIX, LISTS, list_content
from perdure.data.pseudonyms import pseudonym, write_new
from perdure.data.splitting import split_subjects
from perdure.data.toml import toml_text
from perdure.types import printable, unprintable_in

_COLUMNS = ("id", "subject", "domain", "split", "image")


@dataclass(frozen=True)
class Imported:
    """What an import writes.

    Args:
        rows: of the manifest.
        description: of dataset.toml.
        lists: name -> files in the source, relative to it.
        left_out: what is in the source and not in the manifest, as it should be.
        structures: of each structure that SEG and RTSTRUCT name, how many `labels` name it, `of` how many.
        notes: what the user has to judge.
        failed: what could not be imported: its list, and why.
    """

    rows: Sequence[Mapping[str, str]]
    description: Mapping[str, object]
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    structures: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def domains(self) -> dict[str, dict[str, int]]:
        """Of each domain how many subjects and cases it has, in alphabetical order."""
        cases = Counter(row["domain"] for row in self.rows)
        subjects = Counter(domain for domain, _ in {(row["domain"], row["subject"]) for row in self.rows})
        return {domain: {"subjects": subjects[domain], "cases": cases[domain]} for domain in sorted(cases)}

    def write(self, folder: Path) -> None:
        """Writes manifest.csv, dataset.toml and, of DICOM, series/*.files, which their owner alone can read.

        Args:
            folder: an empty one.
        """
        if self.lists:
            (folder / LISTS).mkdir(mode=0o700)
        for name, files in self.lists.items():
            write_new(folder / name, list_content(files), 0o600)
        write_new(folder / "manifest.csv", _table(self.rows), 0o644)
        write_new(folder / "dataset.toml", toml_text(self.description).encode(), 0o644)


@dataclass(frozen=True)
class _Named:
    """What splitting needs to know of a case."""

    subject: str
    domain: str
    grade: str


def imported(
    found: Found,
    out: Path,
    salt: bytes,
    *,
    domain: str | None = None,
    domain_from: Sequence[str] = PROPOSED,
    seed: int = 0,
) -> Imported:
    """The data folder of what an importer has found.

    Ids become pseudonyms. Subjects are split 7:2:1 (8:2 into train and val where the source says who tests) unless the
    source says otherwise.

    Args:
        found: all cases.
        out: where the folder will be.
        salt: of the pseudonyms.
        domain: the one domain of all cases; by default each has that of its tags.
        domain_from: which tags make a domain.
        seed: of the split.

    Raises:
        DataError: no case has one of the chosen tags, two cases have one name, a subject is in two splits, or the name
            of a file is no UTF-8 or has control characters.
    """
    known = {tag for case in found.cases for tag, value in case.tags.items() if value}
    if domain is None and domain_from != PROPOSED and (unknown := sorted(set(domain_from) - known)):
        present = f"these have values: {', '.join(sorted(known)) or 'none; name one --domain for all'}"
        raise refusal(found.source, f"no case with {', '.join(unknown)}", present, "--domain-from")
    rows, lists = [], {}
    for case in found.cases:
        name = pseudonym(salt, "case", f"{case.subject}\0{case.name}")
        where = domain or domain_of(case.tags, domain_from, found.name)
        row = {"id": name, "subject": pseudonym(salt, "subject", case.subject), "domain": where, "split": case.split}
        for column, cell, files in (("image", case.image, case.image_files), ("label", case.label, case.label_files)):
            if files:
                cell = f"{LISTS}/{name if column == 'image' else f'{name}-label'}{LIST_SUFFIX}"
                lists[cell] = files
            row[column] = cell
        if odd := next(unprintable_in([*row.values(), case.grade]), None):
            raise refusal(found.source, f"{odd!r:.100}", "rename it: UTF-8 without control characters", "name")
        rows.append({**row, "class": case.grade, **{tag: printable(value) for tag, value in case.tags.items()}})
    times = Counter(row["id"] for row in rows)
    if twice := sorted(row["image"] for row in rows if times[row["id"]] > 1):
        several = f"{len(twice)} images whose cases have the name of another, {', '.join(twice[:4])} among them"
        raise refusal(found.source, several, "each case has one name: rename or remove all but one of each", "cases")
    _split(found.source, rows, seed)
    failed = {}
    for name, (files, why) in found.failed.items():
        lists[f"{LISTS}/{name}{LIST_SUFFIX}"] = files
        failed[f"{LISTS}/{name}{LIST_SUFFIX}"] = why
    return Imported(
        rows=_without_empty_columns(rows),
        description=_description(found, out, rows),
        lists=lists,
        left_out=found.left_out,
        structures=found.structures,
        notes=found.notes,
        failed=failed,
    )


def check_places(out: Path, *folders: Path) -> None:
    """Makes sure that what is read is there, and that nothing is written into it.

    Args:
        out: the data folder to write.
        folders: what is read.

    Raises:
        DataError: a folder is not there, or `out` lies in it.
    """
    for folder in folders:
        if not folder.is_dir():
            raise refusal(folder, "a file" if folder.exists() else "no such folder", "name a folder", "folder")
        if out.resolve().is_relative_to(folder.resolve()):
            allowed = "nothing is written into a folder that is imported: name one beside it"
            raise refusal(out, f"a data folder within {folder}", allowed, "--out")


def _split(source: Path, rows: list[dict[str, str]], seed: int) -> None:
    """Gives the subjects of which the source says nothing a split: 7:2:1, or 8:2 where it says who tests.

    Raises:
        DataError: a subject is in two splits of the source, or in one and in none.
    """
    said: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        said[row["subject"]].add(row["split"])
    if several := sum(len(splits) > 1 for splits in said.values()):
        allowed = "all cases of a subject go in one split; is --subject right?"
        raise refusal(source, f"{several} subject(s) in several splits", allowed, "splits")
    given = any(row["split"] for row in rows)
    rest = [_Named(row["subject"], row["domain"], row["class"]) for row in rows if not row["split"]]
    splits = split_subjects(rest, (0.8, 0.2, 0.0) if given else (0.7, 0.2, 0.1), seed)
    for row in rows:
        row["split"] = row["split"] or splits[row["subject"]]


def _without_empty_columns(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    order = [*_COLUMNS, "label", "class", *TAGS]
    columns = [*order, *sorted({name for row in rows for name in row} - set(order))]
    kept = [name for name in columns if name in _COLUMNS or any(row.get(name) for row in rows)]
    return [{name: row.get(name, "") for name in kept} for row in rows]


def _description(found: Found, out: Path, rows: Sequence[Mapping[str, str]]) -> dict[str, object]:
    source = os.path.relpath(found.source.resolve(), out.absolute().parent.resolve() / out.name)
    if any(unprintable_in(source)):
        raise refusal(found.source, f"a path {source!r}", "rename it: UTF-8 without control characters", "name")
    said = {
        "name": printable(found.name) or "imported",
        "title": printable(found.title),
        "task": found.task,
        "modality": printable(found.modality),
        "licence": printable(found.licence),
        "citation": printable(found.citation),
        "domains": sorted({row["domain"] for row in rows}),
        "source": source,
        "ignore_values": list(found.ignore_values),
        "background_structures": list(found.background_structures),
    }
    return {**{key: value for key, value in said.items() if value}, "labels": dict(found.labels)}


def _table(rows: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
