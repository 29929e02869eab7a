"""What other libraries say to their developers is kept from whoever exports a release."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly(library: str, level: int) -> Iterator[None]:
    """Without warnings, and without what a library logs below a level."""
    log = logging.getLogger(library)
    before = log.level
    log.setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
