"""Makes a data folder of the scans that Özgün et al. 2020 learnt from, in the layouts in which they are published.

    python benchmarks/paper_a_folder.py FOLDER

FOLDER holds one folder a domain, as docs/paper-data.md draws them: `candi`, `adni_15t`, `malc` and `adni_3t`. The
script writes `manifest.csv` and `dataset.toml` into FOLDER. Images stay where they are, and are not copied. Label maps
in the numbers of Neuromorphometrics (MALC, ADNI) are written again, in FreeSurfer's, to FOLDER/freesurfer_labels,
because one data folder has one set of numbers.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perdure.data import Dataset
from perdure.data.images import VOLUME_SUFFIXES, read_labels
from perdure.data.writing import label_file
from perdure.errors import DataError, Problem
from perdure.release.folder import replace_file
from perdure.types import SPLITS

STRUCTURES = {
    "left_cerebral_white_matter": (2, 45),
    "left_cerebral_cortex": (3, None),
    "left_lateral_ventricle": (4, 52),
    "left_inferior_lateral_ventricle": (5, 50),
    "left_cerebellum_white_matter": (7, 41),
    "left_cerebellum_cortex": (8, 39),
    "left_thalamus": (10, 60),
    "left_caudate": (11, 37),
    "left_putamen": (12, 58),
    "left_pallidum": (13, 56),
    "third_ventricle": (14, 4),
    "fourth_ventricle": (15, 11),
    "brain_stem": (16, 35),
    "left_hippocampus": (17, 48),
    "left_amygdala": (18, 32),
    "csf": (24, 46),
    "left_accumbens": (26, 30),
    "left_ventral_dc": (28, 62),
    "right_cerebral_white_matter": (41, 44),
    "right_cerebral_cortex": (42, None),
    "right_lateral_ventricle": (43, 51),
    "right_inferior_lateral_ventricle": (44, 49),
    "right_cerebellum_white_matter": (46, 40),
    "right_cerebellum_cortex": (47, 38),
    "right_thalamus": (49, 59),
    "right_caudate": (50, 36),
    "right_putamen": (51, 57),
    "right_pallidum": (52, 55),
    "right_hippocampus": (53, 47),
    "right_amygdala": (54, 31),
    "right_accumbens": (58, 23),
    "right_ventral_dc": (60, 61),
}
"""The structures of QuickNAT: FreeSurfer's number, and that of Neuromorphometrics (None: see `CORTEX`)."""
CORTEX = range(100, 208)
"""Regions of the cortex in the numbers of Neuromorphometrics: odd is left, even is right."""
LARGEST = 255
"""The largest number in a label map here; all that are no structure are background, as in the authors' code."""

DOMAINS = {"candi": 13, "adni_15t": 1, "malc": 1, "adni_3t": 1}
"""In the order of learning, with the number of training scans that the paper has."""
RESCANS = ("1023_3", "1024_3", "1025_3", "1038_3", "1039_3")
"""Test scans of the challenge that QuickNAT's list of 30 subjects leaves out: five subjects were scanned twice."""
CONVERTED = "freesurfer_labels"


class Scan(NamedTuple):
    """One labelled scan: its subject, and its files as they are published."""

    subject: str
    image: Path
    label: Path


def candi(folder: Path) -> tuple[list[Scan], list[Problem]]:
    """CANDIShare, Schizophrenia Bulletin 2008: `<group>/<subject>/<subject>_procimg.nii.gz` and `_seg.nii.gz`."""
    images = sorted(folder.rglob("*_procimg.nii*"))
    scans, problems = [], []
    for image in images:
        subject = image.name.partition("_procimg")[0]
        # some of the files have a point where the others have an underscore
        labels = [path for path in image.parent.iterdir() if re.fullmatch(rf"{subject}[_.]seg\.nii(\.gz)?", path.name)]
        if labels:
            scans.append(Scan(subject, image, labels[0]))
        else:
            problems.append(_lacking(image, f"{subject}_seg.nii.gz", "fetch release 1.1, which has segmentations"))
    return scans, problems or _unless(scans, folder, "<group>/<subject>/<subject>_procimg.nii.gz")


