"""How does a table become the content of a Parquet file, and back, also where somebody or something else changed it?

Parquet has checksums, which polars neither writes nor reads: of all bits of a score file that may flip, one in six
gives other scores and no error. So the metadata hold a digest of all that is in the table.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from perdure.evaluation.pages import check_pages

MOST_TEXT = 2**30
"""Bytes of all texts of a column: a few rows can stand for any number of one long text."""
SLICE = 2**16
"""Rows whose texts are looked at together."""
MOST_ROWS = 20_000_000
"""Rows of one file; a hundred releases on a thousand cases of a hundred structures have half as many."""

DIGEST = "perdure.sha256"
_UNREAD = b"perdure.none"
"""In place of a key of the same length."""


def parquet_of(table: pl.DataFrame, metadata: Mapping[str, str], **options: Any) -> bytes:
    """What a file holds: the table, and in its metadata what is given and a digest.

    Args:
        table: columns of text and numbers.
        metadata: by key.
        options: of `polars.DataFrame.write_parquet`.
    """
    content = io.BytesIO()
    table.write_parquet(content, metadata={**metadata, DIGEST: _digest(table, metadata)}, **options)
    return content.getvalue()


def read_parquet(content: bytes) -> tuple[dict[str, str], pl.DataFrame]:
    """The metadata and the table of a Parquet file; a digest among the metadata is compared, where there is one.

    Raises:
        ValueError: if it is damaged, no Parquet file, or has too many rows: a few bytes can stand for any number.
    """
    footer = check_pages(content, MOST_ROWS)
    # a second schema, of any depth, which the table is read without
    content = content[:footer] + content[footer:].replace(b"ARROW:schema", _UNREAD)
    try:
        metadata = dict(pl.read_parquet_metadata(io.BytesIO(content)))
        table = pl.read_parquet(io.BytesIO(content))
    # polars panics at some damage where it should complain
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ValueError(" ".join(str(error).split())) from error
    metadata.pop(_UNREAD.decode(), None)
    for column in table.iter_columns():
        if column.dtype == pl.String and column.str.len_bytes().cast(pl.Int64).sum() > MOST_TEXT:
            raise ValueError(f"column {column.name!r} has more than {MOST_TEXT:,} bytes of text")
    expected = metadata.pop(DIGEST, None)  # files from before there was one have none
    if expected is not None and expected != _digest(table, metadata):
        raise ValueError("its content is not what was written")
    return metadata, table


def _digest(table: pl.DataFrame, metadata: Mapping[str, str]) -> str:
    """SHA-256 of the metadata and, column by column, of its name, what is missing, and all values."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for column in table.iter_columns():
        digest.update(json.dumps([column.name, str(column.dtype), len(column)]).encode())
        digest.update(column.is_null().to_numpy().tobytes())
        if column.dtype == pl.String:
            digest.update(column.str.len_bytes().fill_null(0).to_numpy().tobytes())
            for part in column.drop_nulls().to_frame().iter_slices(SLICE):
                digest.update("".join(part.to_series()).encode())
        elif column.dtype.is_numeric():
            digest.update(column.fill_null(0).to_numpy().tobytes())
        else:
            raise ValueError(f"column {column.name!r} is of type {column.dtype}; only text and numbers are kept")
    return digest.hexdigest()
