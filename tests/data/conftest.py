from __future__ import annotations

from pathlib import Path

import pytest

from perdure.data.cache import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A cache of this test alone, never that of the user."""
    return Cache(tmp_path / "cache")
