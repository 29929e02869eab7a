from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

import synthetic
from fakes import picture_contract
from perdure.data import Dataset
from perdure.errors import EvaluationError
from perdure.evaluation import Header, Scores, domain_rows, mean_scores, paired_test, train_test_matrix
from perdure.evaluation.evaluate import scored
from perdure.evidence.remote.joining import joined
from perdure.evidence.remote.sealing import case_set, salted, sealed, unsealed
from perdure.evidence.remote.signing import fingerprint
from perdure.release import Release
from workspaces import saved, scores_of

SALT = bytes(range(32))
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
CASES = {"a": "0" * 64, "b": "1" * 64}


@dataclass(frozen=True)
class Sites:
    """Two releases, and the folder where files of the old site arrive."""

    folder: Path
    base: Release
    candidate: Release

    def sent(self, *releases: Release, name: str = "a.signed", seed: int = 0, salt: bytes = SALT, **more: str) -> Path:
        """What the old site seals of domain `a` for some of the releases."""
        path = self.folder / name
        cases = {"a": CASES["a"], **more}
        path.write_bytes(sealed(scores_of(*releases, seed=seed), cases, KEY, salt))
        return path

    def joined(self, *paths: Path, own: Scores | None = None, split: str = "test") -> Scores:
        both = [scored(self.base), scored(self.candidate)]
        return joined(own, [unsealed(path, [KEY.public_key()]) for path in paths], both, split)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Sites:
    folder = tmp_path_factory.mktemp("sites")
    base = saved(folder / "base")
    return Sites(folder, base, saved(folder / "candidate", base, 0.6))


def test_scores_come_out_as_they_went_in_but_for_ids(sites: Sites) -> None:
    path = sites.sent(sites.base, sites.candidate)
    found = unsealed(path, [KEY.public_key()])
    own = scores_of(sites.base, sites.candidate)
    assert found.scores.header == own.header
    assert sorted(found.scores.table["value"]) == sorted(own.table["value"])
    assert found.statement.key == fingerprint(KEY.public_key())
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_ids_are_keyed_hashes_and_neither_id_nor_salt_is_in_the_file(sites: Sites) -> None:
    content = sites.sent(sites.base).read_bytes()
    table = unsealed(sites.folder / "a.signed", [KEY.public_key()]).scores.table
    expected = {hmac.new(SALT, f"subject\0a-{i}".encode(), hashlib.sha256).hexdigest() for i in range(5)}
    assert set(table["subject"]) == expected
    assert set(table["case"]) == {hmac.new(SALT, f"case\0a-{i}".encode(), "sha256").hexdigest() for i in range(10)}
    assert SALT not in content
    assert SALT.hex().encode() not in content


def test_no_id_of_the_site_is_left_anywhere_in_the_file(sites: Sites) -> None:
    scores = scores_of(sites.base)
    groups = {"sex": {"a": {f"a-{i}": "F" for i in range(5)}}}
    scores = replace(scores, header=scores.header.model_copy(update={"groups": groups}))
    path = sites.folder / "groups.signed"
    path.write_bytes(sealed(scores, {"a": CASES["a"]}, KEY, SALT))
    found = unsealed(path, [KEY.public_key()]).scores
    assert '"a-' not in found.header.model_dump_json()
    assert not [name for column in found.table for name in column if str(name).startswith("a-")]
    # who belongs to which subgroup is still known, by salted id
    known = found.header.groups["sex"]["a"]
    assert known[hmac.new(SALT, b"subject\0a-3", hashlib.sha256).hexdigest()] == "F"
    assert list(known) == sorted(known)
    assert len(known) == 5


