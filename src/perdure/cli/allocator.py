"""Has a command's process keep the memory that it frees, for what comes next.

The outputs of a network's layers are so large that glibc takes each from the system anew and gives it back after its
use; the system then clears every page of it again. What that costs: docs/performance.md.
"""

from __future__ import annotations

import ctypes
import os

# of mallopt(3), with the names that glibc reads from the environment of a process that starts
SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": (-3, 2**30),
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
}
"""Blocks of up to a GiB are kept, and up to 2 GiB of what is free."""


def keep_memory() -> bool:
    """Keeps freed memory from now on, here and in processes that this one starts.

    Returns:
        Whether it does: not where somebody has set how memory is allocated, nor without glibc.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    for name, (parameter, value) in SETTINGS.items():
        mallopt(parameter, value)
        os.environ[name] = str(value)
    return True
