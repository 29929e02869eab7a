"""What an input did: how long it took, how much memory, which files, and what else nobody asked for."""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from perdure.errors import PerdureError

SECONDS = 5.0
"""Of processor time that one input may take."""
BLOCKED = 60
"""Seconds that one input may take at all: one that waits for a pipe takes no processor time."""
MEMORY = 2**30
"""Bytes by which one input may raise the largest memory that the process ever had; 2**26 voxels, and copies of them."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod")
_NEVER = (
    "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork",
    "pickle.find_class", "ctypes.dlopen", "urllib.Request",
)  # fmt: skip


class HangError(BaseException):
    """An input took too long; no `except Exception` may swallow it."""


@dataclass
class Watch:
    """Runs a reader on one input after the other, and keeps what it should not have done.

    Args:
        folder: where it may read and write.
        findings: what was found, as one line, with how often, the first input that did it, and what was said of it.
    """

    folder: Path
    findings: dict[str, tuple[int, bytes, str]] = field(default_factory=dict)
    refused: int = 0
    _strange: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._inside = str(self.folder.resolve())
        self._code = tuple({sys.prefix, sys.base_prefix, *(str(Path(path).resolve()) for path in sys.path if path)})

    def __call__(self, read: Callable[[], None], content: bytes) -> None:
        """Reads once; whatever is neither success nor a refusal becomes a finding."""
        before = _most_memory()
        self._strange.clear()
        _hook()
        handlers = [(number, signal.signal(number, _too_long)) for number in (signal.SIGVTALRM, signal.SIGALRM)]
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, BLOCKED)
        try:
            _WATCHING.append(self)
            read()
        except PerdureError:
            self.refused += 1
        except HangError:
            self._found(f"hang: {_where()}", content)
        except BaseException as error:  # noqa: BLE001 - a panic of a Rust library is no Exception
            self._found(f"{type(error).__name__} in {_where()}", content, " ".join(str(error).split())[:200])
        finally:
            _WATCHING.clear()
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in handlers:
                signal.signal(number, handler)
        if (grown := _most_memory() - before) > MEMORY:
            self._found("memory", content, f"{grown / 2**20:.0f} MiB more")
        for what in self._strange:
            self._found(what, content)

    def _found(self, what: str, content: bytes, said: str = "") -> None:
        count, first, before = self.findings.get(what, (0, content, said))
        self.findings[what] = count + 1, first, before

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Looks at what Python says that it is about to do."""
        if event in _NEVER:
            self._strange.append(f"{event} {str(arguments)[:90]}")
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = _resolved(arguments[0])
            writes = isinstance(arguments[2], int) and arguments[2] & _WRITES
            if not (self._is_inside(path) or (not writes and path.startswith(self._code))):
                self._strange.append(f"{'write' if writes else 'read'} outside: {path[:90]}")
        elif event in _CHANGES:
            for path in (_resolved(one) for one in arguments[:2] if isinstance(one, str | bytes | os.PathLike)):
                if not self._is_inside(path):
                    self._strange.append(f"{event} outside: {path[:90]}")

    def _is_inside(self, path: str) -> bool:
        return path == self._inside or path.startswith(self._inside + os.sep)


_WATCHING: list[Watch] = []


@cache
def _hook() -> None:
    """Listens for as long as the process lives; a hook cannot be taken away again."""
    sys.addaudithook(lambda event, arguments: _WATCHING[0].audit(event, arguments) if _WATCHING else None)


def _resolved(path: Any) -> str:
    text = os.fsdecode(path)
    try:
        return os.path.realpath(text)
    except ValueError:  # a NUL inside; nothing will be opened
        return text


def _too_long(number: int, frame: FrameType | None) -> None:
    raise HangError


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _where() -> str:
    """The last place in our own code."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    ours = [frame for frame in frames if "/perdure/" in frame.filename] or frames
    last = ours[-1]
    return f"{last.filename.rpartition('/perdure/')[2]}:{last.lineno} {last.name}"
