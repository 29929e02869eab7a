"""The commands that faults happen to, each with what it made."""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import torch
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset
from pydicom.pixels import pixel_array

import grids
import layouts
import nnunet_folder
import pacs
import synthetic
from dicoms import write_series
from faults.lab import Lab
from gate_workspace import mild_plan
from perdure.benchmark.record import Record
from perdure.data.importing import Chosen, find_bids, find_decathlon, find_dicom, find_nnunet
from perdure.data.importing.folder import imported
from perdure.data.importing.found import Found
from perdure.data.pseudonyms import read_salt
from perdure.evaluation import Scores
from perdure.evidence.gate.verdict import Verdict
from perdure.evidence.ledger.ledger import FILE, Ledger
from perdure.evidence.remote.sealing import unsealed
from perdure.evidence.remote.signing import public_key
from perdure.release import read_identity

Digest = Callable[[Path], Any]


@dataclass(frozen=True)
class Scenario:
    """One command.

    Args:
        name: of it.
        words: its command line, in a workspace.
        digest: what it made, so that two runs can be compared: bytes where it makes the same ones always.
        codes: exit codes of a run that ends well.
        done: what the same command says where it was done already, and refuses to do it again; empty if it never does.
        reset: puts back what lies outside the workspace.
    """

    name: str
    words: Callable[[Path], Sequence[object]]
    digest: Digest
    codes: tuple[int, ...] = (0,)
    done: str = ""
    reset: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Given:
    """What commands begin with, outside the workspace.

    Args:
        folder: that it lies in.
        pacs: address of a PACS that has the study of `series`; without one nothing is asked of it.
    """

    folder: Path
    pacs: str = ""

    @property
    def data(self) -> Path:
        """Two domains of pictures."""
        return self.folder / "data"

    @property
    def volumes(self) -> Path:
        """One domain of volumes."""
        return self.folder / "volumes"


def scenarios(given: Given) -> Iterator[Scenario]:
    """All of them, each in the workspace that those before it left."""
    yield from _everyday(given)
    yield from _clinical(given)
    if given.pacs:
        yield _from_pacs(given)


def _everyday(given: Given) -> Iterator[Scenario]:
    small = ("--epochs", 2, "--batch-size", 2)

    def data(work: Path) -> tuple[object, ...]:
        return "--data", given.data, "--cache", work / "cache"

    def line(work: Path) -> tuple[object, ...]:
        return "--release", work / "base", "--release", work / "b"

    network = ("--filters", 2, "--kernel-size", 3, "--size", 32, "--dropout", 0.2, "--augment")
    yield Scenario(
        "train",
        lambda work: ("train", *data(work), "--domain", "a", *network, *small, "--out", work / "base"),
        lambda work: _tensors(work / "base"),
    )
    yield Scenario(
        "declare",
        lambda work: ("gate", "--plan", _plan(work), "--declare"),
        lambda work: _actions(work, "declared"),
    )
    yield Scenario(
        "update",
        lambda work: ("update", "--release", work / "base", *data(work), "--domain", "b", "--method", "mas-lr",
                      *small, "--out", work / "b"),
        lambda work: _tensors(work / "b"),
    )  # fmt: skip
    yield Scenario(
        "evaluate",
        lambda work: ("evaluate", *line(work), *data(work), "--out", work / "scores.parquet"),
        lambda work: _scores(Scores.read(work / "scores.parquet")),
    )
    yield Scenario(
        "gate",
        lambda work: ("gate", "--plan", work / "PLAN.toml", "--scores", work / "scores.parquet", "--out",
                      work / "verdict.json", "--junit", work / "verdict.xml"),
        lambda work: Verdict.read(work / "verdict.json").model_dump(exclude={"created"}),
        codes=(0, 5),
    )  # fmt: skip
    yield Scenario(
        "approve",
        lambda work: ("approve", work / "b", "--verdict", work / "verdict.json", "--name", "A", "--override", "R"),
        lambda work: _actions(work, "approved"),
    )
    yield Scenario(
        "predict",
        lambda work: ("predict", "--release", work / "b", "--input", given.data / "images", "--out", work / "out"),
        lambda work: {p.name: p.read_bytes() for p in sorted((work / "out").rglob("*.png"))},
    )
    yield Scenario(
        "report",
        lambda work: ("report", work, "--out", work / "report.html", "--json-out", work / "report.json",
                      "--model-card", work / "card"),
        lambda work: json.loads((work / "report.json").read_text())["lineage"],
    )  # fmt: skip
    yield Scenario(
        "rollback",
        lambda work: ("rollback", work / "b", "--out", work / "back"),
        lambda work: (_tensors(work / "back"), _actions(work, "rolled back")),
    )
    yield Scenario(
        "key",
        lambda work: ("key", "--out", work / "site.key"),
        lambda work: sorted(path.name for path in work.glob("site.key*")),
        done="a key is never overwritten",
    )
    yield Scenario(
        "evaluate signed",
        lambda work: ("evaluate", *line(work), *data(work), "--domain", "a", "--signed", work / "site.key", "--out",
                      work / "a.signed"),
        lambda work: _scores(unsealed(work / "a.signed", [public_key(work / "site.key.pub")]).scores),
    )  # fmt: skip
    yield Scenario(
        "evaluate remote",
        lambda work: ("evaluate", *line(work), *data(work), "--domain", "b", "--remote", work / "a.signed",
                      "--trusted-key", work / "site.key.pub", "--out", work / "joined.parquet"),
        lambda work: _scores(Scores.read(work / "joined.parquet")),
    )  # fmt: skip
    yield Scenario(
        "benchmark",
        lambda work: ("benchmark", given.folder / "grid.toml", *data(work), "--out", work / "grid", "--seed", 0,
                      "--workers", 1),
        lambda work: _grid(work / "grid"),
    )  # fmt: skip


