"""A table holds whole cases only, whatever a crash left of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perdure.errors import EvaluationError
from perdure.evaluation.table import Table, in_table

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
        assert len(lines) == 1 + 2 * len(table.cases)
        again = Table(tmp_path / "cut.csv", HEAD, rows_a_case=2)
        assert again.cases == table.cases


def test_what_is_no_csv_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\n")
    with pytest.raises(EvaluationError, match=r"table\.csv: is no CSV"):
        Table(tmp_path / "table.csv", HEAD)


def test_cases_that_are_dropped_are_gone_from_the_file_and_may_come_again(tmp_path: Path) -> None:
    whole(tmp_path / "table.csv")
    table = Table(tmp_path / "table.csv", HEAD, rows_a_case=2)
    table.drop(["c", "a", "nobody"])
    table.add([["a", "left", "3"], ["a", "right", "4"]])
    assert Table(tmp_path / "table.csv", HEAD, rows_a_case=2).cases == table.cases
    assert list(table.cases) == ['b, "quoted"', "a"]


def test_a_path_that_is_no_utf_8_is_found_again(tmp_path: Path) -> None:
    case = in_table(Path(os.fsdecode(b"caf\xe9/a.nii")))
    table = Table(tmp_path / "table.csv", HEAD)
    table.add([[case, "left", "1"]])
    assert list(Table(tmp_path / "table.csv", HEAD).cases) == [case]
