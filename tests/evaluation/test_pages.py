"""No page of a Parquet file makes polars take memory for more than is there."""

from __future__ import annotations

import io
import re
from typing import Any

import polars as pl
import pytest

from perdure.evaluation import pages
from perdure.evaluation.pages import check_pages
from perdure.evaluation.parquet import parquet_of, read_parquet

TABLE = pl.DataFrame({"name": ["a", None, "ä", ""] * 10, "seed": range(40), "value": [0.5, None, float("nan"), 1] * 10})
# a data page of three numbers: its kind, both its sizes, and the header of its kind, whose first field counts values
PAGE = re.compile(rb"\x15\x00\x15(.)\x15(.)\x2c\x15\x06", re.DOTALL)


@pytest.fixture
def content() -> bytes:
    """A file of one column, whose only page begins after the four letters that begin the file."""
    made = parquet_of(pl.DataFrame({"value": [0.5, None, 2.0]}), {"key": "value"}, compression="uncompressed")
    assert PAGE.match(made, 4)
    return made


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "uncompressed"},
        {"compression": "zstd", "compression_level": 19},
        {"compression": "snappy"},
        {"row_group_size": 7},
        {"row_group_size": 9, "data_page_size": 20},
        {"statistics": False},
        {"statistics": "full"},
    ],
    ids=str,
)
def test_what_polars_writes_passes(options: dict[str, Any]) -> None:
    check_pages(parquet_of(TABLE, {"key": "value"}, **options), len(TABLE))


def test_a_table_of_no_rows_or_columns_passes() -> None:
    for table in (TABLE.clear(), pl.DataFrame()):
        check_pages(parquet_of(table, {}), 0)


def _with(content: bytes, at: int, old: bytes, new: bytes) -> bytes:
    found = content.index(old, at)
    return content[:found] + new + content[found + len(old) :]


# what Thrift writes is twice the number, or one less than twice it where it is negative
@pytest.mark.parametrize(("written", "said"), [(b"\x05", "-3"), (b"\x08", "4")])
def test_a_page_of_fewer_values_than_none_or_of_more_than_there_are_rows_is_refused(
    content: bytes, written: bytes, said: str
) -> None:
    """Below 0, polars asks for 2^61 bytes, and the process ends."""
    changed = _with(content, 4, b"\x2c\x15\x06", b"\x2c\x15" + written)
    with pytest.raises(ValueError, match=rf"a column or page promises {said} where at most 3 can be"):
        read_parquet(changed)


def test_the_pages_of_a_column_hold_together_no_more_than_its_rows(content: bytes) -> None:
    twice = parquet_of(pl.DataFrame({"value": [0.5] * 8}), {}, compression="uncompressed", data_page_size=8)
    assert twice.count(b"\x2c\x15\x02") > 2  # pages of one value
    with pytest.raises(ValueError, match="a column or page promises 8 where at most 7 can be"):
        check_pages(twice.replace(b"\x2c\x15\x02", b"\x2c\x15\x10").replace(b"\x2c\x15\x10", b"\x2c\x15\x02", 1), 8)


def test_a_page_that_unpacks_to_too_many_bytes_is_refused(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_BYTES", 9)
    with pytest.raises(ValueError, match="where at most 9 can be"):
        read_parquet(content)


@pytest.mark.parametrize("written", [b"\x7e", b"\x01"])
def test_a_page_that_ends_where_its_column_has_ended_is_refused(content: bytes, written: bytes) -> None:
    page = PAGE.match(content, 4)
    assert page
    with pytest.raises(ValueError, match="a column or page promises"):
        read_parquet(content[: page.start(2)] + written + content[page.end(2) :])


def test_a_page_of_a_kind_that_holds_no_values_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="its lists of columns and pages are damaged"):
        read_parquet(_with(content, 4, b"\x15\x00", b"\x15\x02"))


