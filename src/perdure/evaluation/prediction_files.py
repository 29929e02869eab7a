"""Predictions as files: a folder in, a folder out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.errors import DataError, EvaluationError
from perdure.evaluation.prediction import Predictor
from perdure.release.folder import naming, replace_file

if TYPE_CHECKING:
    from perdure.release import Release

RECORD, TABLE = "prediction.json", "predictions.csv"


@dataclass
class Predicted:
    """What became of each file.

    Args:
        written: what was predicted now.
        skipped: how many were done before.
        failed: file to reason.
    """

    written: list[Path] = field(default_factory=list)
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def predict_files(
    release: Release,
    source: Path,
    out: Path,
    *,
    device: str = "cpu",
    domain: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Predicted:
    """Predicts a file or every image of a folder, below it too, and writes each result under the same relative name.

    Segmentation gives a label map on the image's own grid; classification gives one `predictions.csv` with the image,
    the most probable class, and the probability of each. What is there already is not done again, if the same release
    made it. One bad file is reported and does not stop the others.

    Args:
        release: whose model predicts.
        source: an image, or a folder. Hidden files, and those in `out`, are no images.
        out: the folder for the results: new, empty, or with results of the same release.
        device: where the network runs.
        domain: where the images are from; a release that keeps one batch norm a domain has to know, others do not look
            at it.
        progress: told how many of how many files are done.

    Raises:
        EvaluationError: if there is no image, `out` holds something else than results of this release (and domain), or
            the release keeps one batch norm a domain and `domain` is none of them.
    """
    whose = _whose(release, domain)
    _check_owner(out, release, whose)
    files = _images(source, out)
    root = source if source.is_dir() else source.parent
    owner = json.dumps({"release": release.id, "name": release.name, "domain": whose}, indent=2) + "\n"
    replace_file(out / RECORD, owner.encode())
    predictor = Predictor(release, device, whose)
    write = _segmented if release.contract.task == "segmentation" else _Classified(out / TABLE, release)
    result = Predicted()
    for done, file in enumerate(files, 1):
        try:
            written = write(predictor, file, file.relative_to(root), out)
        except DataError as error:
            result.failed[str(file)] = str(error)
        else:
            if written is None:
                result.skipped += 1
            else:
                result.written.append(written)
        progress(done, len(files))
    return result


def _whose(release: Release, domain: str | None) -> str | None:
    """The domain whose batch norm predicts; None for a release that has one for all."""
    norms = release.memory.norms
    if norms and domain not in norms:
        found = "no domain is named" if domain is None else f"it has none for {domain!r}"
        raise EvaluationError(
            f"Release {release.name!r} keeps one batch norm a domain, and {found}: say where the images are from "
            f"(--domain), one of {', '.join(norms)}. For another place name the one whose images are most alike, or "
            "update the release to it."
        )
    return domain if norms else None


def _check_owner(out: Path, release: Release, domain: str | None) -> None:
    """Refuses to mix the results of two releases, or results with other files."""
    record = out / RECORD
    if not record.exists():
        if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise EvaluationError(f"{out}: holds other files than predictions; choose a new or an empty --out.")
        return
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        found, place = str(content["release"]), content.get("domain")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{record}: damaged; choose another --out.") from error
    if found != release.id:
        raise EvaluationError(
            f"{out}: holds the results of release {found[:12]}, not of {release.id[:12]}; choose another --out."
        )
    if place != domain:
        raise EvaluationError(f"{out}: holds results for domain {place}, not for {domain}; choose another --out.")


def _images(source: Path, out: Path) -> list[Path]:
    from perdure.data.images import IMAGE_SUFFIXES, VOLUME_SUFFIXES

    suffixes = (*VOLUME_SUFFIXES, *IMAGE_SUFFIXES)
    if not source.exists():
        raise EvaluationError(f"{source}: no such file or folder; --input names an image or a folder of images.")
    files = sorted(f for f in source.rglob("*") if f.is_file()) if source.is_dir() else [source]
    images = [file for file in files if file.name.lower().endswith(suffixes) and not file.name.startswith(".")]
    images = [file for file in images if not file.resolve().is_relative_to(out.resolve())]
    if not images:
        raise EvaluationError(f"{source}: found no image there; allowed are {', '.join(suffixes)}.")
    return images


def _segmented(predictor: Predictor, file: Path, name: Path, out: Path) -> Path | None:
    from perdure.data import prepare_image
    from perdure.data.writing import label_file

    target = out / name
    if target.exists():
        return None
    image = prepare_image(file, predictor.contract)
    labels = predictor.values(image.pixels, image.grid)
    replace_file(target, label_file(file, labels, predictor.largest_value))
    return target


class _Classified:
    """One table for all files; a row is added after each file, and a row that a crash cut short is dropped."""

    def __init__(self, table: Path, release: Release) -> None:
        self.table = table
        self.names = [structure.name for structure in release.contract.structures]
        content = table.read_bytes() if table.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content or not whole:
            head = _line(["image", "class", *(f"probability_{name}" for name in self.names)])
            replace_file(table, whole or head)
        with table.open(newline="", encoding="utf-8") as file:
            self.done = {row[0] for row in csv.reader(file)}

    def __call__(self, predictor: Predictor, file: Path, name: Path, out: Path) -> Path | None:
        from perdure.data import prepare_image

        if name.as_posix() in self.done:
            return None
        found = predictor.probabilities(prepare_image(file, predictor.contract).pixels)
        best = self.names[int(found.argmax())]
        with naming(self.table), self.table.open("ab") as table:
            table.write(_line([name.as_posix(), best, *(f"{value:.6f}" for value in found)]))
        return self.table


def _line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()
