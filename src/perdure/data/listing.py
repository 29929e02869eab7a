"""Which images are there: in a folder and below it, one path each."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
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
        unread: files in formats that are not read, which are passed over as well.
        links: folders that are links, which are not followed.
    """

    images: list[Path]
    others: list[Path] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)

    @property
    def passed_over(self) -> dict[str, int]:
        """What is no image, and how much there is of it."""
        counted = {
            "DICOM file(s) without an image (segmentations, reports)": len(self.others),
            "file(s) in formats that are not read": len(self.unread),
            "folder(s) that are links": len(self.links),
        }
        return {what: number for what, number in counted.items() if number}


def images_below(source: Path) -> list[Path]:
    """The images of `listing`."""
    return listing(source).images


def listing(source: Path) -> Listing:
    """The images of a folder and the folders below it, in order; hidden files do not count.

    Files in formats that are not read are left out, and so are DICOM files that hold no image (reports, segmentations)
    and folders that are links. A folder with slices of a DICOM series stands for them; other DICOM files stand for
    themselves, and so do lists of files, which `perdure import dicom` makes. A link to nothing and a folder that cannot
    be read are taken for images, whose turn says why they are none.

    Args:
        source: a folder, or one image, which is then the only one.
    """
    within, links, closed = _below(source) if source.is_dir() else ([source], [], [])
    images: list[Path] = closed
    others: list[Path] = []
    unread: list[Path] = []
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
        else:
            unread.append(file)
    if not source.is_dir():
        return Listing(images or [source] * len(dicom), [])
    for folder, group in dicom.items():
        kinds = {file: kind_of(file) for file in group}
        others += [file for file, kind in kinds.items() if kind == "no image"]
        if "slice" in kinds.values():
            images.append(folder)
        else:
            images += [file for file, kind in kinds.items() if kind != "no image"]
    return Listing(sorted(images), others, unread, links)


def _below(source: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Files, folders that are links, and folders that cannot be read."""
    files: list[Path] = []
    links: list[Path] = []
    closed: list[Path] = []
    for where, folders, names in os.walk(source, onerror=lambda error: closed.append(Path(error.filename))):
        links += [Path(where, name) for name in folders if Path(where, name).is_symlink()]
        files += [Path(where, name) for name in names]
    return sorted(file for file in files if is_file_or_lost(file)), links, closed


def is_file_or_lost(file: Path) -> bool:
    """Whether it is a file, or a link to nothing, which may have been one; a pipe or a device is neither."""
    return file.is_file() or (file.is_symlink() and not os.path.exists(file))  # noqa: PTH110 - loops too


def _is_label(file: Path) -> bool:
    """Whether a list is that of a label; one that cannot be read is taken for an image, whose turn says why."""
    try:
        return kind_of(listed_files(file)[0]) == "no image"
    except DataError:
        return False
