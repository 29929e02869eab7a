"""Jobs for engines; a module of its own, because spawned processes import it."""

from __future__ import annotations

import os
import threading
import time
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


def dies_beside_another(folder: str, name: str) -> None:
    """The job `doomed` dies as soon as `long` is under way, which goes on for a while."""
    place = Path(folder)
    if name == "doomed":
        _until_there(place / "long.tries")
        dies(folder, name)
    tries = place / f"{name}.tries"
    tries.write_text(str(int(tries.read_text()) + 1 if tries.exists() else 1))
    _until_there(place / "over")


def dies_afterwards(folder: str, name: str) -> None:
    """The job is done, and its process dies a little later, with nothing to do."""
    leaves_a_file(folder, name)
    threading.Timer(0.2, os._exit, (9,)).start()


def leaves_its_card(folder: str, name: str) -> None:
    (Path(folder) / name).write_text(os.environ["CUDA_VISIBLE_DEVICES"])


def waits(folder: str, name: str) -> None:
    """The job `long` goes on until someone says that it is over; every begin leaves a letter."""
    with (Path(folder) / name).open("a") as file:
        file.write("x")
    if name == "long":
        _until_there(Path(folder) / "over")


def _until_there(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} is not made"
        time.sleep(0.01)
