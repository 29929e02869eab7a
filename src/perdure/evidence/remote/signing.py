"""How does a site make its key, sign with it, and know the key of another?"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from perdure.data.pseudonyms import new_salt, read_salt, write_new
from perdure.errors import DataError, EvaluationError, Problem


def new_key(path: Path) -> Ed25519PublicKey:
    """Writes a private key, the salt that goes with it (`<path>.salt`) and the public key (`<path>.pub`).

    The first two can be read by their owner alone, and never leave the site.

    Raises:
        FileExistsError: if one of the files is there; then none is written.
    """
    for file in (path, salt_path(path), public_path(path)):
        if file.exists():
            raise FileExistsError(f"{file} exists; a key is never overwritten. Choose another --out.")
    path.parent.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    public = key.public_key()
    new_salt(salt_path(path))
    write_new(public_path(path), public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    return public


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key that a site signs with.

    Raises:
        EvaluationError: if the file holds none.
    """
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise EvaluationError(_told(path, "no private key", "name the file that `perdure key` wrote")) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise EvaluationError(_told(path, "a key of another kind", "make an Ed25519 key with `perdure key`"))
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The key that another site is known by.

    Raises:
        EvaluationError: if the file holds none.
    """
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EvaluationError(_told(path, "no public key", "name the file KEY.pub that the site sent")) from error
    if not isinstance(key, Ed25519PublicKey):
        raise EvaluationError(_told(path, "a key of another kind", "ask the site for its Ed25519 key, KEY.pub"))
    return key


def salt_of(path: Path) -> bytes:
    """The salt that goes with the private key in a file.

    Raises:
        EvaluationError: if there is none, or it is too short to hide anything.
    """
    try:
        return read_salt(salt_path(path))
    except DataError as error:
        raise EvaluationError(str(error)) from error


def is_signed(signature: str, content: bytes, key: Ed25519PublicKey) -> bool:
    """Whether a signature, in hexadecimal, is that of the owner of a key under these very bytes."""
    # one way to write it: a file that was changed in any byte is another file
    if not re.fullmatch("[0-9a-f]{128}", signature):
        return False
    try:
        key.verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of a public key's 32 bytes, in hexadecimal: what two people compare by telephone."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def salt_path(path: Path) -> Path:
    """Where the salt of a private key is."""
    return path.with_name(f"{path.name}.salt")


def public_path(path: Path) -> Path:
    """Where the public half of a private key is."""
    return path.with_name(f"{path.name}.pub")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EvaluationError(_told(path, f"none ({error.strerror})", "name a file that can be read")) from error


def _told(path: Path, found: str, allowed: str) -> str:
    return str(Problem(str(path), "content", found, allowed))
