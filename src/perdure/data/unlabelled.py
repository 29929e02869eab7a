"""Scans that nobody has labelled: which are there, and what a network takes of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perdure.data.geometry import centred, window
from perdure.data.intensity import padding
from perdure.data.listing import READABLE, images_below
from perdure.data.places import declared_source, located
from perdure.data.sampling import tiles
from perdure.errors import DataError, Problem

if TYPE_CHECKING:
    from torch import Tensor

    from perdure.data.preparation import Prepared
    from perdure.types import Contract


@dataclass(frozen=True)
class Scan:
    """One image without a label.

    Args:
        id: of the case.
        subject: whose image it is.
        image: the file.
        is_subject_known: whether somebody said so; else the image counts as that of a subject of its own.
    """

    id: str
    subject: str
    image: Path
    is_subject_known: bool = True


def unlabelled_scans(folder: Path | str, domains: Sequence[str] = (), split: str | None = None) -> tuple[Scan, ...]:
    """The images of a folder, in order; labels are not looked at and need not be there.

    Args:
        folder: a data folder, of whose `manifest.csv` only the columns `image`, `id`, `subject`, `domain` and `split`
            are read, and all but the first may be missing; or any folder with images, each of a subject of its own.
        domains: only cases of these; all if empty.
        split: only cases of this one; all if None.

    Raises:
        DataError: there is no image, a file is missing, or a column that `domains` or `split` needs is.
    """
    folder = Path(folder)
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        if domains or split:
            raise DataError([Problem(str(manifest), "file", "nothing", "domains and splits stand in it")])
        return _loose(folder)
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            [Problem(str(manifest), "file", f"no readable CSV ({error})", "save it as CSV in UTF-8")]
        ) from error
    wanted = ["image", *(["domain"] if domains else []), *(["split"] if split else [])]
    columns = set(rows[0]) if rows else set()
    problems = [
        Problem(str(manifest), f"column {name}", "nothing", "it is needed here")
        for name in wanted
        if name not in columns
    ]
    if problems:
        raise DataError(problems)
    present = dict.fromkeys(row.get("domain") or "" for row in rows)
    if unknown := [name for name in domains if name not in present]:
        raise DataError([Problem(str(manifest), "domain", ", ".join(unknown), f"it has {', '.join(present)}")])
    scans = []
    source = declared_source(folder)
    for number, row in enumerate(rows, 2):
        if (domains and row["domain"] not in domains) or (split and row["split"] != split):
            continue
        image = located(folder, source, row["image"] or "")
        if isinstance(image, str):
            problems.append(Problem(str(manifest), f"line {number}, image", repr(row["image"]), image))
            continue
        name = row.get("id") or row["image"]
        scans.append(Scan(name, row.get("subject") or name, image, is_subject_known=bool(row.get("subject"))))
    if not scans and not problems:
        problems = [Problem(str(manifest), "rows", "none of this domain and split", "name others")]
    if problems:
        raise DataError(problems)
    return tuple(scans)


def _loose(folder: Path) -> tuple[Scan, ...]:
    images = images_below(folder)
    if not images:
        raise DataError([Problem(str(folder), "images", "none", f"files that end in {READABLE}")])
    names = [file.relative_to(folder).as_posix() if file != folder else folder.name for file in images]
    return tuple(Scan(name, name, file, is_subject_known=False) for name, file in zip(names, images, strict=True))


def network_samples(prepared: Prepared, contract: Contract, at_once: int = 8) -> Iterator[Tensor]:
    """The samples that training would cut from an image, without augmentation: `(samples, channels, *size)` a batch.

    Slices of nearly nothing but background, which training leaves out by their labels, are among them.
    """
    import torch

    black = padding(contract.intensity, contract.channels)
    spatial = prepared.pixels.shape[2:]
    in_patches = contract.spatial_dims == 3 and contract.task == "segmentation"
    corners = tiles(spatial, contract.size) if in_patches else [centred(spatial, contract.size)]
    for corner in corners:
        for start in range(0, len(prepared.pixels), at_once):
            part = prepared.pixels[start : start + at_once]
            cut = [window(part[:, i], corner, contract.size, black[i]) for i in range(contract.channels)]
            yield torch.from_numpy(np.ascontiguousarray(np.stack(cut, axis=1)))
