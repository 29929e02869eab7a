"""Commands keep the memory that they free, unless somebody has said how memory is to be allocated."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")

# a block of 64 MiB, filled and freed twenty times: how many pages the system had to hand out
SCRIPT = """
import resource, sys
from perdure.cli.allocator import keep_memory
kept = keep_memory() if sys.argv[1] == "keep" else False
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    b"x" * 2**26
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(word: str, **more: str) -> tuple[bool, int]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "LD_PRELOAD"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, word], env={**inherited, **more}, check=True, capture_output=True, text=True
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@glibc
def test_memory_that_was_freed_is_used_again() -> None:
    kept, faults = run("keep")
    assert kept
    assert 0 < faults * 4 < run("leave")[1]


@glibc
def test_what_somebody_has_set_stays() -> None:
    assert run("keep", MALLOC_ARENA_MAX="1")[0] is False


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.cli import allocator

    class Other:
        def __init__(self, name: None) -> None:
            """A library without mallopt."""

    for name in allocator.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", Other)
    assert allocator.keep_memory() is False
    assert not allocator.SETTINGS.keys() & os.environ.keys()
