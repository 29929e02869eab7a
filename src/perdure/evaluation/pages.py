"""Does a Parquet file hold a plain table, and do its pages promise no more than can be there?

polars takes memory for as many values and bytes as a schema or the header of a page promises, before it looks at one,
and follows a schema as deep as it goes. Where that is below 0, or more than there is memory or stack, Rust ends the
process where Python would raise. So all of these are read here first.

Source: Apache Parquet, parquet.thrift (https://github.com/apache/parquet-format); Apache Thrift, compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

from typing import Any

MOST_BYTES = 2**28
"""Of one page, unpacked; polars begins a new one after a megabyte."""
MOST_IN_ALL = 2**30
"""Bytes of all pages, unpacked."""
MOST_COLUMNS = 32
TYPES = (0, 1, 2, 4, 5, 6)
"""Yes or no, numbers, texts. Those of a length that the schema says may be of any."""

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


def check_pages(content: bytes, most_rows: int) -> int:
    """Passes if a Parquet file is a plain table, and no page says that it holds more values than its rows.

    Args:
        content: of the file.
        most_rows: of the file.

    Returns:
        Where the footer begins.

    Raises:
        ValueError: if it has more rows, too many columns, or such as are none of a plain table; if a page promises too
            much, all of them together are too large, or none stands where the file says.
    """
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    if not (content.startswith(_MAGIC) and content.endswith(_MAGIC) and start >= len(_MAGIC)):
        raise ValueError("it is no Parquet file")
    try:
        footer = _Thrift(content, start, len(content) - 8).struct(_FOOTER)
        columns, groups = _checked_schema(footer[2]), footer[4]
        if (rows := sum(group[3] for group in groups)) > most_rows:
            raise ValueError(f"{rows:,} rows; at most {most_rows:,} are read")
        left = MOST_IN_ALL
        for group in groups:
            rows = _number(group[3], most_rows)
            if len(group[1]) != columns:
                raise ValueError(f"{len(group[1]):,} columns of {columns} in a group of rows")
            for column in (one[3] for one in group[1]):
                _number(column[5], rows)
                at = _number(column.get(11, column[9]), start)
                left -= _checked_column(content, at, at + _number(column[7], start - at), rows, left)
    except (LookupError, RecursionError) as error:
        raise ValueError("its lists of columns and pages are damaged") from error
    return start


def _checked_schema(schema: list[dict[int, Any]]) -> int:
    """How many columns there are: a root, and nothing below them."""
    root, *leaves = schema
    if root.get(5) != len(leaves) or any(leaf.get(5) for leaf in leaves) or len(leaves) > MOST_COLUMNS:
        raise ValueError(f"its columns are nested, or more than {MOST_COLUMNS}; only a plain table is read")
    if other := [leaf.get(1) for leaf in leaves if leaf.get(1) not in TYPES]:
        raise ValueError(f"a column is of type {other[0]} of Parquet; only texts and plain numbers are read")
    return len(leaves)


def _checked_column(content: bytes, at: int, end: int, rows: int, most: int) -> int:
    """How many bytes the pages of a column unpack to, all of which are as they should be."""
    left, unpacked = rows, 0
    while at < end:
        thrift = _Thrift(content, at, end)
        page = thrift.struct(_PAGE)
        unpacked += _number(page[2], min(MOST_BYTES, most - unpacked))
        values = _number(page[_HEADER_OF[page[1]]][1], left)
        left -= values if page[1] != _DICTIONARY_PAGE else 0
        at = thrift.at + _number(page[3], end - thrift.at)
    return unpacked


def _number(found: int, most: int) -> int:
    if not 0 <= found <= most:
        raise ValueError(f"a column or page promises {found:,} where at most {most:,} can be")
    return found


class _Thrift:
    """Reads values in the compact form of Thrift, one after the other.

    Args:
        content: in which they stand.
        at: where the next one begins.
        end: behind the last.
    """

    def __init__(self, content: bytes, at: int, end: int) -> None:
        self._content, self.at, self._end = content, at, end

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
            # each takes a byte or more
            length = _number(head >> 4 if head >> 4 < 15 else self._unsigned(), self._end - self.at)
            return [self._element(head & 15, form[0] if form else None) for _ in range(length)]
        if kind in _STRUCT:
            return self.struct(form or {})
        raise ValueError(f"a field of its lists of columns and pages is of kind {kind}, which Parquet does not have")

    def _element(self, kind: int, form: Any) -> Any:
        # of a list; a field has its yes or no in its kind
        return self._value(self._bytes(1)[0] if kind in _YES_NO else kind, form)

    def _bytes(self, length: int) -> bytes:
        if length > self._end - self.at:
            raise IndexError("nothing there any more")
        self.at += length
        return self._content[self.at - length : self.at]

    def _unsigned(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._bytes(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number of its lists of columns and pages has no end")

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
