"""A table comes back as it was written, or not at all."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from perdure.evaluation import parquet
from perdure.evaluation.parquet import parquet_of, read_parquet

TABLE = pl.DataFrame(
    {
        "name": ["a", None, "ä", ""] * 60,
        "value": [0.5, None, float("nan"), -0.0] * 60,
        "seed": np.arange(240) % 7,
    }
)


def test_what_is_written_is_read() -> None:
    metadata, table = read_parquet(parquet_of(TABLE, {"key": "välue"}))
    assert metadata == {"key": "välue"}
    assert_frame_equal(table, TABLE)


def test_options_change_the_bytes_and_not_the_content() -> None:
    small = parquet_of(TABLE, {}, compression="zstd", compression_level=19)
    assert small != parquet_of(TABLE, {})
    assert_frame_equal(read_parquet(small)[1], TABLE)


def test_no_bit_that_flips_gives_another_table() -> None:
    """Without the digest one in six does, and no error."""
    content = parquet_of(TABLE, {"key": "value"})
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        try:
            metadata, table = read_parquet(bytes(changed))
        except ValueError:
            refused += 1
        else:
            assert_frame_equal(table, TABLE)
            assert metadata.get("key", "value") == "value"
    assert refused > 100


@pytest.mark.parametrize(
    "other",
    [
        TABLE.with_columns(pl.col("name").shift(1)),
        TABLE.with_columns(pl.col("name").fill_null("")),
        TABLE.with_columns(pl.col("value").fill_null(0.0)),
        TABLE.with_columns(pl.col("seed").cast(pl.Int32)),
        TABLE.rename({"seed": "other"}),
        TABLE.head(239),
        TABLE.select("value", "name", "seed"),
        TABLE.with_columns(name=pl.Series(["aä", None, "", ""] * 60)),
    ],
)
def test_a_table_under_the_digest_of_another_is_refused(other: pl.DataFrame) -> None:
    metadata = pl.read_parquet_metadata(io.BytesIO(parquet_of(TABLE, {})))
    buffer = io.BytesIO()
    other.write_parquet(buffer, metadata={parquet.DIGEST: metadata[parquet.DIGEST]})
    with pytest.raises(ValueError, match="its content is not what was written"):
        read_parquet(buffer.getvalue())


def test_a_file_from_before_there_was_a_digest_is_read() -> None:
    buffer = io.BytesIO()
    TABLE.write_parquet(buffer, metadata={"key": "value"})
    metadata, table = read_parquet(buffer.getvalue())
    assert metadata == {"key": "value"}
    assert_frame_equal(table, TABLE)


def test_a_few_bytes_that_stand_for_any_number_of_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = parquet_of(pl.DataFrame({"value": [0.0] * 10**6}), {})
    assert len(content) < 10**5
    monkeypatch.setattr(parquet, "MOST_ROWS", 10**6 - 1)
    with pytest.raises(ValueError, match="1,000,000 rows; at most 999,999 are read"):
        read_parquet(content)


def test_a_panic_of_polars_is_an_error_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def panics(*_: object) -> None:
        raise pl.exceptions.PanicException("assertion `left == right` failed")

    monkeypatch.setattr("polars.read_parquet", panics)
    with pytest.raises(ValueError, match="assertion `left == right` failed"):
        read_parquet(parquet_of(TABLE, {}))