def malc(folder: Path) -> tuple[list[Scan], list[Problem]]:
    """MICCAI 2012 challenge: `training-images/1000_3.nii.gz`, `training-labels/1000_3_glm.nii.gz`; so for testing."""
    scans, problems = [], []
    for part in ("training", "testing"):
        for image in sorted((folder / f"{part}-images").glob("*_3.nii*")):
            name = image.name.partition(".nii")[0]
            if name in RESCANS:
                continue
            labels = sorted((folder / f"{part}-labels").glob(f"{name}_glm.nii*"))
            if labels:
                scans.append(Scan(name, image, labels[0]))
            else:
                problems.append(_lacking(image, f"{part}-labels/{name}_glm.nii.gz", "fetch the labels of both parts"))
    return scans, problems or _unless(scans, folder, "training-images/<number>_3.nii.gz")


def adni(folder: Path) -> tuple[list[Scan], list[Problem]]:
    """ADNI as QuickNAT's code reads it: `<subject>/orig.mgz` and `<subject>/Lab_con.mgz`."""
    scans, problems = [], []
    for place in sorted(path for path in folder.iterdir() if re.fullmatch(r"\d{3}_S_\d{4,5}", path.name)):
        image, label = (_volume(place, name) for name in ("orig", "Lab_con"))
        if image is not None and label is not None:
            scans.append(Scan(place.name, image, label))
        else:
            lacking = "orig.mgz" if image is None else "Lab_con.mgz"
            problems.append(_lacking(place, lacking, "put the scan and its manual labels there"))
    return scans, problems or _unless(scans, folder, "<subject>/orig.mgz, the subject as in 002_S_0816")


READERS = {"candi": candi, "adni_15t": adni, "malc": malc, "adni_3t": adni}


def write_folder(folder: Path, *, validation: int = 2, seed: int = 0) -> None:
    """Writes `manifest.csv`, `dataset.toml` and the converted labels.

    Args:
        folder: holds the domains.
        validation: scans of each domain for validation; the paper does not say how many it has.
        seed: of the draw of training and validation scans; all others are for testing.

    Raises:
        DataError: with all that is missing.
    """
    found: dict[str, list[Scan]] = {}
    problems: list[Problem] = []
    for domain, training in DOMAINS.items():
        if not (folder / domain).is_dir():
            problems.append(Problem(str(folder), domain, "no such folder", "docs/paper-data.md says what it holds"))
            continue
        found[domain], wrong = READERS[domain](folder / domain)
        problems += wrong
        if not wrong and len(found[domain]) < (needed := training + validation + 1):
            allowed = f"{training} for training, {validation} for validation and at least one for testing"
            problems.append(
                Problem(str(folder / domain), "scans", str(len(found[domain])), f"{needed} or more: {allowed}")
            )
    problems += _twice(folder, found)
    if problems:
        raise DataError(problems)
    rows = []
    for domain, scans in found.items():
        splits = _splits(domain, [scan.subject for scan in scans], DOMAINS[domain], validation, seed)
        for scan in scans:
            label = scan.label if domain == "candi" else _converted(folder, domain, scan)
            rows.append(
                {
                    "id": f"{domain}-{scan.subject}",
                    "subject": scan.subject,
                    "domain": domain,
                    "split": splits[scan.subject],
                    "image": scan.image.relative_to(folder).as_posix(),
                    "label": label.relative_to(folder).as_posix(),
                }
            )
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "dataset.toml").write_text(description(), encoding="utf-8")


def description() -> str:
    """`dataset.toml`."""
    own = {number for number, _ in STRUCTURES.values()}
    background = [number for number in range(LARGEST + 1) if number not in own]
    labels = "\n".join(f"{name} = {number}" for name, (number, _) in STRUCTURES.items())
    return (
        'name = "paper_a"\ntitle = "The brain scans of Özgün et al. 2020"\ntask = "segmentation"\n'
        f'modality = "T1-weighted MRI"\ndomains = {list(DOMAINS)}\nspacing = 1.0\n\n'
        f"[labels]\nbackground = {background}\n{labels}\n"
    )