@pytest.mark.parametrize("values", [[f"a-{i}" for i in range(5)], ["F", "F", "M", "F", "F"]])
def test_a_column_that_few_subjects_share_a_value_of_is_not_sealed(sites: Sites, values: list[str]) -> None:
    """One that repeats ids would undo the salting; the message does not repeat them once more."""
    scores = scores_of(sites.base)
    groups = {"sex": {"a": {f"a-{i}": value for i, value in enumerate(values)}}}
    scores = replace(scores, header=scores.header.model_copy(update={"groups": groups}))
    with pytest.raises(EvaluationError, match="--group sex: .*fewer than 5 subjects") as error:
        sealed(scores, {"a": CASES["a"]}, KEY, SALT)
    assert "a-0" not in str(error.value)


def test_every_field_of_the_header_is_one_that_was_looked_at_for_ids() -> None:
    # of these only `groups` names subjects; a new field has to be looked at too, and salted where it does
    known = {"format", "task", "ordinal", "split", "releases", "domains", "structures", "created", "groups", "unit"}
    assert set(Header.model_fields) == known


def test_rows_stand_in_the_order_of_the_salted_ids_so_that_the_manifest_cannot_be_guessed(sites: Sites) -> None:
    shuffled = scores_of(sites.base, sites.candidate)
    cases = {f"a-{i}": i for i in range(10)}
    other = replace(shuffled, table=shuffled.table.sort(pl.col("case").replace_strict(cases), descending=True))
    keys = ["release", "subject", "case"]
    first, second = (salted(one, SALT).table.select(keys).unique(maintain_order=True) for one in (shuffled, other))
    assert first.equals(second)
    of_base = first.filter(pl.col("release") == sites.base.id)
    assert of_base.equals(of_base.sort("subject", "case"))


def test_statistics_by_subject_are_the_same_on_salted_ids(sites: Sites) -> None:
    own = scores_of(sites.base, sites.candidate, domains=("a", "b"))
    plain, hidden = train_test_matrix(own, "dice"), train_test_matrix(salted(own, SALT), "dice")
    np.testing.assert_allclose(hidden.values, plain.values, rtol=0, atol=1e-15)
    tests = [
        paired_test(*(dict(zip(one.subjects, row.mean(1), strict=True)) for row in one.values))
        for one in (plain.per_subject["a"], hidden.per_subject["a"])
    ]
    assert tests[0].n == 5
    assert tests[0] == tests[1]


def test_a_subject_has_one_id_in_all_files_under_one_salt_and_another_under_another(sites: Sites) -> None:
    first, second = (salted(scores_of(release), SALT).table for release in (sites.base, sites.candidate))
    assert set(first["subject"]) == set(second["subject"])
    assert set(salted(scores_of(sites.base), bytes(32)).table["subject"]).isdisjoint(set(first["subject"]))


def test_rows_that_belong_to_no_case_stay_as_they_are(sites: Sites) -> None:
    header = scores_of(sites.base).header.model_copy(update={"task": "classification"})
    scores = Scores(header, domain_rows(sites.base.id, "a", {"kappa": 0.5}))
    assert salted(scores, SALT).table.equals(scores.table)


def test_any_byte_changed_is_refused(sites: Sites, tmp_path: Path) -> None:
    content = sites.sent(sites.base).read_bytes()
    path, accepted = tmp_path / "changed.signed", []
    # all of the statement; of the table, which one hash covers, every seventh
    line = content.index(b"\n") + 1
    for place in (*range(line), *range(line, len(content), 7)):
        for bit in (0x01, 0x20):  # the second makes capitals of small letters
            changed = bytearray(content)
            changed[place] ^= bit
            path.write_bytes(changed)
            try:
                unsealed(path, [KEY.public_key()])
            except EvaluationError as error:
                assert str(path) in str(error)  # noqa: PT017 - all places in one test
            else:
                accepted.append((place, bit))
    assert accepted == []


@given(data=st.data())
def test_a_byte_added_removed_or_replaced_is_refused(
    sites: Sites, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = sites.sent(sites.base, name="whole.signed").read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(place, min(place + 3, len(content))))
    new = data.draw(st.binary(max_size=3).filter(lambda new: new != content[place:end]))
    changed = content[:place] + new + content[end:]
    if changed == content:
        return
    path = tmp_path_factory.mktemp("changed") / "changed.signed"
    path.write_bytes(changed)
    with pytest.raises(EvaluationError):
        unsealed(path, [KEY.public_key()])


