"""A folder that is either whole or not there."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from perdure.errors import PerdureError


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts a file's name into errors that lack it, as the system's own do where a disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def replace_file(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Gives a file new content in one step: after a crash there is the old file or the new one, never a part.

    Args:
        path: the file; its folder is made if there is none.
        content: all that it holds afterwards.
        mode: who may read and write it, less what the process's umask takes away.
    """
    with being_replaced(path, mode=mode) as file:
        file.write(content)


@contextmanager
def being_replaced(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """An open file that takes the place of `path` in one step if the block ends well, and vanishes if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.unfinished")
    try:
        with naming(path):
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            _flush(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def held(lock: Path, refusal: PerdureError) -> Iterator[None]:
    """Nobody else holds this lock meanwhile; the folder that it lies in is made if there is none.

    Args:
        lock: the file; it stays, and a process that is killed lets it go.
        refusal: raised if somebody else holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    own = FileLock(lock, timeout=0)
    try:
        own.acquire()
    except Timeout as error:
        raise refusal from error
    try:
        yield
    finally:
        own.release()


class Folder:
    """Writes folders under a temporary name and renames them when they are complete."""

    @staticmethod
    def is_unfinished(name: str, target: str | None = None) -> bool:
        """Whether a folder of this name is still being written, or was left so.

        Args:
            name: of the folder.
            target: what it is written for; None for anything.
        """
        # exactly this name: `.a.*` would also be the folder that someone is writing for `a.b`
        own = ".+" if target is None else re.escape(target)
        return re.fullmatch(rf"\.{own}\.[0-9a-f]{{12}}\.unfinished", name) is not None

    @staticmethod
    @contextmanager
    def being_written(target: Path) -> Iterator[Path]:
        """A temporary folder beside `target` that takes its name if the block ends well, and vanishes if not.

        A process that is killed leaves a folder named `.<target>.<random>.unfinished`; the next writer removes it.

        Raises:
            FileExistsError: if `target` exists, or another process is writing it; nothing is ever overwritten.
        """
        target = target.absolute()
        refusal = FileExistsError(f"{target} exists; nothing is overwritten. Choose another name or move it away.")
        if target.exists():
            raise refusal
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in [entry for entry in target.parent.iterdir() if Folder.is_unfinished(entry.name, target.name)]:
            with contextlib.suppress(FileNotFoundError), _locked(stale, target):
                shutil.rmtree(stale)
        temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:12]}.unfinished"
        temporary.mkdir()
        try:
            with _locked(temporary, target), naming(target):
                yield temporary
                for file in temporary.rglob("*"):
                    _flush(file)
                _flush(temporary)
                try:
                    temporary.rename(target)
                except OSError as error:
                    if target.exists():  # another process made it meanwhile
                        raise refusal from error
                    raise
                _flush(target.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextmanager
def _locked(folder: Path, target: Path) -> Iterator[None]:
    """No other process that writes the same target has this unfinished folder; one that is killed lets it go.

    Raises:
        FileExistsError: if one has.
    """
    refusal = FileExistsError(f"{target}: another process is writing it; wait until it has ended, or name another.")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise refusal from error
        except OSError:  # no locks here, as on some network drives
            pass
        if not folder.exists():  # another process took it for one that was left
            raise refusal
        yield
    finally:
        os.close(descriptor)
