"""How do scores of a site that keeps its data come to another, and why may that one believe them?

A sealed file is one line of canonical JSON, a statement with its signature, and after it the score file that the
statement names by hash. So every byte is either signed or hashed by what is signed. Case and subject ids in it are
HMAC-SHA256 under a salt that stays at the site: the same person has the same id in all its files, and nobody else can
tell who it is, not even by trying names.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from perdure.data.pseudonyms import keyed
from perdure.errors import EvaluationError, Problem
from perdure.evaluation import Scores
from perdure.evidence.canonical import canonical
from perdure.evidence.remote.signing import fingerprint, is_signed
from perdure.types import Split, Value
from perdure.update.intensities import FEWEST_SUBJECTS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from perdure.data import FolderDomain

_MAGIC = b"perdure sealed scores 1\n"
"""Stands before what is signed, so that the signature is good for nothing else."""


class Statement(Value):
    """What a site signs.

    Args:
        format: of the sealed file.
        scores: SHA-256 of the score file that follows.
        releases: the ids of the releases that were scored.
        split: the split that was scored.
        cases: by domain a digest of its cases: ids, subjects and the content of every file, under the salt.
        salt: a digest of the salt. The same in two files: the same salt.
        key: the fingerprint of the public key.
    """

    format: Literal[1] = 1
    scores: str
    releases: tuple[str, ...]
    split: Split
    cases: dict[str, str]
    salt: str
    key: str


@dataclass(frozen=True)
class Sealed:
    """A sealed file whose signature was good.

    Args:
        statement: what the site signed.
        scores: with salted ids.
        digest: SHA-256 of the whole file.
    """

    statement: Statement
    scores: Scores
    digest: str


def salted(scores: Scores, salt: bytes) -> Scores:
    """The same scores, subject and case ids salted, rows in the order of those: the manifest's order tells nothing."""
    columns = []
    for column in ("subject", "case"):
        names = scores.table[column].drop_nulls().unique()
        hidden = {name: keyed(salt, column, name) for name in names}
        columns.append(pl.col(column).replace_strict(hidden, return_dtype=pl.String))
    order = {name: place for place, name in enumerate(release.id for release in scores.header.releases)}
    domains = {name: place for place, name in enumerate(scores.header.domains)}
    table = scores.table.with_columns(columns).sort(
        pl.col("release").replace_strict(order), pl.col("domain").replace_strict(domains), "subject", "case",
        maintain_order=True,
    )  # fmt: skip
    groups = {
        column: {
            domain: dict(sorted((keyed(salt, "subject", who), of[who]) for who in of)) for domain, of in by.items()
        }
        for column, by in scores.header.groups.items()
    }
    return replace(scores, table=table, header=scores.header.model_copy(update={"groups": groups}))


def case_set(domain: FolderDomain, split: Split, salt: bytes) -> str:
    """A digest of the cases of a split: their ids, subjects, classes, and the content of their images and labels.

    Args:
        domain: which.
        split: of it.
        salt: of the site, where the digest leaves it; empty for a digest that stays beside the data.
    """
    rows = []
    for name, row in domain.rows.items():
        if row.split == split:
            files = domain.files[name]
            rows.append([name, row.subject, files.grade, files.digest(domain.cache)])
    return keyed(salt, "cases", canonical(sorted(rows)).decode())


def sealed(scores: Scores, cases: Mapping[str, str], key: Ed25519PrivateKey, salt: bytes) -> bytes:
    """The content of a sealed file.

    Args:
        scores: with the site's own ids; they are salted here.
        cases: the digest of each domain's cases, see `case_set`.
        key: of the site.
        salt: of the site.

    Raises:
        EvaluationError: as `check_groups`.
    """
    check_groups(scores.header.groups)
    content = salted(scores, salt).content()
    statement = Statement(
        scores=hashlib.sha256(content).hexdigest(),
        releases=tuple(release.id for release in scores.header.releases),
        split=scores.header.split,
        cases=dict(cases),
        salt=keyed(salt, "salt", ""),
        key=fingerprint(key.public_key()),
    ).model_dump(mode="json")
    signature = key.sign(_MAGIC + canonical(statement)).hex()
    return canonical({"signature": signature, "statement": statement}) + b"\n" + content


def unsealed(path: Path, trusted: Sequence[Ed25519PublicKey]) -> Sealed:
    """The scores of a sealed file, once its signature was found to be that of a trusted key.

    Raises:
        EvaluationError: if the file is none, was signed by another key, or is not byte by byte what was signed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _refused(path, "file", f"none ({error.strerror})", "name a file of `evaluate --signed`") from error
    line, _, table = content.partition(b"\n")
    try:
        envelope = json.loads(line.decode("ascii"))
        statement = Statement.model_validate(envelope["statement"])
        signature, signed = str(envelope["signature"]), canonical(envelope["statement"])
        whole = canonical({"signature": signature, "statement": envelope["statement"]})
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        found = "no signed scores, or damaged ones"
        raise _refused(path, "first line", found, "name a file of `evaluate --signed`") from error
    known = {fingerprint(key): key for key in trusted}
    if statement.key not in known:
        allowed = f"trusted are {', '.join(known) or 'none'}; ask the site for its public key (--trusted-key)"
        raise _refused(path, "key", statement.key, allowed)
    if whole != line or not is_signed(signature, _MAGIC + signed, known[statement.key]):
        raise _refused(path, "signature", "one that does not fit", "the file was changed; ask the site for it again")
    if (found := hashlib.sha256(table).hexdigest()) != statement.scores:
        allowed = f"the site signed {statement.scores}; the file was changed, ask for it again"
        raise _refused(path, "scores", f"SHA-256 {found}", allowed)
    scores = Scores.parsed(table, str(path))
    header = scores.header
    stated = (statement.releases, statement.split, sorted(statement.cases))
    if stated != (tuple(release.id for release in header.releases), header.split, sorted(header.domains)):
        raise _refused(path, "statement", "other releases, split or domains than in the scores", "ask the site")
    return Sealed(statement, scores, hashlib.sha256(content).hexdigest())


def check_groups(groups: Mapping[str, Mapping[str, Mapping[str, str]]]) -> None:
    """Passes if every value of every column is that of several subjects of its domain.

    Args:
        groups: by column and domain, what stands there for each subject.

    Raises:
        EvaluationError: if a value is that of few: an id repeated there would undo the salting, and whoever is nearly
            alone in a group is known by it.
    """
    for column, by in groups.items():
        for domain, of in by.items():
            few = [value for value, subjects in Counter(of.values()).items() if subjects < FEWEST_SUBJECTS]
            if few:
                # how many, not which: the message may be passed on, and a value may be an id
                raise EvaluationError(
                    f"--group {column}: in domain {domain!r} {len(few)} of its values are those of fewer than "
                    f"{FEWEST_SUBJECTS} subjects, who would be known by them in spite of salted ids. Leave the column "
                    "out, or merge its values in the manifest."
                )


def _refused(path: Path, field: str, found: str, allowed: str) -> EvaluationError:
    return EvaluationError(str(Problem(str(path), field, found, allowed)))
