"""Which images are there: in a folder and below it, one path each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from perdure.data.dicom.instances import kind_of
from perdure.data.dicom.opening import looks_like_dicom
from perdure.data.images import IMAGE_SUFFIXES, VOLUME_SUFFIXES
from perdure.data.places import LIST_SUFFIX, listed_files
from perdure.errors import DataError

READABLE = (
    f"{', '.join((*VOLUME_SUFFIXES, *IMAGE_SUFFIXES))}, DICOM files, folders with one DICOM series each, or lists of "
    f"them ({LIST_SUFFIX}, of `perdure import dicom`)"
)


@dataclass(frozen=True)
class Listing:
    """What is in a folder and below it.

    Args:
        images: one path each.
        others: DICOM files that hold no image (segmentations, reports), and lists of them, which are passed over.
    """

    images: list[Path]
    others: list[Path]


def images_below(source: Path) -> list[Path]:
    """The images of `listing`."""
    return listing(source).images


def listing(source: Path) -> Listing:
    """The images of a folder and the folders below it, in order; hidden files do not count.

    Files in formats that are not read are left out, and so are DICOM files that hold no image (reports, segmentations).
    A folder with slices of a DICOM series stands for them; other DICOM files stand for themselves, and so do lists of
    files, which `perdure import dicom` makes.

    Args:
        source: a folder, or one image, which is then the only one.
    """
    within = sorted(file for file in source.rglob("*") if file.is_file()) if source.is_dir() else [source]
    images: list[Path] = []
    others: list[Path] = []
    dicom: dict[Path, list[Path]] = defaultdict(list)
    for file in within:
        if file.name.startswith(".") or file.name == "DICOMDIR":
            continue
        if file.name.lower().endswith((*VOLUME_SUFFIXES, *IMAGE_SUFFIXES)):
            images.append(file)
        elif file.name.endswith(LIST_SUFFIX):
            (others if source.is_dir() and _is_label(file) else images).append(file)
        elif looks_like_dicom(file):
            dicom[file.parent].append(file)
    if not source.is_dir():
        return Listing(images or [source] * len(dicom), [])
    for folder, group in dicom.items():
        kinds = {file: kind_of(file) for file in group}
        others += [file for file, kind in kinds.items() if kind == "no image"]
        if "slice" in kinds.values():
            images.append(folder)
        else:
            images += [file for file, kind in kinds.items() if kind != "no image"]
    return Listing(sorted(images), others)


def _is_label(file: Path) -> bool:
    """Whether a list is that of a label; one that cannot be read is taken for an image, whose turn says why."""
    try:
        return kind_of(listed_files(file)[0]) == "no image"
    except DataError:
        return False
