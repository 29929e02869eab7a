"""What fuzzing has found, one input each, so that it stays mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

import synthetic
import workspaces
from perdure.benchmark.config import read_config
from perdure.cli.config import _content
from perdure.data import Dataset
from perdure.data.manifest import read_description
from perdure.errors import ConfigurationError, DataError, MethodError, PerdureError, ReleaseError
from perdure.evidence.audit.audit import audit
from perdure.evidence.audit.text import audit_renderables
from perdure.evidence.gate.plan import PlanFile
from perdure.evidence.ledger.ledger import FILE, Ledger
from perdure.evidence.ledger.verification import verify
from perdure.evidence.ledger.workspace import named
from perdure.methods.composition import composed
from perdure.release import read_identity
from perdure.release.recorded import TrainingRecord

DEEP = "[" * 5000 + "]" * 5000
LONG = "9" * 5000


@pytest.mark.parametrize("value", [DEEP, "[" * 900 + "]" * 900, LONG, "{a=" * 5000 + "1" + "}" * 5000])
@pytest.mark.parametrize("read", [PlanFile.read, read_config, composed, _content])
def test_toml_that_python_cannot_read_is_refused(tmp_path: Path, read: Callable[[Path], object], value: str) -> None:
    """Too deep for the parser, or for what comes after it, or too long a number."""
    path = tmp_path / "file.toml"
    path.write_text(f"x = {value}\n")
    try:
        read(path)
    except PerdureError as error:
        assert str(path) in str(error)  # noqa: PT017 - a plain file of options may be read so
    else:
        assert read is _content


@pytest.mark.parametrize("value", [DEEP, "[" * 900 + "]" * 900, LONG])
def test_a_dataset_toml_that_python_cannot_read_is_refused(tmp_path: Path, value: str) -> None:
    folder = synthetic.write_images(tmp_path / "data")
    file = folder / "dataset.toml"
    file.write_text(f"modality = {value}\n{file.read_text()}".replace('modality = "synthetic"\n', ""))
    with pytest.raises(DataError, match=r"dataset\.toml: (file|modality|text): found"):
        read_description(folder)


def test_seventy_thousand_values_of_a_label_are_compared_at_once(tmp_path: Path) -> None:
    """Each with each would take an hour."""
    folder = synthetic.write_images(tmp_path / "data")
    file = folder / "dataset.toml"
    file.write_text(file.read_text().replace("disc = 1", f"disc = {[*range(1, 65536), *range(1, 5000)]}"))
    with pytest.raises(DataError, match="a value may mean one thing only"):
        read_description(folder)


@pytest.mark.parametrize(
    "line",
    [
        "rate = [[1], [1]]",
        'regularizer = {form = ["x"]}',
        "regularizer = {form = {a = 1}}",
        'regularizer = {form = "freezing"}\nimportance = {measure = ["mas"]}',
    ],
)
def test_a_method_of_lists_where_words_belong_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "method.toml"
    path.write_text(line if "regularizer" in line else f'{line}\n[regularizer]\nform = "unrestrained"\n')
    with pytest.raises(MethodError, match=r"method\.toml: "):
        composed(path)


@pytest.mark.parametrize("length", ["nan", "inf", "-inf"])
def test_a_spacing_that_is_no_length_is_refused(tmp_path: Path, length: str) -> None:
    folder = synthetic.write_volumes(tmp_path / "data", shape=(6, 7, 8))
    file = folder / "dataset.toml"
    file.write_text(f"spacing = {length}\n{file.read_text()}")
    with pytest.raises(DataError, match="three positive lengths in mm"):
        Dataset.open(folder)


def test_a_sample_larger_than_any_memory_is_refused(tmp_path: Path) -> None:
    dataset = Dataset.open(synthetic.write_images(tmp_path / "data"))
    with pytest.raises(DataError, match="at most 1,073,741,824 numbers a sample"):
        dataset.default_contract(size=10**6, cache=tmp_path / "cache")


@pytest.mark.parametrize("cell", ["\x1b[2J", "a\x00b", "\x9b31m"])
def test_control_characters_in_a_manifest_are_named_and_not_printed(tmp_path: Path, cell: str) -> None:
    folder = synthetic.write_images(tmp_path / "data")
    file = folder / "manifest.csv"
    file.write_text(file.read_text().replace("camera-a-train-0,camera-a", f"{cell},camera-a"))
    with pytest.raises(DataError, match="a cell without control characters") as caught:
        Dataset.open(folder).check(cache=tmp_path / "cache")
    assert cell not in str(caught.value)


def test_control_characters_in_a_dataset_toml_are_named_and_not_printed(tmp_path: Path) -> None:
    folder = synthetic.write_images(tmp_path / "data")
    file = folder / "dataset.toml"
    file.write_text(file.read_text().replace("disc = 1", '"\\u001b[2J" = 1'))
    with pytest.raises(DataError, match="write it without control characters") as caught:
        Dataset.open(folder)
    assert "\x1b" not in str(caught.value)


def test_a_plan_is_refused_with_its_words_where_json_has_none_for_them(tmp_path: Path) -> None:
    path = tmp_path / "PLAN.toml"
    path.write_text("format = 1\nlevel = nan\n")
    with pytest.raises(ConfigurationError, match=r"PLAN\.toml"):
        PlanFile.read(path)


@pytest.mark.parametrize("name", ["9" * 5000, "../outside.parquet", "/etc/hostname", "a\0b", ".."])
def test_a_name_in_a_ledger_that_is_no_plain_name_leads_nowhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.parquet").write_bytes(b"")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    assert named(workspace, name) is None
    assert named(workspace, "scores.parquet") == workspace / "scores.parquet"
    Ledger(workspace / FILE).append("evaluated", "0" * 64, file=name, scores="0" * 64)
    assert verify(workspace).problems == ()


@pytest.mark.parametrize("kept", [["a"], None, 0, 3, True, 1.5])
def test_a_kept_epoch_that_there_is_none_of_is_refused(kept: object) -> None:
    """It was looked up when a release is described."""
    record = TypeAdapter(TrainingRecord)
    epochs = [{"epoch": number, "loss": 1.0, "validation_loss": None} for number in (1, 2)]
    assert record.validate_python({"epochs": epochs, "kept_epoch": 2})["kept_epoch"] == 2
    with pytest.raises(ValidationError, match="kept_epoch"):
        record.validate_python({"epochs": epochs, "kept_epoch": kept})


def test_a_record_of_a_release_that_is_too_deep_to_be_written_again_is_refused_by_name(tmp_path: Path) -> None:
    workspaces.workspace(tmp_path / "work")
    file = min((tmp_path / "work").rglob("release.json"))
    content = json.loads(file.read_text())
    content["recipe"]["x"] = json.loads("[" * 300 + "]" * 300)
    file.write_text(json.dumps(content))
    with pytest.raises(ReleaseError, match=r"release\.json: damaged: "):
        read_identity(file.parent)
    assert not audit(file.parent).is_passed


def test_an_audit_shows_what_somebody_can_read_of_thousands_of_objections(tmp_path: Path) -> None:
    """A table of 70,000 took more than a minute."""
    workspaces.workspace(tmp_path / "work")
    file = min((tmp_path / "work").rglob("release.json"))
    file.write_text(json.dumps({**json.loads(file.read_text()), "domains": [0] * 2000}))
    found = audit(file.parent)
    assert len(found.objections) > 2000
    table, more, verdict = audit_renderables(found)
    assert isinstance(table, Table)
    assert table.row_count == 100
    assert more == f"{len(found.objections) - 100} more objection(s); --json has all."
    assert str(verdict).startswith(f"Not passed: {len(found.objections)} objection(s)")
