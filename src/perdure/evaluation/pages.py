"""Do the pages of a Parquet file promise no more than can be there?

polars takes memory for as many values and bytes as the header of a page promises, before it looks at one. Where that is
below 0, or more than there is memory, Rust ends the process where Python would raise. So headers are read here first.

Source: Apache Parquet, parquet.thrift (https://github.com/apache/parquet-format); Apache Thrift, compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

from typing import Any

MOST_BYTES = 2**28
"""Of one page, unpacked; polars begins a new one after a megabyte."""

_MAGIC = b"PAR1"

# fields of a struct by number. polars reads each as what Parquet says that it is, whatever it says itself: a text that
# says that it is a number would hide from us what polars reads after it
_YES_NO, _BYTE, _NUMBER, _TEXT, _LIST, _STRUCT = (1, 2), (3,), (4, 5, 6), (8,), (9,), (12,)
_NUMBERS = dict.fromkeys(range(1, 20), _NUMBER)
_STATISTICS = {1: _TEXT, 2: _TEXT, 3: _NUMBER, 4: _NUMBER, 5: _TEXT, 6: _TEXT, 7: _YES_NO, 8: _YES_NO}
_KEY_VALUE = {1: _TEXT, 2: _TEXT}
_TYPE = {**_NUMBERS, 4: _TEXT, 10: {1: {}, 10: {1: _BYTE, 2: _YES_NO}}}
_COLUMN = {**_NUMBERS, 2: [_NUMBER], 3: [_TEXT], 8: [_KEY_VALUE], 12: _STATISTICS, 13: [_NUMBERS], 16: {}, 17: {}}
_GROUP = {**_NUMBERS, 1: [{**_NUMBERS, 1: _TEXT, 3: _COLUMN}], 4: [{1: _NUMBER, 2: _YES_NO, 3: _YES_NO}]}
_FOOTER = {1: _NUMBER, 2: [_TYPE], 3: _NUMBER, 4: [_GROUP], 5: [_KEY_VALUE], 6: _TEXT, 7: [{1: {}}]}
_DATA, _DATA_2 = {**_NUMBERS, 5: _STATISTICS}, {**_NUMBERS, 7: _YES_NO, 8: _STATISTICS}
_PAGE = {**_NUMBERS, 5: _DATA, 7: {**_NUMBERS, 3: _YES_NO}, 8: _DATA_2}

_DICTIONARY_PAGE = 2
_HEADER_OF = {0: 5, _DICTIONARY_PAGE: 7, 3: 8}
"""By kind of page, the field of its header that only pages of this kind have."""


def check_pages(content: bytes, most_rows: int) -> None:
    """Passes if a Parquet file has no more rows than that, and no page says that it holds more values than its rows.

    Args:
        content: of the file.
        most_rows: of the file.

    Raises:
        ValueError: if it has, if one does, if a page is too large, or if none stands where the file says.
    """
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    if not (content.startswith(_MAGIC) and content.endswith(_MAGIC) and start >= len(_MAGIC)):
        raise ValueError("it is no Parquet file")
    try:
        groups = _Thrift(content[:-8], start).struct(_FOOTER)[4]
        if (rows := sum(group[3] for group in groups)) > most_rows:
            raise ValueError(f"{rows:,} rows; at most {most_rows:,} are read")
        for group in groups:
            rows = _number(group[3], most_rows)
            for column in (one[3] for one in group[1]):
                _number(column[5], rows)
                at = _number(column.get(11, column[9]), start)
                _check_column(content[: at + _number(column[7], start - at)], at, rows)
    except (LookupError, RecursionError) as error:
        raise ValueError("its lists of columns and pages are damaged") from error


def _check_column(content: bytes, at: int, rows: int) -> None:
    """Passes if all pages from here to the end are as they should be."""
    left = rows
    while at < len(content):
        thrift = _Thrift(content, at)
        page = thrift.struct(_PAGE)
        _number(page[2], MOST_BYTES)
        values = _number(page[_HEADER_OF[page[1]]][1], left)
        left -= values if page[1] != _DICTIONARY_PAGE else 0
        at = thrift.at + _number(page[3], len(content) - thrift.at)


def _number(found: int, most: int) -> int:
    if not 0 <= found <= most:
        raise ValueError(f"a column or page promises {found:,} where at most {most:,} can be")
    return found


class _Thrift:
    """Reads values in the compact form of Thrift, one after the other.

    Args:
        content: in which they stand.
        at: where the next one begins.
    """

    def __init__(self, content: bytes, at: int) -> None:
        self._content, self.at = content, at

    def struct(self, form: dict[int, Any]) -> dict[int, Any]:
        """The fields of a struct by number.

        Args:
            form: what each field is; others may be anything.

        Raises:
            ValueError: if a field says that it is something else.
            IndexError: if there is no end.
        """
        fields: dict[int, Any] = {}
        number = 0
        while kind := self._bytes(1)[0]:
            number = number + (kind >> 4) if kind >> 4 else self._signed()
            fields[number] = self._value(kind & 15, form.get(number))
        return fields

    def _value(self, kind: int, form: Any) -> Any:
        expected = _STRUCT if isinstance(form, dict) else _LIST if isinstance(form, list) else form
        if expected is not None and kind not in expected:
            raise ValueError(f"a field of its lists of columns and pages is of kind {kind}; must be {expected[0]}")
        if kind in _YES_NO:
            return kind == 1
        if kind in _NUMBER:
            return self._signed()
        if kind in (*_TEXT, *_BYTE, 7):
            return self._bytes({3: 1, 7: 8}.get(kind) or self._unsigned())
        if kind in _LIST:
            head = self._bytes(1)[0]
            length = head >> 4 if head >> 4 < 15 else self._unsigned()
            return [self._value(head & 15, form[0] if form else None) for _ in range(length)]
        if kind in _STRUCT:
            return self.struct(form or {})
        raise ValueError(f"a field of its lists of columns and pages is of kind {kind}, which Parquet does not have")

    def _bytes(self, length: int) -> bytes:
        found = self._content[self.at : self.at + length]
        if len(found) < length:
            raise IndexError("nothing there any more")
        self.at += length
        return found

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._bytes(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
