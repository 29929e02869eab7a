"""Jobs for engines; a module of its own, because spawned processes import it."""

from __future__ import annotations

import os
from pathlib import Path


def leaves_a_file(folder: str, name: str) -> None:
    (Path(folder) / name).write_text(str(os.getpid()))


def fails(folder: str, name: str) -> None:
    if name == "bad":
        raise ValueError("this one is bad")
    leaves_a_file(folder, name)


def dies(folder: str, name: str) -> None:
    """The job `mortal` kills its process the first two times, `doomed` every time."""
    tries = Path(folder) / f"{name}.tries"
    count = int(tries.read_text()) + 1 if tries.exists() else 1
    tries.write_text(str(count))
    if name == "doomed" or (name == "mortal" and count <= 2):
        os._exit(9)
    leaves_a_file(folder, name)
