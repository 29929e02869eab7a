"""What stands in docs/results is what the committed records give."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import pytest

from perdure.benchmark.record import Record
from perdure.benchmark.rendering.page import index_entry, page
from records import record, row, segmentation_rows

ROOT = Path(__file__).resolve().parents[2]
RECORDS, RESULTS = sorted((ROOT / "benchmarks" / "records").glob("*.parquet")), ROOT / "docs" / "results"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_script", ROOT / "benchmarks" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def records(tmp_path: Path) -> Path:
    folder = tmp_path / "records"
    folder.mkdir()
    parts = [segmentation_rows("finetune", seed, [[0.8, 0.3], [0.6, 0.7]], ("a", "b")) for seed in (0, 1)]
    record([row("finetune")], parts, {"forward": ("a", "b")}).write(folder / "small.parquet")
    return folder


def test_results_are_written_beside_what_was_written_by_hand(script: ModuleType, records: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "README.md").write_text(f"# Mine\n\n{script.BEGIN}\nold\n{script.END}\n\nMore of mine.\n")
    written = script.write_results(records, results)
    text = (results / "README.md").read_text()
    entry = index_entry(Record.read(records / "small.parquet"), "small")
    assert text == f"# Mine\n\n{script.BEGIN}\n\n{entry}\n\n{script.END}\n\nMore of mine.\n"
    before = {file: file.read_bytes() for file in written}
    assert script.write_results(records, results) == written
    assert {file: file.read_bytes() for file in results.iterdir()} == before


def test_a_readme_without_marks_is_refused(script: ModuleType, records: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Mine\n")
    with pytest.raises(SystemExit, match="must hold these two lines"):
        script.write_results(records, tmp_path)
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


NONE_YET = pytest.param(None, marks=pytest.mark.skip(reason="no record is committed in benchmarks/records yet"))


@pytest.mark.parametrize("file", RECORDS or [NONE_YET], ids=lambda file: "none" if file is None else file.stem)
def test_committed_pages_are_those_of_the_committed_records(file: Path) -> None:
    made = page(Record.read(file), file.stem)
    assert (RESULTS / f"{file.stem}.md").read_text(encoding="utf-8") == made[f"{file.stem}.md"]
    figures = {name: text for name, text in made.items() if name.endswith(".svg")}
    by = f"Matplotlib v{mpl.__version__}"
    stand = {name: (RESULTS / name).read_text(encoding="utf-8") for name in figures}
    if not all(by in text for text in stand.values()):
        pytest.skip(f"the figures were drawn by another release than {by}, which draws other bytes")
    assert stand == figures


def test_the_index_is_that_of_the_committed_records(script: ModuleType) -> None:
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert script.with_index(text, [index_entry(Record.read(file), file.stem) for file in RECORDS]) == text
