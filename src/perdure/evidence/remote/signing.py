"""How does a site make its key, sign with it, and know the key of another?"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from perdure.data.pseudonyms import new_salt, read_salt
from perdure.errors import DataError, EvaluationError, Problem
from perdure.release.folder import held, replace_file

UNREADABLE = (UnsupportedAlgorithm, InternalError)
"""Of a key whose kind is unknown, or too short for the kind that it says it is."""


def new_key(path: Path) -> Ed25519PublicKey:
    """Writes a private key, the salt that goes with it (`<path>.salt`) and the public key (`<path>.pub`).

    The first two can be read by their owner alone, and never leave the site.

    What an earlier call left behind that was stopped before its end, salt or salt and private key, is used.

    Raises:
        FileExistsError: if there is a key already; then nothing is written.
        EvaluationError: if there is a private key without its salt, a salt that is none, or another process that makes
            this key.
    """
    refusal = EvaluationError(f"{path}: another process is making this key; wait until it has ended.")
    with held(path.with_name(f".{path.name}.lock"), refusal):
        return _new_key(path)


def _new_key(path: Path) -> Ed25519PublicKey:
    if public_path(path).exists() or (path.exists() and not salt_path(path).exists()):
        there = public_path(path) if public_path(path).exists() else path
        raise FileExistsError(f"{there} exists; a key is never overwritten. Choose another --out.")
    # in this order: a salt without a key has salted nothing, and a public key can be had from the private one
    if salt_path(path).exists():
        salt_of(path)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        new_salt(salt_path(path))
    if path.exists():
        key = private_key(path)
    else:
        key = Ed25519PrivateKey.generate()
        replace_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    public = key.public_key()
    replace_file(public_path(path), public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return public


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key that a site signs with.

    Raises:
        EvaluationError: if the file holds none, or not the one whose public half stands beside it.
    """
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, *UNREADABLE) as error:
        raise EvaluationError(_told(path, "no private key", "name the file that `perdure key` wrote")) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise EvaluationError(_told(path, "a key of another kind", "make an Ed25519 key with `perdure key`"))
    # any 32 bytes are a key: one bit of either file that flipped makes it another
    public = public_path(path)
    if public.exists() and fingerprint(public_key(public)) != fingerprint(key.public_key()):
        raise EvaluationError(_told(path, f"another key than that of {public.name}", "restore both from a copy"))
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The key that another site is known by.

    Raises:
        EvaluationError: if the file holds none.
    """
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, *UNREADABLE) as error:
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
