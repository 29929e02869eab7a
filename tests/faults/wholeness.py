"""Whatever stands in a workspace under its own name and is not whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import onnx
import torch

from faults.scenarios import segments
from perdure.data.pseudonyms import read_salt
from perdure.errors import LedgerError, PerdureError
from perdure.evaluation import Scores
from perdure.evidence.ledger.ledger import FILE, Ledger
from perdure.evidence.ledger.workspace import release_folders
from perdure.release import read_identity


def half_written(work: Path) -> Iterator[str]:
    """Whatever stands under its own name and is not whole."""
    for folder in release_folders(work):
        try:
            read_identity(folder)
        except PerdureError as error:
            yield f"half written: {error}"
    for path in work.glob("*.parquet"):
        try:
            Scores.read(path)
        except PerdureError as error:
            yield f"half written: {error}"
    for path in [*work.glob("*.json"), *work.glob("card/*.json")]:
        try:
            json.loads(path.read_text())
        except ValueError as error:
            yield f"half written: {path.name}: {error}"
    yield from _half_written_elsewhere(work)
    try:
        Ledger(work / FILE).entries()
    except LedgerError as error:
        yield f"ledger: {error}"


_IMPORTED = ("manifest.csv", "dataset.toml")
_EXPORTED = ("configs", "models", "docs/README.md", "scripts", "LICENSE")


def _half_written_elsewhere(work: Path) -> Iterator[str]:
    """The same of what is in the formats of others."""
    wholes = dict.fromkeys(("nnunet", "msd", "bids"), _IMPORTED)
    wholes |= {"series": (*_IMPORTED, "series"), "bundle": _EXPORTED}
    for name, parts in wholes.items():
        if (work / name).exists() and (missing := [part for part in parts if not (work / name / part).exists()]):
            yield f"half written: {name}: without {', '.join(missing)}"
    for pattern, read in (
        ("bundle/models/*.pt", lambda path: torch.load(path, weights_only=True)),
        ("bundle/*/*.json", lambda path: json.loads(path.read_text())),
        ("*.onnx", onnx.load),
        ("labels/**/*.nii.gz", _voxels),
        ("mgz/**/*.mgz", _voxels),
        ("derived/**/*.nii.gz", _voxels),
        ("derived/**/*.json", lambda path: json.loads(path.read_text())),
        ("seg/**/*.dcm", segments),
        ("pacs/*.dcm", segments),
        ("private/salt", read_salt),
    ):
        for path in work.glob(pattern):
            if any(part.startswith(".") for part in path.relative_to(work).parts):
                continue
            try:
                read(path)
            except Exception as error:  # noqa: BLE001 - whatever a reader says of a file that is cut short
                yield f"half written: {path.relative_to(work)}: {error}"


def _voxels(path: Path) -> Any:
    return np.asarray(nib.load(path).dataobj)