def test_a_field_that_says_that_it_is_of_another_kind_is_refused(content: bytes) -> None:
    """polars reads a number there all the same, and everything after it from another place than we would."""
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for at, new in ((4, b"\x18"), (footer, b"\x18"), (footer, b"\x13")):
        assert content[at] == 0x15
        with pytest.raises(ValueError, match=r"a field of its lists .* is of kind [38]; must be 4"):
            read_parquet(content[:at] + new + content[at + 1 :])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"PAR1\x09\0\0\0PAR1", b"x" * 50], ids=str)
def test_what_is_no_parquet_file_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="it is no Parquet file"):
        read_parquet(content)


@pytest.mark.parametrize(
    "footer",
    [
        b"",
        b"\0",
        b"\x4c" * 5000,
        b"\x49\xfc\xff\xff\xff\xff\xff\xff\x7f",
        b"\x1b\0",
        b"\x49\x1b\0",
        b"\x15" + b"\xff" * 99,
    ],
    ids=["none", "empty", "nested", "endless list", "a map", "list of maps", "endless number"],
)
def test_a_footer_that_has_no_end_or_no_columns_is_refused(footer: bytes) -> None:
    with pytest.raises(ValueError, match="its lists of columns and pages|a column or page promises"):
        read_parquet(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")


ROOT, LEAF = {5: 1, 4: b"root"}, {1: 5, 4: b"value"}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ([ROOT, {1: 7, 2: 2**31 - 1}], "a column is of type 7"),
        ([ROOT, {4: b"no type"}], "a column is of type None"),
        ([ROOT, {**LEAF, 5: 1}], "its columns are nested"),
        ([{5: 2}, LEAF], "its columns are nested"),
        ([{5: 33}, *[LEAF] * 33], "or more than 32"),
    ],
)
def test_a_schema_of_anything_but_a_plain_table_is_refused(schema: list[dict[int, Any]], said: str) -> None:
    """polars takes memory for all rows of a column of 2^31 bytes a value, and follows a nested one past its stack."""
    assert pages._checked_schema([ROOT, LEAF]) == 1
    with pytest.raises(ValueError, match=said):
        pages._checked_schema(schema)


@pytest.mark.parametrize("kind", [1, 2])
def test_a_list_is_no_longer_than_what_is_left(kind: int) -> None:
    """Elements that take no byte would be as many as somebody says."""
    endless = bytes([0x19, 0xF0 | kind]) + b"\x80" * 5 + b"\x02" + bytes(9)
    with pytest.raises(ValueError, match="promises"):
        pages._Thrift(endless, 0, len(endless)).struct({})
    short = bytes([0x19, 0x20 | kind, 1, 2, 0])
    assert pages._Thrift(short, 0, len(short)).struct({}) == {1: [True, False]}


def test_pages_are_not_too_large_together(monkeypatch: pytest.MonkeyPatch) -> None:
    content = parquet_of(TABLE, {}, row_group_size=7)
    check_pages(content, len(TABLE))
    monkeypatch.setattr(pages, "MOST_IN_ALL", 500)
    with pytest.raises(ValueError, match="a column or page promises"):
        check_pages(content, len(TABLE))


def test_the_schema_that_polars_writes_beside_is_not_read() -> None:
    content = parquet_of(TABLE, {"key": "value"})
    at = content.index(b"ARROW:schema") + 20
    forged = content[:at] + b"A" * 40 + content[at + 40 :]
    with pytest.raises((pl.exceptions.PolarsError, pl.exceptions.PanicException)):
        pl.read_parquet(io.BytesIO(forged))
    metadata, table = read_parquet(forged)
    assert metadata == {"key": "value"}
    assert table.equals(TABLE)


def test_one_text_does_not_stand_for_any_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    content = parquet_of(pl.DataFrame({"name": ["x" * 1000] * 1000}), {})
    assert len(content) < 10_000
    read_parquet(content)
    monkeypatch.setattr("perdure.evaluation.parquet.MOST_TEXT", 999_999)
    with pytest.raises(ValueError, match="column 'name' has more than 999,999 bytes of text"):
        read_parquet(content)
