"""Makes a data folder for the experiments of Gupta et al. 2020 from a list of mammograms.

    python benchmarks/paper_b_folder.py LISTING.csv --original SITE [--original SITE ...] --target SITE --out FOLDER

LISTING.csv has a row an image: `image` (DICOM, or a PNG of 8 or 16 bits, its path relative to the listing), `patient`,
`density` (A to D, or 1 to 4), `site`, and `bits` where the numbers of a PNG of 16 bits have fewer (12 or 14, say). Each
image is scaled to [0, 1] by the largest number of those bits, resized, and written as an RGB PNG of 16 bits with the
same grey three times: that is what weights of ImageNet take.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import imagecodecs
import numpy as np

from perdure.data import Dataset, prepare_image
from perdure.data.images import is_dicom_path, read_header
from perdure.errors import DataError, Problem
from perdure.release.folder import replace_file
from perdure.types import SPLITS, Contract, Intensity, Structure

GRADES = {"fatty": "A1", "scattered": "B2", "heterogeneously_dense": "C3", "extremely_dense": "D4"}
"""ACR BI-RADS density, each grade with what a listing may call it."""
COLUMNS = ("image", "patient", "density", "site")
ORIGINAL, TARGET = "dataset_o", "dataset_t"
LARGEST = 65535


def write_folder(
    listing: Path, folder: Path, *, original: Sequence[str], target: Sequence[str], size: int = 224
) -> None:
    """Writes images, `manifest.csv` and `dataset.toml`.

    Args:
        listing: the list.
        folder: what to write.
        original: sites of dataset O.
        target: sites of dataset T.
        size: pixels of the squares that are written.

    Raises:
        DataError: with all rows that are wrong.
    """
    lines = _read(listing)
    domains = {**dict.fromkeys(original, ORIGINAL), **dict.fromkeys(target, TARGET)}
    problems = [problem for number, line in lines for problem in _problems(listing, number, line, domains)]
    present = {line["site"] for _, line in lines}
    problems += [
        Problem(str(listing), "column site", f"no row of {site!r}", f"it has {', '.join(sorted(present))}")
        for site in domains
        if site not in present
    ]
    if problems:
        raise DataError(problems)
    contract = Contract(
        task="classification",
        structures=tuple(Structure(name=name, values=(value,)) for value, name in enumerate(GRADES)),
        channels=3,
        size=(size, size),
        resize="stretch",
        intensity=Intensity(scaling="format"),
    )
    counted: Counter[str] = Counter()
    rows = []
    for number, line in lines:
        domain, subject = domains[line["site"]], _slug(line["patient"])
        counted[subject] += 1
        name = f"{subject}-{counted[subject]}"
        path = f"images/{domain}/{name}.png"
        pixels = _scaled(listing, number, line, contract)
        replace_file(folder / path, imagecodecs.png_encode(pixels))
        grade = _grade(line["density"])
        rows.append(
            {"id": name, "subject": subject, "domain": domain, "image": path, "class": grade, "site": line["site"]}
        )
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "dataset.toml").write_text(description(), encoding="utf-8")


def description() -> str:
    """`dataset.toml`; patients are split 7:2:1, as in the paper, which the manifest leaves to the reader."""
    labels = "\n".join(f"{name} = {value}" for value, name in enumerate(GRADES))
    return (
        'name = "paper_b"\ntitle = "Mammograms for the experiments of Gupta et al. 2020"\ntask = "classification"\n'
        f'modality = "digital mammography"\ndomains = ["{ORIGINAL}", "{TARGET}"]\nordinal = true\n\n'
        f"[splitting]\nfractions = [0.7, 0.2, 0.1]\n\n[labels]\n{labels}\n"
    )


def _read(listing: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with listing.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lines = [
                (reader.line_num, {name: (value or "").strip() for name, value in row.items() if name is not None})
                for row in reader
            ]
            columns = reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError([Problem(str(listing), "file", f"no readable CSV ({error})", "name a CSV in UTF-8")]) from error
    lacking = [name for name in COLUMNS if name not in columns]
    if lacking or not lines:
        found = f"no column {', '.join(lacking)}" if lacking else "no row"
        raise DataError([Problem(str(listing), "columns", found, f"one row an image, columns {', '.join(COLUMNS)}")])
    return lines


def _problems(listing: Path, number: int, line: Mapping[str, str], domains: Mapping[str, str]) -> list[Problem]:
    where = f"line {number}, "
    problems = [
        Problem(str(listing), f"{where}{name}", "nothing", "fill it in") for name in COLUMNS if not line.get(name)
    ]
    if line["density"] and _grade(line["density"]) is None:
        problems.append(Problem(str(listing), f"{where}density", repr(line["density"]), "one of A to D, or 1 to 4"))
    if line["site"] and line["site"] not in domains:
        allowed = f"one of --original and --target: {', '.join(domains)}"
        problems.append(Problem(str(listing), f"{where}site", repr(line["site"]), allowed))
    bits = line.get("bits", "")
    if bits and not (bits.isdigit() and 1 <= int(bits) <= 16):
        problems.append(Problem(str(listing), f"{where}bits", repr(bits), "a whole number from 1 to 16, or nothing"))
    if line["image"]:
        try:
            header = read_header(listing.parent / line["image"])
        except DataError as error:
            problems += error.problems
        else:
            if header.is_volume:
                problems.append(Problem(str(listing), f"{where}image", "a volume", "one mammogram"))
            if bits and is_dicom_path(listing.parent / line["image"]):
                problems.append(Problem(str(listing), f"{where}bits", repr(bits), "nothing: DICOM says it itself"))
    return problems


def _scaled(listing: Path, number: int, line: Mapping[str, str], contract: Contract) -> np.ndarray:
    """An image as the network will see it, `(height, width, 3)` in 16 bits."""
    path = listing.parent / line["image"]
    pixels = prepare_image(path, contract).pixels[0].transpose(1, 2, 0).astype(np.float64)
    if line.get("bits"):
        # `format` scaling has divided by the largest number of the file's own bits
        pixels *= (2 ** _bits_of_file(path) - 1) / (2 ** int(line["bits"]) - 1)
    if pixels.max() > 1 + 1e-6:
        found = f"{line['bits']}, but the image goes {pixels.max():.2f} times as high"
        raise DataError([Problem(str(listing), f"line {number}, bits", found, "the bits that the detector really has")])
    return np.ascontiguousarray(np.rint(pixels * LARGEST).clip(0, LARGEST).astype(np.uint16))


def _bits_of_file(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]


def _grade(text: str) -> int | None:
    return next((value for value, names in enumerate(GRADES.values()) if text.upper() in tuple(names)), None)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "patient"


def run() -> None:
    """Reads the command line, writes the folder, says what it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("listing", type=Path, help="CSV with a row an image")
    parser.add_argument("--original", action="append", required=True, help="a site of dataset O; repeat for several")
    parser.add_argument("--target", action="append", required=True, help="a site of dataset T; repeat for several")
    parser.add_argument("--out", type=Path, required=True, help="data folder to write")
    parser.add_argument("--size", type=int, default=224, help="pixels (default 224)")
    given = parser.parse_args()
    if both := sorted(set(given.original) & set(given.target)):
        parser.exit(2, f"--target {both[0]}: is a site of dataset O too; a site belongs to one of them.\n")
    try:
        write_folder(given.listing, given.out, original=given.original, target=given.target, size=given.size)
        dataset = Dataset.open(given.out)
    except DataError as error:
        parser.exit(2, f"{error}\n")
    for domain in dataset.domains:
        splits = [case.split for case in dataset.cases if case.domain == domain]
        sys.stdout.write(f"{domain}: " + ", ".join(f"{splits.count(split)} {split}" for split in SPLITS) + "\n")


if __name__ == "__main__":
    run()
