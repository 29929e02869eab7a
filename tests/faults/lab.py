"""Runs the command line again and again, each time with something failing at another moment.

Imported, `Lab` starts this file as a process that has imported everything once; it forks for each run, so that a run
takes a second and not ten. A run counts what it does to the files under one folder (opening to write, making, renaming,
removing, flushing), and at the so-manieth of these something happens:

    kill    the process dies, as by `kill -9`
    error   that one operation fails (EIO), as a disk fails or a network drive that was gone for a moment
    full    from then on nothing can be written any more (ENOSPC); removing and renaming still work
    back    from then on the clock is 400 days behind
    ahead   from then on it is 400 days ahead

or from the beginning on

    memory  the process may take only so many MiB more than it has
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
JUMPS = {"back": -timedelta(days=400), "ahead": timedelta(days=400)}
CLOCKS = ("update.provenance", "evidence.ledger.ledger", "evaluation.evaluate", "evidence.gate.gate",
          "evidence.report.collect", "update.interpolation", "benchmark.grid", "benchmark.selection")  # fmt: skip
"""Our modules that ask what time it is."""
TAKES_ROOM = ("open", "os.mkdir", "os.symlink", "os.fsync", "save_file")


@dataclass(frozen=True)
class Ran:
    """How one run ended.

    Args:
        code: the exit code; negative for a signal.
        operations: how many were counted.
        out: standard output.
        err: standard error.
    """

    code: int
    operations: int
    out: str
    err: str


class Lab:
    """A process that runs commands in forks of itself.

    Args:
        folder: for what runs print.
    """

    def __init__(self, folder: Path, code: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(folder), code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def __call__(self, *words: object, under: Path, kind: str = "", at: int = 0) -> Ran:
        """Runs `perdure WORDS`.

        Args:
            words: of the command line.
            under: operations below this folder are counted.
            kind: what happens; nothing where it is empty.
            at: at which operation, counted from 1.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"words": list(map(str, words)), "under": str(under.resolve()), "kind": kind, "at": at}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        texts = [(self.folder / name).read_text(errors="replace") for name in ("count", "out", "err")]
        return Ran(code, int(texts[0] or 0), *texts[1:])


class _Counter:
    """Counts operations in a run, and lets something happen at one of them."""

    def __init__(self, under: str, kind: str, at: int, count: Path) -> None:
        self.under, self.kind, self.at = under, kind, at
        self.descriptor = os.open(count, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.operations = 0

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(arguments[0], int) or not (isinstance(arguments[2], int) and arguments[2] & WRITES):
                return
        elif event not in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink"):
            return
        self.operation(event, arguments[0])

    def operation(self, event: str, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        if not os.path.abspath(os.fsdecode(path)).startswith(self.under):  # noqa: PTH100 - no further operation here
            return
        self.operations += 1
        os.pwrite(self.descriptor, str(self.operations).encode(), 0)
        is_due = self.operations == self.at
        if self.kind == "kill" and is_due:
            os.kill(os.getpid(), signal.SIGKILL)
        # the system names the file in an error of everything but what is done to an open one
        named = () if event == "os.fsync" else (os.fsdecode(path),)
        if self.kind == "error" and is_due:
            raise OSError(errno.EIO, os.strerror(errno.EIO), *named)
        if self.kind in JUMPS and is_due:
            _jump(JUMPS[self.kind])
        if self.kind == "full" and self.operations >= self.at and event in TAKES_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *named)


def _jump(by: timedelta) -> None:
    """Sets the clock, as far as Python can tell."""
    real = time.time

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(real(), tz) + by

    time.time = lambda: real() + by.total_seconds()
    for name in CLOCKS:
        importlib.import_module(f"perdure.{name}").datetime = Jumped


def _watched(counter: _Counter) -> None:
    """Lets the counter see what Python's own audit does not tell."""
    import perdure.release.release

    fsync, save_file = os.fsync, perdure.release.release.save_file

    def flushed(descriptor: int) -> None:
        counter.operation("os.fsync", Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    def saved(tensors: Any, path: Path, *more: Any) -> None:
        from safetensors import SafetensorError

        try:
            counter.operation("save_file", path)
        except OSError as error:
            Path(path).write_bytes(b"cut short")
            raise SafetensorError(f"Error while serializing: I/O error: {error}") from error
        save_file(tensors, path, *more)

    os.fsync = flushed
    perdure.release.release.save_file = saved
    sys.addaudithook(counter.audit)


def _run(request: dict[str, Any], folder: Path) -> None:
    """One run, in a process of its own that this does not return from."""
    import perdure.cli

    for name, number in (("out", 1), ("err", 2)):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    if request["kind"] == "memory":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = used + request["at"] * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    counter = _Counter(request["under"], request["kind"], request["at"], folder / "count")
    _watched(counter)
    code: Any = 70
    try:
        perdure.cli.main(request["words"])
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - whatever it is, it is told and the process ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def serve(folder: Path, prepare: Callable[[], None]) -> None:
    """Reads a request a line, and answers with the exit code."""
    prepare()
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            _run(json.loads(line), folder)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def _imported() -> None:
    """Imports what commands import, and starts no thread that a fork would lose."""
    import highdicom.seg
    import matplotlib as mpl
    import monai.bundle
    import monai.networks.nets
    import onnxruntime
    import onnxscript
    import torch
    import torch.utils.tensorboard

    import perdure.benchmark.demo
    import perdure.cli
    import perdure.data
    import perdure.data.importing
    import perdure.evaluation.evaluate
    import perdure.evidence.exchange.bundle
    import perdure.evidence.exchange.nnunet
    import perdure.evidence.exchange.onnx_file
    import perdure.evidence.report
    import perdure.update
    from perdure.data.augmentation import Augmentation

    assert (highdicom, mpl, monai, onnxruntime, onnxscript, perdure.benchmark, Augmentation) is not None
    torch.set_num_threads(1)


if __name__ == "__main__":
    if sys.argv[2]:
        exec(sys.argv[2])  # noqa: S102 - what the test that started this process wants to be otherwise
    serve(Path(sys.argv[1]), _imported)