def freesurfer_numbers(labels: np.ndarray) -> np.ndarray:
    """A label map in the numbers of Neuromorphometrics, in those of FreeSurfer; what is no structure becomes 0."""
    table = np.zeros(max(int(labels.max()), *CORTEX) + 1, np.uint8)
    for freesurfer, neuromorphometrics in STRUCTURES.values():
        if neuromorphometrics is not None:
            table[neuromorphometrics] = freesurfer
    for number in CORTEX:
        table[number] = 3 if number % 2 else 42
    return table[labels]


def _converted(folder: Path, domain: str, scan: Scan) -> Path:
    labels = read_labels(scan.label).pixels
    # every brain has a cortex, and none of the FreeSurfer numbers that mean a structure here lies in its range
    if labels.min() < 0 or labels.max() not in CORTEX:
        found = f"{labels.min()} to {labels.max()}"
        allowed = f"the numbers of Neuromorphometrics: 0 to {CORTEX[-1]}, the cortex from {CORTEX[0]}"
        raise DataError([Problem(str(scan.label), "values", found, allowed)])
    path = folder / CONVERTED / domain / f"{scan.subject}{_suffix(scan.label)}"
    replace_file(path, label_file(scan.label, freesurfer_numbers(labels), LARGEST))
    return path


def _splits(domain: str, subjects: Sequence[str], training: int, validation: int, seed: int) -> dict[str, str]:
    drawn = random.Random(f"{seed} {domain}").sample(sorted(subjects), len(subjects))
    split = ["train"] * training + ["val"] * validation
    return dict(zip(drawn, split + ["test"] * (len(drawn) - len(split)), strict=True))


def _twice(folder: Path, found: dict[str, list[Scan]]) -> list[Problem]:
    seen: dict[str, str] = {}
    problems = []
    for domain, scans in found.items():
        for scan in scans:
            if scan.subject in seen:
                where = f"{seen[scan.subject]} and {domain}"
                allowed = "one scan a subject: a patient must not be learnt from in one domain and tested on in another"
                problems.append(Problem(str(folder / domain), scan.subject, f"a scan in {where}", allowed))
            seen[scan.subject] = domain
    return problems


def _volume(folder: Path, name: str) -> Path | None:
    return next((path for suffix in VOLUME_SUFFIXES if (path := folder / f"{name}{suffix}").exists()), None)


def _suffix(path: Path) -> str:
    return next(suffix for suffix in sorted(VOLUME_SUFFIXES, key=len, reverse=True) if path.name.endswith(suffix))


def _lacking(path: Path, name: str, allowed: str) -> Problem:
    return Problem(str(path), "files", f"no {name} beside it", allowed)


def _unless(scans: Sequence[Scan], folder: Path, layout: str) -> list[Problem]:
    return [] if scans else [Problem(str(folder), "files", "no scan", f"the layout is {layout}")]


def run() -> None:
    """Reads the command line, writes the two files, says what they hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds candi, adni_15t, malc and adni_3t")
    parser.add_argument("--validation", type=int, default=2, help="validation scans of each domain (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of training and validation scans (default 0)")
    given = parser.parse_args()
    if given.validation < 1:
        parser.exit(2, f"--validation: found {given.validation}; it must be at least 1.\n")
    try:
        write_folder(given.folder, validation=given.validation, seed=given.seed)
        dataset = Dataset.open(given.folder)
    except DataError as error:
        parser.exit(2, f"{error}\n")
    for domain in dataset.domains:
        splits = [case.split for case in dataset.cases if case.domain == domain]
        sys.stdout.write(f"{domain}: " + ", ".join(f"{splits.count(split)} {split}" for split in SPLITS) + "\n")


if __name__ == "__main__":
    run()
