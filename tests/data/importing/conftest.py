from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.data import Dataset
from perdure.data.importing import imported
from perdure.data.importing.found import Found

SALT = bytes(range(32))


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Dataset]:
    """Writes what was found to a data folder beside the source, and opens it."""

    def write(found: Found, name: str = "data", **options: object) -> Dataset:
        out = tmp_path / name
        out.mkdir()
        imported(found, out, SALT, **options).write(out)
        return Dataset.open(out)

    return write
