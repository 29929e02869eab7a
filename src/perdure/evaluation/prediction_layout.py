"""Under which name does each result go, and what stands beside it?"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from perdure.data.places import LIST_SUFFIX
from perdure.errors import DataError, EvaluationError, Problem

if TYPE_CHECKING:
    from perdure.models import Engine
    from perdure.types import Contract, Precision

Format: TypeAlias = Literal["nifti", "mgz", "bids", "dicom-seg"]

BIDS_VERSION = "1.10.0"
_SUFFIX = re.compile(r"(\.nii|\.nii\.gz|\.mgh|\.mgz|\.png)$", re.IGNORECASE)
_BIDS_NAME = re.compile(r"(?P<entities>sub-[a-zA-Z0-9+]+(_[a-z]+-[a-zA-Z0-9+]+)*)_(?P<suffix>[a-zA-Z0-9]+)")
_DATA_TYPES = ("anat", "dwi", "fmap", "func", "perf", "pet", "swi")
_DESCRIPTION = "dataset_description.json"
_IGNORED = "prediction.json\nsources.csv\nvolumes.csv\n"


@dataclass(frozen=True)
class Output:
    """What is written of each image, and how exactly it is computed.

    Args:
        form: what label maps of volumes are written as; None for the format and the name of the image.
        probabilities: whether those of each class are written too, see `perdure.data.writing.write_probabilities`.
        volumes: whether `volumes.csv` says how large each structure but background is in each image.
        precision: see `Predictor`.
        engine: see `Predictor`.
    """

    form: Format | None = None
    probabilities: bool = False
    volumes: bool = False
    precision: Precision = "32-true"
    engine: Engine = "torch"

    def check(self, contract: Contract) -> None:
        """Passes if there is all of this for a contract.

        Raises:
            EvaluationError: if not.
        """
        if contract.task == "classification" and (self.form or self.probabilities or self.volumes):
            raise EvaluationError(
                "A classification gives predictions.csv, with probabilities; --format, --probabilities and --volumes "
                "are for segmentations."
            )
        if self.form and self.form != "dicom-seg" and not contract.is_volumetric:
            raise EvaluationError(f"--format {self.form}: for volumes; a picture's label map is a PNG.")


@dataclass(frozen=True)
class Place:
    """Where the results of one image go, relative to the folder of results.

    Args:
        labels: the label map; it is written last.
        probabilities: the probabilities, if they are asked for.
        beside: the content of other files, by name.
    """

    labels: Path
    probabilities: Path | None
    beside: dict[Path, bytes]

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (*self.beside, *([self.probabilities] if self.probabilities else []), self.labels)


def place_of(name: Path, output: Output, contract: Contract) -> Place:
    """Where the results of an image go.

    Args:
        name: of the image, relative to the folder of images.
        output: what is written of it.
        contract: what the classes mean.

    Raises:
        DataError: for `bids`, if the image is not named as BIDS has it; for `dicom-seg`, if it is no DICOM.
    """
    if output.form == "dicom-seg" and _SUFFIX.search(name.name):
        wanted = "a SEG belongs to DICOM images; leave --format out, or name another"
        raise DataError([Problem(str(name), "format", "no DICOM", wanted)])
    if output.form == "bids":
        return _bids(name, contract, probabilities=output.probabilities)
    stem, own = _stem(name, contract)
    ending = {"nifti": ".nii.gz", "mgz": ".mgz", "dicom-seg": ".nii.gz", None: own}[output.form]
    maps = name.with_name(f"{stem}_probabilities{'.npy' if own.lower() == '.png' else ending}")
    labels = f"{stem.removesuffix('.dcm')}.seg.dcm" if output.form == "dicom-seg" else stem + ending
    return Place(name.with_name(labels), maps if output.probabilities else None, {})


def _stem(name: Path, contract: Contract) -> tuple[str, str]:
    """The name of an image without its suffix, and the suffix; DICOM stays in the name, and becomes another format."""
    suffix = _SUFFIX.search(name.name)
    if suffix is not None:
        return name.name[: suffix.start()], suffix[0]
    own = name.name.removesuffix(LIST_SUFFIX)
    stem = own if own.lower().endswith(".dcm") else f"{own}.dcm"
    return stem, ".nii.gz" if contract.is_volumetric else ".png"


def _bids(name: Path, contract: Contract, *, probabilities: bool) -> Place:
    found = _BIDS_NAME.fullmatch(_stem(name, contract)[0].removesuffix(".dcm"))
    if found is None:
        wanted = (
            "BIDS names an image sub-LABEL_..._SUFFIX, as sub-01_ses-1_T1w.nii.gz; rename it, or use another format"
        )
        raise DataError([Problem(str(name), "name", repr(name.name), wanted)])
    entities = [one for one in found["entities"].split("_") if not one.startswith("desc-")]
    folders = [one for one in entities[:2] if one.startswith(("sub-", "ses-"))]
    kind = name.parent.name if name.parent.name in _DATA_TYPES else "anat"
    folder = Path(*folders, kind)
    stem = "_".join([*entities, "desc-perdure"])
    source = {"Sources": [f"bids:raw:{name.as_posix()}"], "Manual": False}
    table = "".join(f"{one.values[0]}\t{one.name}\n" for one in contract.structures)
    beside = {
        folder / f"{stem}_dseg.json": _json(source),
        folder / f"{stem}_dseg.tsv": f"index\tname\n{table}".encode(),
    }
    maps = folder / f"{stem}_probseg.nii.gz" if probabilities else None
    if maps:
        names = {"LabelMap": [structure.name for structure in contract.structures]}
        beside[folder / f"{stem}_probseg.json"] = _json({**source, **names})
    return Place(folder / f"{stem}_dseg.nii.gz", maps, beside)


def bids_root(folder: Path) -> Path:
    """The dataset that a folder is in: itself, or the nearest one above, that has a description; itself if none has."""
    whole = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay what they are called
    return next((one for one in (whole, *whole.parents) if (one / _DESCRIPTION).is_file()), whole)


def bids_dataset(source: Path, out: Path, releases: Sequence[str]) -> dict[Path, bytes]:
    """What stands at the top of a folder of BIDS derivatives.

    Args:
        source: the dataset that the images are of.
        out: the folder of results.
        releases: what to call each release that made them.
    """
    description = {
        "Name": "Segmentations by Perdure",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {"Name": "Perdure", "Version": version("perdure"), "Description": f"release {release}"}
            for release in releases
        ],
        # relative, so that a machine's folders do not leave with the results
        "DatasetLinks": {"raw": Path(os.path.relpath(source, out)).as_posix()},
    }
    return {Path(_DESCRIPTION): _json(description), Path(".bidsignore"): _IGNORED.encode()}


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
