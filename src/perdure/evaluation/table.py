"""A table in CSV that rows are added to while other files are being made, and that a crash cannot make wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from perdure.errors import EvaluationError
from perdure.release.folder import naming, replace_file


class Table:
    """A CSV file whose rows belong to cases, those of a case one after the other.

    What a crash cut short, a row or a case without all of its rows, is dropped when the table is opened again.

    Args:
        path: of the file; made with its head if it is not there.
        head: the names of the columns; the first is the case.
        rows_a_case: how many rows each case has.

    Attributes:
        cases: the rows of each case.

    Raises:
        EvaluationError: if the file is no CSV.
    """

    def __init__(self, path: Path, head: Sequence[str], rows_a_case: int = 1) -> None:
        self.path, self._head = path, head
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        try:
            rows = list(csv.reader(io.StringIO(whole.decode(), newline="")))[1:]
        except (UnicodeDecodeError, csv.Error) as error:
            raise EvaluationError(f"{path}: is no CSV in UTF-8 ({error}); choose another --out.") from error
        cases = {case: list(of_case) for case, of_case in groupby(rows, key=lambda row: row[0] if row else "")}
        self.cases = {case: of_case for case, of_case in cases.items() if _widths(of_case) == [len(head)] * rows_a_case}
        if whole != content or not whole or self.cases != cases:
            self._write()

    def add(self, rows: Sequence[list[str]]) -> None:
        """Adds the rows of one case."""
        with naming(self.path), self.path.open("ab") as file:
            file.write(_lines(rows))
        self.cases[rows[0][0]] = list(rows)

    def drop(self, cases: Iterable[str]) -> None:
        """Takes out the rows of these cases, as far as there are any."""
        gone = self.cases.keys() & set(cases)
        if gone:
            self.cases = {case: rows for case, rows in self.cases.items() if case not in gone}
            self._write()

    def _write(self) -> None:
        replace_file(self.path, _lines([self._head, *(row for rows in self.cases.values() for row in rows)]))


def in_table(path: Path) -> str:
    """A path as a cell: with slashes, and in UTF-8 also where it is not."""
    return path.as_posix().encode(errors="backslashreplace").decode()


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [len(row) for row in rows]


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
