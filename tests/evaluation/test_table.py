"""A table holds whole cases only, whatever a crash left of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.errors import EvaluationError
from perdure.evaluation.table import Table

HEAD = ["case", "part", "size"]


def whole(path: Path) -> bytes:
    table = Table(path, HEAD, rows_a_case=2)
    for case in ("a", 'b, "quoted"', "c"):
        table.add([[case, "left", "1"], [case, "right", "2"]])
    return path.read_bytes()


def test_of_every_prefix_only_whole_cases_are_kept(tmp_path: Path) -> None:
    content = whole(tmp_path / "table.csv")
    for length in range(len(content) + 1):
        (tmp_path / "cut.csv").write_bytes(content[:length])
        table = Table(tmp_path / "cut.csv", HEAD, rows_a_case=2)
        lines = (tmp_path / "cut.csv").read_bytes().splitlines(keepends=True)
        assert content.startswith(b"".join(lines))
        assert len(lines) == 1 + 2 * len(table.done)
        again = Table(tmp_path / "cut.csv", HEAD, rows_a_case=2)
        assert again.done == table.done


def test_what_is_no_csv_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\n")
    with pytest.raises(EvaluationError, match=r"table\.csv: is no CSV"):
        Table(tmp_path / "table.csv", HEAD)
