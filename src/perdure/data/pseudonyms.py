"""How a person keeps one name in all our files, and nobody outside can find out who it is.

A pseudonym is HMAC-SHA-256 of an id under a salt: 32 random bytes in a file that its owner alone can read, and that
stays where the images are. With the same salt the same person has the same name everywhere.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import secrets
import uuid
from pathlib import Path

from perdure.errors import DataError, Problem

SALT_BYTES = 32


def keyed(salt: bytes, kind: str, text: str) -> str:
    """HMAC-SHA-256 of a text of some kind, in hexadecimal."""
    # names of files need not be UTF-8, and Python has such bytes as surrogates
    content = f"{kind}\0{text}".encode(errors="surrogatepass")
    return hmac.new(salt, content, hashlib.sha256).hexdigest()


def pseudonym(salt: bytes, kind: str, text: str) -> str:
    """A short name under a salt: the first letter of the kind, and 64 bits."""
    return f"{kind[0]}{keyed(salt, kind, text)[:16]}"


def new_salt(path: Path) -> bytes:
    """Writes a new salt that its owner alone can read, whole or not at all.

    Raises:
        FileExistsError: the file is there.
    """
    salt = secrets.token_bytes(SALT_BYTES)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.unfinished")
    try:
        write_new(unfinished, salt.hex().encode() + b"\n", 0o600)
        _name_new(unfinished, path)
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:  # the system names no file where what is open cannot be flushed
        error.filename = error.filename or str(path)
        raise
    finally:
        unfinished.unlink(missing_ok=True)
    return salt


def _name_new(unfinished: Path, path: Path) -> None:
    """Gives a file its name unless it is taken: a rename would take away the salt that another process works with."""
    taken = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        raise taken from None
    except OSError:  # file systems without links, as on memory cards and some network drives
        if path.exists():
            raise taken from None
        unfinished.rename(path)


def read_salt(path: Path) -> bytes:
    """The salt in a file.

    Raises:
        DataError: there is none, or it is too short to hide anything.
    """
    restore = "restore it from a copy; with another salt nobody keeps the name that they have"
    try:
        salt = bytes.fromhex(path.read_bytes().decode("ascii").strip())
    except OSError as error:
        raise _refusal(path, f"none ({error.strerror})", "name a file that can be read") from error
    except ValueError as error:
        raise _refusal(path, "no salt", restore) from error
    if len(salt) != SALT_BYTES:
        raise _refusal(path, f"a salt of {len(salt)} bytes", f"it has {SALT_BYTES}; {restore}")
    return salt


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Writes a file that must not be there yet, with these permissions from the start."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # the system names no file where a disk is full
        error.filename = error.filename or str(path)
        raise


def _refusal(path: Path, found: str, allowed: str) -> DataError:
    return DataError([Problem(str(path), "content", found, allowed)])
