"""Prepared arrays on disk, found by the content of the files that they were made from.

    FOLDER/entries/<key>/   image.npy ... and entry.json, complete or not there at all
    FOLDER/hashes/          SHA-256 of files seen before, by path, size, times and inode
    FOLDER/passed/          checks that a file has passed before
    FOLDER/building/        what is being written; never read; cleared when older than a day

An entry is written in `building`, flushed to the disk and renamed. Two processes that prepare the same case at once
both succeed, and the second one throws its copy away; a process that is killed leaves only a folder in `building`.
All that is read back is compared with its checksum first, to the last bit; what does not fit is made anew.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from perdure.data.dicom.series import series_files
from perdure.data.places import LIST_SUFFIX
from perdure.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays: TypeAlias = "Mapping[str, NDArray[np.generic]]"
Json: TypeAlias = "dict[str, object]"

_DAY = 24 * 60 * 60
_PIECE = 2**20  # bytes that are read at once
_ATTEMPTS = 5  # to put an entry in its place, against other processes that do the same
_SETTLED = 2.0  # seconds after which a further write to a file shows in its time


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/perdure`, or `~/.cache/perdure`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "perdure"


def sha256_text(text: str) -> str:
    """SHA-256 of a text, as hexadecimal digits."""
    # a path need not be UTF-8, and Python has such bytes as surrogates
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A complete entry: memory-mapped arrays and what was noted beside them.

    Args:
        folder: of the entry.
        notes: what was given to `Cache.entry` to be kept beside the arrays.
    """

    folder: Path
    notes: Json

    def array(self, name: str) -> NDArray[np.generic]:
        """One array, mapped into memory; what is written into it stays in this process."""
        # copy on write, because torch warns of an array that it may not write to
        array: NDArray[np.generic] = np.load(self.folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)
        return array


class Cache:
    """A folder of prepared arrays.

    **It holds images of patients**, as does the folder that they came from: what is made here can be read by this user
    only (mode 0700), and deleting the folder loses nothing but time.

    Args:
        folder: where; `default_folder()` without it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else Path(folder)
        with self._writing():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            for path in (self.folder, *(self.folder / name for name in ("entries", "hashes", "passed", "building"))):
                path.mkdir(mode=0o700, exist_ok=True)
            self._clear_what_was_given_up()

    def entry(self, key: str, build: Callable[[], tuple[Arrays, Json]]) -> Entry:
        """The entry of this key, built if it is not there or is damaged.

        Args:
            key: hexadecimal digits that name all that the arrays depend on.
            build: makes the arrays, and notes that JSON can hold.
        """
        final = self.folder / "entries" / key
        if (found := _opened(final)) is not None:
            return found
        arrays, notes = build()
        for _ in range(_ATTEMPTS):
            # another process, whose clock is a day ahead, may have cleared the folder away
            with self._writing(), contextlib.suppress(FileNotFoundError), self._building() as folder:
                _write(folder, arrays, notes)
                self._move_in(folder, final)
            if (found := _opened(final)) is not None:
                return found
        raise DataError(
            f"{final}: a cache entry cannot be read back after it was written. Is the disk full or damaged?"
        )

    def sha256(self, path: Path) -> str:
        """SHA-256 of a file's bytes, remembered by path, size, times of modification and change, and inode.

        Of a folder with a DICOM series: of the SHA-256 in hexadecimal of its files by name, joined by spaces. Of a list
        of files: of the same, in its order.
        """
        if path.is_dir() or path.name.endswith(LIST_SUFFIX):
            return sha256_text(" ".join(self.sha256(file) for file in series_files(path)))
        status = path.stat()
        # programs set the time of modification as they like, and that of change they cannot
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
        memo = self.folder / "hashes" / sha256_text(str(path.resolve()))
        with contextlib.suppress(*_DAMAGED):
            known = json.loads(_unsealed(memo.read_text()))
            if known["stamp"] == stamp:
                return str(known["sha256"])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        # a file that was written a moment ago may change again without a change of its time
        if time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED:
            self._put(memo, _sealed(json.dumps({"stamp": stamp, "sha256": digest})))
        return digest

    def has_passed(self, key: str) -> bool:
        """Whether a check of this key was passed before."""
        return (self.folder / "passed" / key).exists()

    def remember_passed(self, key: str) -> None:
        """Notes that a check was passed; a failed one is never noted."""
        with self._writing():
            (self.folder / "passed" / key).touch(mode=0o600)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.folder}: the cache of prepared images cannot be written ({error.strerror}). Make room, or name "
                "another folder with --cache; whatever is complete in it is used again."
            ) from error

    @contextlib.contextmanager
    def _building(self) -> Iterator[Path]:
        folder = self.folder / "building" / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _move_in(self, folder: Path, final: Path) -> None:
        """Puts a written entry in its place, unless another process has put a good one there meanwhile."""
        if _opened(final) is not None:
            return
        damaged = self.folder / "building" / f"damaged-{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):  # nothing there, or another process has moved it away
            final.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        try:
            folder.rename(final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
        _flush(final.parent)

    def _put(self, path: Path, text: str) -> None:
        temporary = self.folder / "building" / uuid.uuid4().hex
        with self._writing():
            temporary.write_text(text)
            temporary.replace(path)

    def _clear_what_was_given_up(self) -> None:
        for path in (self.folder / "building").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _DAY:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write(folder: Path, arrays: Arrays, notes: Json) -> None:
    files: Json = {}
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        with path.open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        files[name] = _fingerprint(path)
    with (folder / "entry.json").open("w") as text:
        text.write(_sealed(json.dumps({"files": files, "notes": notes}, sort_keys=True)))
        text.flush()
        os.fsync(text.fileno())
    _flush(folder)


_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading raises where something else stands than was written, or nothing."""


def _opened(folder: Path) -> Entry | None:
    """The entry, or None where there is none or anything of it is not as it was written."""
    try:
        inner = json.loads(_unsealed((folder / "entry.json").read_text()))
        if any(_fingerprint(folder / f"{name}.npy") != known for name, known in inner["files"].items()):
            return None
    except _DAMAGED:
        return None
    return Entry(folder, inner["notes"])


def _fingerprint(path: Path) -> list[int]:
    """Size and checksum (CRC-32) of all bytes: a disk or a network may give back others than were written.

    It is computed at some gigabytes a second, and whoever opens an entry reads all of it anyway.
    """
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            checksum = zlib.crc32(piece, checksum)
        return [file.tell(), checksum]


def _sealed(body: str) -> str:
    return json.dumps({"sha256": sha256_text(body), "body": body})


def _unsealed(text: str) -> str:
    outer = json.loads(text)
    if sha256_text(outer["body"]) != outer["sha256"]:
        raise ValueError("not as it was written")
    return str(outer["body"])


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