def test_a_key_that_is_not_trusted_is_refused_and_both_are_named(sites: Sites) -> None:
    other = Ed25519PrivateKey.generate().public_key()
    with pytest.raises(EvaluationError) as caught:
        unsealed(sites.sent(sites.base), [other])
    assert fingerprint(KEY.public_key()) in str(caught.value)
    assert f"trusted are {fingerprint(other)}" in str(caught.value)
    with pytest.raises(EvaluationError, match="trusted are none"):
        unsealed(sites.folder / "a.signed", [])


def test_whoever_signs_with_another_key_and_names_a_trusted_one_is_refused(sites: Sites) -> None:
    line, _, table = sites.sent(sites.base).read_bytes().partition(b"\n")
    envelope = json.loads(line)
    signed = json.dumps(envelope["statement"], sort_keys=True, separators=(",", ":")).encode()
    envelope["signature"] = Ed25519PrivateKey.generate().sign(b"perdure sealed scores 1\n" + signed).hex()
    path = sites.folder / "forged.signed"
    path.write_bytes(json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode() + b"\n" + table)
    with pytest.raises(EvaluationError, match="signature: found one that does not fit"):
        unsealed(path, [KEY.public_key()])


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b"PAR1", b'{"statement":{},"signature":""}\n', b"\xff\n", b"[" * 9**5]
)
def test_what_is_no_sealed_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(EvaluationError, match="no signed scores, or damaged ones"):
        unsealed(tmp_path / "x", [KEY.public_key()])


def test_sealed_scores_are_not_read_without_their_signature(sites: Sites) -> None:
    with pytest.raises(EvaluationError, match="signed scores of another site are read by `perdure evaluate --remote`"):
        Scores.read(sites.sent(sites.base))


def test_a_matrix_is_filled_from_here_and_there_and_releases_go_by_our_names(sites: Sites) -> None:
    path = sites.sent(replace(sites.base, name="what-they-call-it"), sites.candidate)
    own = scores_of(sites.base, sites.candidate, domains=("b",), seed=1)
    both = sites.joined(path, own=own)
    assert [release.name for release in both.header.releases] == ["base", "candidate"]
    assert set(both.header.domains) == {"a", "b"}
    theirs = mean_scores(scores_of(sites.base, sites.candidate), "dice")
    matrix = train_test_matrix(both, "dice")
    assert matrix.domains == ("a", "b")
    expected = [theirs[release.id, "a"] for release in (sites.base, sites.candidate)]
    assert matrix.mean[:, 0] == pytest.approx(expected, abs=1e-15)


def test_scores_are_as_old_as_their_oldest_part(sites: Sites) -> None:
    own = scores_of(sites.base, sites.candidate, domains=("b",))
    earlier = own.header.created
    own = replace(own, header=own.header.model_copy(update={"created": earlier + timedelta(days=9)}))
    assert sites.joined(sites.sent(sites.base, sites.candidate), own=own).header.created == earlier


def test_a_domain_may_come_in_one_file_a_release(sites: Sites) -> None:
    first = sites.sent(sites.base, name="1.signed")
    second = sites.sent(sites.candidate, name="2.signed", seed=1)
    found = sites.joined(first, second)
    assert {release.id for release in found.header.releases} == {sites.base.id, sites.candidate.id}
    assert found.table.height == 2 * 10 * 2


@pytest.fixture
def refused(sites: Sites) -> Callable[..., str]:
    def message(*paths: Path, **more: object) -> str:
        with pytest.raises(EvaluationError) as caught:
            sites.joined(*paths, **more)
        return str(caught.value)

    return message


