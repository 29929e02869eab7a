"""The pages of docs/results, from the committed records. Run by `make results`.

Reads every benchmarks/records/*.parquet and writes a page with its figures for each, and their list in
docs/results/README.md between its two marks. Run twice, it changes nothing the second time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from perdure.benchmark.record import Record
from perdure.benchmark.rendering.page import index_entry, write_page

ROOT = Path(__file__).resolve().parents[1]
RECORDS, RESULTS = ROOT / "benchmarks" / "records", ROOT / "docs" / "results"
BEGIN, END = "<!-- index: made by `make results`; do not edit between the marks -->", "<!-- end of the index -->"
NONE = "No record is committed yet."


def write_results(records: Path, results: Path) -> list[Path]:
    """Writes all pages and their list.

    Args:
        records: folder of the records.
        results: folder of the pages.

    Returns:
        The files that were written.

    Raises:
        SystemExit: if the README lacks the marks.
    """
    written: list[Path] = []
    entries = []
    for file in sorted(records.glob("*.parquet")):
        record = Record.read(file)
        written += write_page(record, results, file.stem)
        entries.append(index_entry(record, file.stem))
    readme = results / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else f"# Results\n\n{BEGIN}\n{END}\n"
    readme.write_text(with_index(text, entries), encoding="utf-8")
    return [*written, readme]


def with_index(text: str, entries: list[str]) -> str:
    """A README with another list between its marks; all else stays.

    Raises:
        SystemExit: if it lacks the marks.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise SystemExit(f"docs/results/README.md must hold these two lines once, in this order:\n{BEGIN}\n{END}")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    return f"{before}{BEGIN}\n\n" + "\n".join(entries or [NONE]) + f"\n\n{after}"


def run() -> None:
    """Reads the command line, writes, says what."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the pages")
    given = parser.parse_args()
    for file in write_results(given.records, given.results):
        print(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file)  # noqa: T201 - that is what it says


if __name__ == "__main__":
    run()
