"""BIDS datasets: images of one suffix, and segmentations among the derivatives.

    participants.tsv                                    age, sex, group and site of each participant
    sub-01/[ses-1/]anat/sub-01[_ses-1]_T1w.nii.gz       with T1w.json beside it or above: scanner tags
    derivatives/NAME/sub-01/.../sub-01_..._dseg.nii.gz  labels, with dseg.tsv beside it or above: their names

A label belongs to an image if it has all of the image's entities (sub, ses, acq, run ...), and besides them `desc` at
most, or a `space` that is that of the image (`orig`, or its suffix).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from perdure.data.content import refusal
from perdure.data.importing.found import (
    Found,
    FoundCase,
    checked_file,
    is_label_name,
    label_value,
    read_json,
    read_table,
)
from perdure.errors import DataError

_IMAGES = (".nii.gz", ".nii")
_SIDECAR = {
    "manufacturer": "Manufacturer",
    "model": "ManufacturersModelName",
    "field_strength": "MagneticFieldStrength",
    "station": "StationName",
    "institution": "InstitutionName",
}
_PARTICIPANT = ("age", "sex", "group", "site")


def find_bids(source: Path, *, suffix: str = "T1w", derivative: str | None = None, desc: str | None = None) -> Found:
    """Looks at a BIDS dataset.

    Args:
        source: the folder with dataset_description.json.
        suffix: of the images.
        derivative: the folder in derivatives/ that labels come from; needed where several have labels of one image.
        desc: the `desc` entity of labels; needed where one derivative has several of one image.

    Raises:
        DataError: it is no such folder, holds no labelled image, or several labels for one; names of labels are
            missing or contradict each other; a name is none that BIDS knows; a link leads out of it, or to nothing.
    """
    for option, text in (("--suffix", suffix), ("--derivative", derivative), ("--desc", desc)):
        if text is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+_.-]*", text):
            raise refusal(source, repr(text), "letters and digits, as BIDS has them in names", option)
    path = source / "dataset_description.json"
    about = read_json(path, "a BIDS dataset has one")
    images = [file for file in _files(source, suffix) if "derivatives" not in file.relative_to(source).parts]
    if not images:
        allowed = "choose another --suffix; what is in `sourcedata` or `derivatives` is no raw data"
        raise refusal(source, f"no image called *_{suffix}.nii.gz", allowed, "images")
    labels = _labels(source, derivative, desc)
    participants, odd = _participants(source / "participants.tsv")
    cases, unlabelled, named = [], 0, []
    for image in images:
        entities = _entities(image)
        own = [label for label in labels if _belongs(_entities(label), entities, suffix)]
        if len(own) > 1:
            found = f"{len(own)} labels of {image.name}: {', '.join(str(label.relative_to(source)) for label in own)}"
            raise refusal(source / "derivatives", found, "choose with --derivative or --desc", "labels")
        if not own:
            unlabelled += 1
            continue
        tags = _tags(source, image, suffix) | participants.get(f"sub-{entities['sub']}", {})
        files = (image.relative_to(source), own[0].relative_to(source))
        cell, label = (checked_file(source, file.as_posix(), source / file.parent) for file in files)
        cases.append(FoundCase(f"sub-{entities['sub']}", Path(cell).name, cell, label, tags=tags))
        named.append(own[0])
    if not cases:
        raise refusal(
            source / "derivatives", f"no label of {len(images)} image(s)", "*_dseg.nii.gz with their entities", "labels"
        )
    left_out = [f"{unlabelled} image(s) without a label among the derivatives"] if unlabelled else []
    left_out += [f"{odd} row(s) of participants.tsv: a participant_id is called sub-LABEL, as in sub-01"] if odd else []
    licence, references = about.get("License", ""), about.get("ReferencesAndLinks", [])
    return Found(
        source=source,
        task="segmentation",
        labels=_label_names(source, named),
        cases=cases,
        name=str(about.get("Name", source.resolve().name)),
        modality=suffix,
        licence=str(licence),
        citation="; ".join(map(str, references if isinstance(references, list) else [references])),
        left_out=tuple(left_out),
    )


def _files(folder: Path, suffix: str) -> list[Path]:
    found = [file for ending in _IMAGES for file in folder.rglob(f"sub-*_{suffix}{ending}")]
    # hidden folders and `sourcedata`, data before they became BIDS, are no part of the dataset
    return sorted(
        file
        for file in found
        if not any(part.startswith(".") or part == "sourcedata" for part in file.relative_to(folder).parts)
    )


def _labels(source: Path, derivative: str | None, desc: str | None) -> list[Path]:
    folder = source / "derivatives" / (derivative or "")
    if not folder.is_dir():
        raise refusal(folder, "no such folder", "labels are BIDS derivatives, *_dseg.nii.gz", "folder")
    return [file for file in _files(folder, "dseg") if desc is None or _entities(file).get("desc") == desc]


def _entities(file: Path) -> dict[str, str]:
    """The entities in a name: `sub-01_ses-2_T1w.nii.gz` has sub and ses."""
    pairs = (part.partition("-") for part in file.name.split(".")[0].split("_"))
    return {key: value for key, dash, value in pairs if dash}


def _belongs(label: Mapping[str, str], image: Mapping[str, str], suffix: str) -> bool:
    more = {key: value for key, value in label.items() if image.get(key) != value}
    if set(image) - set(label) or set(more) - {"desc", "space"} or set(more) & set(image):
        return False
    return more.get("space", suffix) in (suffix, "orig")


def _above(source: Path, file: Path, name: str) -> Iterable[Path]:
    """Files that BIDS lets apply to a file: of this name, or of fewer entities in front, from the top down."""
    entities = _entities(file)
    folders = [folder for folder in reversed(file.parents) if folder == source or source in folder.parents]
    for folder in folders:
        candidates = [*folder.glob(name), *folder.glob(f"*_{name}")]
        fitting = [one for one in candidates if _entities(one).items() <= entities.items()]
        yield from sorted(fitting, key=lambda one: len(_entities(one)))


def _tags(source: Path, image: Path, suffix: str) -> dict[str, str]:
    said: dict[str, object] = {}
    for file in _above(source, image, f"{suffix}.json"):
        said |= read_json(file, "mend the file")
    return {tag: str(said[key]) for tag, key in _SIDECAR.items() if said.get(key) not in (None, "")}


def _participants(path: Path) -> tuple[dict[str, dict[str, str]], int]:
    """What is known of each participant, and how many rows say nothing of anybody because of their participant_id."""
    if not path.is_file():
        return {}, 0
    rows = read_table(path)
    ids = [row.get("participant_id", "") for row in rows]
    known = [{name: row[name] for name in _PARTICIPANT if row.get(name, "n/a") != "n/a"} for row in rows]
    return dict(zip(ids, known, strict=True)), sum(not one.startswith("sub-") for one in ids)


def _label_names(source: Path, labels: Iterable[Path]) -> dict[str, int | list[int]]:
    """Names and values out of all tables that apply to these labels."""
    values: dict[int, str] = {}
    read: set[Path] = set()
    for label in labels:
        tables = list(_above(source, label, "dseg.tsv"))
        if not tables:
            allowed = "a dseg.tsv with columns index and name, beside it or above"
            raise refusal(label, "no names of its values", allowed, "dseg.tsv")
        for table in {tables[-1]} - read:
            read.add(table)
            for row in read_table(table):
                index, name = label_value(row.get("index")), row.get("name")
                if index is None or not is_label_name(name):
                    allowed = "a whole number of [0, 65535] under index, and a name of one line"
                    raise refusal(table, f"a row {row!r:.100}", allowed, "index")
                if values.setdefault(index, name) != name:
                    raise _contradiction(table, index, name, values)
    if not set(values) - {0}:
        raise refusal(source, "no name of a class but the background", "name the values of labels", "dseg.tsv")
    names: dict[str, list[int]] = defaultdict(list)
    for value in sorted(values):
        names[values[value]].append(value)
    if 0 not in values:
        names["background" if "background" not in names else "background (0)"] = [0]
    return {name: found if len(found) > 1 else found[0] for name, found in sorted(names.items(), key=lambda of: of[1])}


def _contradiction(table: Path, index: int, name: str, values: Mapping[int, str]) -> DataError:
    found = f"{index} called {name!r}, and {values[index]!r} in another table"
    return refusal(table, found, "one value has one name in the whole dataset", "index")
