"""Runs the command line in a process that kills itself, as `kill -9` does, at a moment that its first argument names.

python killed_at.py epoch|release|cache ARGUMENTS...
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import perdure.cli
import perdure.cli.console
import perdure.release.release
import perdure.update.machine

# as `conftest` has it: the command that goes on with the run is in single precision
perdure.update.machine.has_bf16 = lambda device: False


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_the_second_epoch() -> None:
    """After the first of its steps."""
    show = perdure.cli.console.Bar.__call__

    def shown(bar: Any, what: str, done: int, total: int, loss: float | None = None) -> None:
        show(bar, what, done, total, loss)
        if what.startswith("epoch 2") and 0 < done < total:
            die()

    perdure.cli.console.Bar.__call__ = shown


def in_a_release() -> None:
    """When its second file, the memory, is there in part."""
    perdure.release.release.save_file = dying_at_call(2, perdure.release.release.save_file, cut_short)


def cut_short(_: Any, path: Any) -> None:
    path.write_bytes(path.read_bytes()[:100])


def in_the_cache() -> None:
    """When the second case's first array is there, and its second one is not."""
    np.save = dying_at_call(5, np.save)


def dying_at_call(
    number: int, function: Callable[..., Any], then: Callable[..., None] | None = None
) -> Callable[..., Any]:
    """The function, that at its so-manieth call does `then` and ends the process."""
    calls = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        result = function(*arguments, **named)
        if calls == number:
            if then is not None:
                then(*arguments)
            die()
        return result

    return counted


if __name__ == "__main__":
    {"epoch": in_the_second_epoch, "release": in_a_release, "cache": in_the_cache}[sys.argv[1]]()
    perdure.cli.main(sys.argv[2:])
