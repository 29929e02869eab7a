from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from perdure.errors import EvaluationError
from perdure.evidence.remote.signing import fingerprint, is_signed, new_key, private_key, public_key, salt_of
from perdure.release.folder import held

# RFC 8032, section 7.1, test 2: secret key, message and signature
PUBLISHED = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
SIGNATURE = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "site.key")
    return tmp_path / "site.key"


def test_a_signature_of_the_standard_is_good_and_no_other(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(PUBLISHED))
    assert key.sign(b"\x72").hex() == SIGNATURE
    assert is_signed(SIGNATURE, b"\x72", key.public_key())
    assert not is_signed(SIGNATURE, b"\x73", key.public_key())
    assert not is_signed(SIGNATURE[:-2] + "01", b"\x72", key.public_key())
    assert not is_signed("no hexadecimal", b"\x72", key.public_key())


def test_private_key_and_salt_are_for_their_owner_alone(key: Path) -> None:
    for file in (key, key.with_name("site.key.salt")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(salt_of(key)) == 32


def test_the_public_file_is_the_public_half_and_has_the_fingerprint_of_its_bytes(key: Path) -> None:
    public = public_key(key.with_name("site.key.pub"))
    raw = private_key(key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert public.public_bytes(Encoding.Raw, PublicFormat.Raw) == raw
    assert fingerprint(public) == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("site.key", "site.key exists; a key is never overwritten"),
        ("site.key.pub", "site.key.pub exists; a key is never overwritten"),
        ("site.key.salt", "site.key.salt: content: found no salt"),
    ],
)
def test_none_of_the_three_files_is_ever_overwritten(tmp_path: Path, name: str, error: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises((FileExistsError, EvaluationError), match=error):
        new_key(tmp_path / "site.key")
    assert [(path.name, path.read_text()) for path in tmp_path.glob("site.key*")] == [(name, "mine")]


@pytest.mark.parametrize("left", [("site.key.salt",), ("site.key.salt", "site.key")])
def test_a_key_that_was_stopped_on_the_way_is_finished_with_what_is_there(key: Path, left: tuple[str, ...]) -> None:
    before = {path.name: path.read_bytes() for path in key.parent.iterdir()}
    for path in list(key.parent.iterdir()):
        if path.name not in left:
            path.unlink()
    new_key(key)
    after = {path.name: path.read_bytes() for path in key.parent.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in left)
    assert private_key(key).public_key() == public_key(key.with_name("site.key.pub"))


def test_of_two_processes_that_make_one_key_the_second_is_told_so(tmp_path: Path) -> None:
    """One would sign with a key of which the other has written the public half."""
    (tmp_path / "made").mkdir()
    with held(tmp_path / "made" / ".site.key.lock", EvaluationError("here")):
        with pytest.raises(EvaluationError, match="site.key: another process is making this key"):
            new_key(tmp_path / "made" / "site.key")
        assert [path.name for path in (tmp_path / "made").iterdir()] == [".site.key.lock"]
    new_key(tmp_path / "made" / "site.key")


def test_two_keys_and_two_salts_differ(tmp_path: Path) -> None:
    first, second = new_key(tmp_path / "a"), new_key(tmp_path / "b")
    assert fingerprint(first) != fingerprint(second)
    assert salt_of(tmp_path / "a") != salt_of(tmp_path / "b")


def test_a_file_that_is_no_key_is_refused_by_name(key: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"site\.key\.pub: content: found no private key"):
        private_key(tmp_path / "site.key.pub")
    with pytest.raises(EvaluationError, match=r"site\.key: content: found no public key"):
        public_key(key)
    with pytest.raises(EvaluationError, match="nowhere: content: found none"):
        public_key(tmp_path / "nowhere")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    other = x25519.X25519PrivateKey.generate()
    (tmp_path / "x").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "x.pub").write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(EvaluationError, match="a key of another kind; make an Ed25519 key"):
        private_key(tmp_path / "x")
    with pytest.raises(EvaluationError, match="a key of another kind; ask the site"):
        public_key(tmp_path / "x.pub")


@pytest.mark.parametrize(("text", "found"), [("", "a salt of 0 bytes"), ("ab" * 16, "of 16 bytes"), ("zz", "no salt")])
def test_a_salt_that_is_damaged_or_short_is_refused(key: Path, text: str, found: str) -> None:
    key.with_name("site.key.salt").write_text(text)
    with pytest.raises(EvaluationError, match=found):
        salt_of(key)


def test_a_private_key_that_is_not_that_of_the_public_one_beside_it_is_refused(key: Path, tmp_path: Path) -> None:
    """A bit that flips in either makes it another key, and nothing else would say so."""
    new_key(tmp_path / "other" / "site.key")
    key.write_bytes((tmp_path / "other" / "site.key").read_bytes())
    with pytest.raises(EvaluationError, match=r"another key than that of site\.key\.pub; restore both from a copy"):
        private_key(key)


def test_no_bit_that_flips_in_a_key_goes_unnoticed(key: Path) -> None:
    """Some make its kind another, for which it is too short: OpenSSL has no word for that."""
    whole, expected = key.read_bytes(), fingerprint(private_key(key).public_key())
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        key.write_bytes(damaged)
        try:
            found = fingerprint(private_key(key).public_key())
        except EvaluationError as error:
            assert str(key) in str(error)  # noqa: PT017 - some bits mean nothing
        else:
            assert found == expected