def give(given: Given, lab: Lab) -> None:
    """Makes it: pictures, volumes, folders in other layouts, a release that segments volumes, a study in the PACS."""
    folder = given.folder
    synthetic.write_images(given.data, domains=("a", "b"), cases=(2, 1, 2), size=(32, 32))
    (folder / "grid.toml").write_text(grids.PLAIN)
    layouts.write_nnunet(folder / "nnunet", cases=4, test=1)
    layouts.write_decathlon(folder / "msd")
    layouts.write_bids(folder / "bids", subjects=("01", "02"))
    layouts.write_export(folder / "export", patients=("MRN-1", "MRN-2", "MRN-3"))
    nnunet_folder.write(folder / "trained", nnunet_folder.network())
    synthetic.write_volumes(given.volumes, cases=(1, 1, 1), shape=(12, 14, 13))
    toml = given.volumes / "dataset.toml"
    toml.write_text(toml.read_text().replace('modality = "synthetic"', 'modality = "MRI"'))
    files = write_series(folder / "series", layouts.head(0)[0], layouts.AFFINE)
    if given.pacs:
        DICOMwebClient(given.pacs).store_instances([pydicom.dcmread(file) for file in files])
    where = ("--data", given.volumes, "--cache", folder / "cache", "--domain", "scanner-a")
    network = ("--filters", 2, "--kernel-size", 3, "--size", 16, "--epochs", 1, "--batch-size", 2)
    ran = lab("train", *where, *network, "--out", folder / "release", under=folder)
    assert ran.code == 0, ran.err


def _clinical(given: Given) -> Iterator[Scenario]:
    """What comes in and goes out in the formats of others."""

    def predict(*more: object) -> tuple[object, ...]:
        return "predict", "--release", given.folder / "release", *more

    def imports(name: str, layout: str, find: Callable[[Path], Found]) -> Scenario:
        return Scenario(
            name,
            lambda work: ("import", layout, given.folder / layout, "--out", work / layout, "--salt",
                          work / "private" / "salt"),
            lambda work: _imported(work, layout, find(given.folder / layout)),
            done="nothing is overwritten",
        )  # fmt: skip

    yield imports("import", "nnunet", find_nnunet)
    yield imports("import msd", "msd", find_decathlon)
    yield imports("import bids", "bids", find_bids)
    yield Scenario(
        "import dicom",
        lambda work: ("import", "dicom", given.folder / "export", "--out", work / "series", "--salt",
                      work / "private" / "salt", "--domain", "here"),
        lambda work: _imported(work, "series", find_dicom(given.folder / "export", _salt(work), Chosen()), "here"),
        done="nothing is overwritten",
    )  # fmt: skip
    yield Scenario(
        "export",
        lambda work: ("export", work / "base", "--format", "monai", "--out", work / "bundle"),
        lambda work: _bundle(work / "bundle"),
        done="nothing is overwritten",
    )
    yield Scenario(
        "adopt",
        lambda work: ("adopt", "--bundle", work / "bundle", "--data", given.data, "--cache", work / "cache",
                      "--domain", "a", "--out", work / "adopted"),
        lambda work: (_tensors(work / "adopted"), _actions(work, "adopted")),
        done="nothing is overwritten",
    )  # fmt: skip
    yield Scenario(
        "adopt nnunet",
        lambda work: ("adopt", "--nnunet", given.folder / "trained", "--data", given.volumes, "--cache",
                      work / "cache", "--domain", "scanner-a", "--out", work / "from-nnunet"),
        lambda work: (_tensors(work / "from-nnunet"), _actions(work, "adopted")),
        done="nothing is overwritten",
    )  # fmt: skip
    yield Scenario(
        "export onnx",
        lambda work: ("export", work / "from-nnunet", "--format", "onnx", "--out", work / "network.onnx"),
        lambda work: (work / "network.onnx").read_bytes(),
        done="nothing is overwritten",
    )
    yield Scenario(
        "predict volumes",
        lambda work: predict("--input", given.volumes / "images", "--out", work / "labels", "--format",
                             "nifti", "--probabilities", "--volumes"),
        lambda work: (_contents(work / "labels", "*.nii.gz"), (work / "labels" / "volumes.csv").read_bytes()),
    )  # fmt: skip
    yield Scenario(
        "predict dicom-seg",
        lambda work: predict("--input", given.folder / "series", "--out", work / "seg", "--format", "dicom-seg"),
        lambda work: [segments(path) for path in sorted((work / "seg").rglob("*.dcm"))],
    )
    yield Scenario(
        "predict mgz",
        lambda work: predict("--input", given.volumes / "images", "--out", work / "mgz", "--format", "mgz"),
        lambda work: _contents(work / "mgz", "*.mgz"),
    )
    yield Scenario(
        "predict bids",
        lambda work: predict("--input", given.folder / "bids", "--match", "*_T1w.nii.gz", "--out", work / "derived",
                             "--format", "bids", "--probabilities"),
        lambda work: (_contents(work / "derived", "sub-*"), sorted(p.name for p in work.glob("derived/[!.]*"))),
    )  # fmt: skip


