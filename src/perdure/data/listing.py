"""Which images are there: in a folder and below it, one path each."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from perdure.data.dicom.instances import kind_of
from perdure.data.dicom.opening import looks_like_dicom
from perdure.data.images import IMAGE_SUFFIXES, VOLUME_SUFFIXES

READABLE = f"{', '.join((*VOLUME_SUFFIXES, *IMAGE_SUFFIXES))}, DICOM files, or folders with one DICOM series each"


def images_below(source: Path) -> list[Path]:
    """The images of a folder and the folders below it, in order; hidden files do not count.

    Files in formats that are not read are left out, and so are DICOM files that hold no image (reports, segmentations).
    A folder with slices of a DICOM series stands for them; other DICOM files stand for themselves.

    Args:
        source: a folder, or one image, which is then the only one.
    """
    within = sorted(file for file in source.rglob("*") if file.is_file()) if source.is_dir() else [source]
    images, others = [], defaultdict(list)
    for file in within:
        if file.name.startswith(".") or file.name == "DICOMDIR":
            continue
        if file.name.lower().endswith((*VOLUME_SUFFIXES, *IMAGE_SUFFIXES)):
            images.append(file)
        elif looks_like_dicom(file):
            others[file.parent].append(file)
    if not source.is_dir():
        return images or [source] * len(others)
    for folder, group in others.items():
        kinds = {file: kind_of(file) for file in group}
        if "slice" in kinds.values():
            images.append(folder)
        else:
            images += [file for file, kind in kinds.items() if kind != "no image"]
    return sorted(images)