def test_scores_of_another_release_are_refused(sites: Sites, refused: Callable[..., str]) -> None:
    other = saved(sites.folder / f"other-{len(list(sites.folder.iterdir()))}", threshold=0.9)
    assert f"release: found {other.name} ({other.id}); none of --release" in refused(sites.sent(sites.base, other))


def test_another_case_set_is_refused(sites: Sites, refused: Callable[..., str]) -> None:
    first = sites.sent(sites.base, name="1.signed")
    second = sites.sent(sites.candidate, name="2.signed", a="f" * 64)
    assert "2.signed: cases of domain 'a': found other ones; must be those of" in refused(first, second)


def test_another_salt_is_refused(sites: Sites, refused: Callable[..., str]) -> None:
    first = sites.sent(sites.base, name="1.signed")
    second = sites.sent(sites.candidate, name="2.signed", salt=bytes(32))
    assert "2.signed: salt: found another one" in refused(first, second)


def test_other_cases_of_one_release_are_refused_even_under_one_statement(
    sites: Sites, refused: Callable[..., str]
) -> None:
    scores = scores_of(sites.base, sites.candidate)
    is_left_out = (pl.col("release") == sites.candidate.id) & (pl.col("case") == "a-3")
    path = sites.folder / "uneven.signed"
    path.write_bytes(sealed(replace(scores, table=scores.table.filter(~is_left_out)), {"a": "0"}, KEY, SALT))
    assert "cases of candidate in domain 'a': found other ones; must be those of base" in refused(path)


def test_a_release_without_remote_scores_is_refused(sites: Sites, refused: Callable[..., str]) -> None:
    assert f"domain 'a': found no score of candidate ({sites.candidate.id})" in refused(sites.sent(sites.base))


def test_another_split_is_refused(sites: Sites, refused: Callable[..., str]) -> None:
    assert "split: found test; must be 'val'" in refused(sites.sent(sites.base, sites.candidate), split="val")


def test_a_domain_that_is_scored_here_too_is_refused(sites: Sites, refused: Callable[..., str]) -> None:
    own = scores_of(sites.base, sites.candidate)
    assert "domain 'a': found one that is here too" in refused(sites.sent(sites.base, sites.candidate), own=own)


def test_two_files_that_contradict_each_other_are_refused(sites: Sites, refused: Callable[..., str]) -> None:
    first = sites.sent(sites.base, sites.candidate, name="1.signed")
    second = sites.sent(sites.base, sites.candidate, name="2.signed", seed=5)
    assert "different values in different files" in refused(first, second)


def test_a_statement_about_other_domains_than_the_scores_is_refused(sites: Sites) -> None:
    with pytest.raises(EvaluationError, match="statement: found other releases, split or domains"):
        unsealed(sites.sent(sites.base, b=CASES["b"]), [KEY.public_key()])


def test_the_digest_of_cases_depends_on_ids_subjects_contents_split_and_salt(tmp_path: Path) -> None:
    def digest(folder: Path, split: str = "test", salt: bytes = SALT) -> str:
        domain = Dataset.open(folder).domain("a", picture_contract(), cache=folder / "cache")
        return case_set(domain, split, salt)

    data = synthetic.write_images(tmp_path / "data", domains=("a",))
    first = digest(data)
    assert first == digest(data)
    assert first == digest(synthetic.write_images(tmp_path / "same", domains=("a",)))
    different = {first, digest(data, "val"), digest(data, salt=bytes(32))}
    manifest = data / "manifest.csv"
    whole = manifest.read_text()
    manifest.write_text(whole.replace("a-test-0-eye", "another"))
    different.add(digest(data))
    manifest.write_text(whole.replace("a-test-0-eye,a-test-0", "a-test-0-eye,a-test-1"))
    different.add(digest(data))
    manifest.write_text(whole)
    picture = data / "images" / "a" / "a-test-0.png"
    picture.write_bytes((data / "images" / "a" / "a-test-1.png").read_bytes())
    different.add(digest(data))
    assert len(different) == 6
