"""What networks see is drawn from the releases of a finished benchmark."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

import synthetic
from perdure.benchmark.cell import run_cell
from perdure.benchmark.config import read_config
from perdure.benchmark.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
GRID = """
name = "grid"
[data]
size = 16
[sequences]
there = ["hospital-a", "hospital-b"]
[network]
factory = "monai:ResNet"
arguments = { block = "basic", layers = [1, 1, 1, 1], block_inplanes = [4, 4, 8, 8] }
[train]
epochs = 1
[update]
epochs = 1
[[methods]]
method = "finetune"
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("features_script", ROOT / "benchmarks" / "features.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data and a finished cell."""
    folder = tmp_path_factory.mktemp("figure")
    synthetic.write_classes(folder / "data", cases=(6, 4, 2), size=(16, 16))
    (folder / "grid.toml").write_text(GRID)
    plan = Plan(read_config(folder / "grid.toml"), folder / "grid.toml", folder / "data", cache=folder / "cache")
    for cell in plan.finals({}):
        run_cell(plan.to_json(), cell.model_dump_json(), str(folder / "run"))
    return folder


def words(folder: Path, figure: Path, label: str = "finetune", seed: int = 0) -> list[str]:
    places = ["--out", folder / "run", "--data", folder / "data", "--cache", folder / "cache", "--figure", figure]
    return [*map(str, places), "--sequence", "there", "--label", label, "--seed", str(seed)]


def test_a_figure_has_a_line_a_release_and_a_column_a_domain(
    script: ModuleType, finished: Path, tmp_path: Path
) -> None:
    script.run(words(finished, tmp_path / "one.svg"))
    script.run(words(finished, tmp_path / "again.svg"))
    text = (tmp_path / "one.svg").read_text()
    axes = [group for group in ET.fromstring(text).iter() if group.get("id", "").startswith("axes_")]  # noqa: S314
    assert len(axes) == 4
    assert (tmp_path / "again.svg").read_text() == text


@pytest.mark.parametrize(
    ("label", "seed", "said"),
    [
        ("mas-lr", 0, "no there, mas-lr, seed 0; finished are: there, finetune, seed 0"),
        ("finetune", 3, "no there, finetune, seed 3"),
    ],
)
def test_a_cell_that_is_not_there_is_named(
    script: ModuleType,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    label: str,
    seed: int,
    said: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        script.run(words(finished, tmp_path / "none.svg", label, seed))
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "none.svg").exists()


def test_a_release_that_was_deleted_is_named(
    script: ModuleType, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    shutil.copytree(finished / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "run" / "releases")
    with pytest.raises(SystemExit):
        script.run(words(tmp_path, tmp_path / "none.svg"))
    assert "Run the benchmark again" in capsys.readouterr().err