def _from_pacs(given: Given) -> Scenario:
    """A study of the PACS, whose segmentation goes back there."""

    def study() -> str:
        return str(pydicom.dcmread(next((given.folder / "series").iterdir())).StudyInstanceUID)

    return Scenario(
        "predict dicomweb",
        lambda work: ("predict", "--release", given.folder / "release", "--dicomweb", given.pacs, "--study", study(),
                      "--out", work / "pacs", "--volumes"),
        lambda work: (
            [segments(path) for path in sorted((work / "pacs").glob("*.dcm"))],
            [segments(one) for one in pacs.segmentations(given.pacs, study())],
            (work / "pacs" / "volumes.csv").read_bytes(),
        ),
        reset=lambda: pacs.forget_segmentations(given.pacs),
    )  # fmt: skip


def _plan(work: Path) -> Path:
    # written when the command is put together: the plan itself is no part of what fails
    if not (work / "PLAN.toml").exists():
        (work / "PLAN.toml").write_text(mild_plan("mas-lr", "target"))
    return work / "PLAN.toml"


def _tensors(release: Path) -> list[bytes]:
    read_identity(release)
    return [(release / name).read_bytes() for name in ("weights.safetensors", "memory.safetensors")]


def _salt(work: Path) -> bytes:
    return read_salt(work / "private" / "salt")


def _imported(work: Path, name: str, found: Found, domain: str | None = None) -> Any:
    """What an import wrote, and whether it is all that the salt that was kept gives; names differ with each salt."""
    expected = imported(found, work / name, _salt(work), domain=domain)
    with tempfile.TemporaryDirectory() as folder:
        expected.write(Path(folder))
        is_all = _contents(Path(folder), "*") == _contents(work / name, "*")
    # where its source is depends on where the workspace is
    about = tomllib.loads((work / name / "dataset.toml").read_text()) | {"source": ""}
    return is_all, len(expected.rows), len(expected.lists), about


def _contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
    }


def _bundle(folder: Path) -> Any:
    """All files of a bundle; the weights, whose file need not be the same, as numbers."""
    files = _contents(folder, "*")
    weights = torch.load(folder / "models" / "model.pt", weights_only=True)
    del files["models/model.pt"]
    return files, {name: tensor.tolist() for name, tensor in weights.items()}


def segments(seg: Path | Dataset) -> Any:
    """A SEG without the time at which it was made."""
    seg = pydicom.dcmread(seg) if isinstance(seg, Path) else seg
    return seg.SOPInstanceUID, [one.SegmentLabel for one in seg.SegmentSequence], pixel_array(seg).tobytes()


def _scores(scores: Scores) -> Any:
    return scores.table.to_dict(as_series=False)


def _grid(folder: Path) -> Any:
    """What a grid found, and how often it looked at test cases."""
    record = Record.read(folder / "records.parquet")
    cells = {cell.label: cell.status for cell in record.header.cells}
    return record.table.to_dict(as_series=False), cells, record.header.reads["repeated"]


def _actions(work: Path, action: str) -> int:
    return sum(entry.action == action for entry in Ledger(work / FILE).entries())
