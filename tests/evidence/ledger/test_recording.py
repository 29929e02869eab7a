from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path

import polars as pl
import pytest

from perdure.errors import LedgerError
from perdure.evaluation import Scores
from perdure.evidence.ledger.ledger import Ledger
from perdure.evidence.ledger.recording import record_release, record_scores
from workspaces import saved, scores_of, workspace


def test_a_release_is_recorded_once_with_every_file_and_its_parent(tmp_path: Path) -> None:
    base, candidate = workspace(tmp_path)
    record_release(tmp_path / "candidate", candidate.identity)
    first, second = Ledger.beside(tmp_path / "base").entries()
    assert (first.action, first.release, first.details["parent"]) == ("trained", base.id, None)
    assert (second.action, second.release, second.details["parent"]) == ("updated", candidate.id, base.id)
    assert (second.details["name"], second.details["domain"], second.details["method"]) == (
        "candidate",
        "b",
        "candidate",
    )
    written = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "base").iterdir()}
    assert first.details["files"] == written
    assert "found" not in first.details


def test_a_new_ledger_begins_with_the_releases_that_are_there_and_says_that_nobody_saw_them_made(
    tmp_path: Path,
) -> None:
    base = saved(tmp_path / "z-base")
    saved(tmp_path / "a-second", base)
    (saved(tmp_path / "damaged"), (tmp_path / "damaged" / "weights.safetensors").write_bytes(b""))
    new = saved(tmp_path / "new", base, 0.7)
    record_release(tmp_path / "new", new.identity)
    entries = Ledger.beside(tmp_path / "new").entries()
    # parents first; the damaged one is left to `perdure verify`
    told = [(entry.details["name"], entry.details.get("found", False)) for entry in entries]
    assert told == [("z-base", True), ("a-second", True), ("new", False)]


def test_a_release_that_was_put_beside_others_is_marked_as_found_where_it_is_used(tmp_path: Path) -> None:
    base, _ = workspace(tmp_path)
    put = saved(tmp_path / "put", base, 0.8)
    record_release(tmp_path / "put", put.identity, found=True)
    assert Ledger.beside(tmp_path / "put").entries()[-1].details["found"] is True


def test_each_release_has_an_entry_for_its_scores_and_one_for_each_look_at_a_test_split(tmp_path: Path) -> None:
    base, candidate = workspace(tmp_path)
    scores = scores_of(base, candidate, domains=("a", "b"))
    folders = {release.id: tmp_path / release.name for release in (base, candidate)}
    record_scores(folders, scores, scores.content(), tmp_path / "scores.parquet")
    entries = Ledger.beside(tmp_path / "base").entries()[2:]
    digest = hashlib.sha256((tmp_path / "scores.parquet").read_bytes()).hexdigest()
    assert [(entry.action, entry.release, entry.details.get("domain")) for entry in entries] == [
        (action, release.id, domain)
        for release in (base, candidate)
        for action, domain in (("evaluated", None), ("looked", "a"), ("looked", "b"))
    ]
    assert entries[0].details == {
        "scores": digest, "split": "test", "domains": ["a", "b"], "file": "scores.parquet"
    }  # fmt: skip
    case_set = entries[1].details["case_set"]
    assert entries[1].details == {
        "domain": "a", "split": "test", "scores": digest, "cases": 10, "case_set": case_set
    }  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", case_set)
    # of the same domain it is the same for both releases, and another for another domain
    assert [entry.details["case_set"] == case_set for entry in entries if entry.action == "looked"] == [
        True, False, True, False,
    ]  # fmt: skip
    assert Scores.read(tmp_path / "scores.parquet").table.equals(scores.table)


def test_a_look_at_fewer_cases_is_told_from_one_at_all(tmp_path: Path) -> None:
    base, _ = workspace(tmp_path)
    whole = scores_of(base)
    for scores in (whole, Scores(whole.header, whole.table.filter(pl.col("subject") != whole.table["subject"][0]))):
        record_scores({base.id: tmp_path / "base"}, scores, scores.content(), tmp_path / "scores.parquet")
    record_scores({base.id: tmp_path / "base"}, whole, whole.content(), tmp_path / "scores.parquet", {"a": "f" * 64})
    looks = [entry.details for entry in Ledger.beside(tmp_path / "base").entries() if entry.action == "looked"]
    assert [look["cases"] for look in looks] == [10, 8, 10]
    assert len({look["case_set"] for look in looks}) == 3
    # what is in the files, where somebody says it
    assert looks[-1]["case_set"] == "f" * 64


def test_validation_scores_are_no_look_at_a_test_split(tmp_path: Path) -> None:
    base, _ = workspace(tmp_path)
    scores = scores_of(base, split="val")
    record_scores({base.id: tmp_path / "base"}, scores, scores.content(), tmp_path / "val.parquet")
    assert [entry.action for entry in Ledger.beside(tmp_path / "base").entries()[2:]] == ["evaluated"]


def test_releases_of_two_workspaces_are_recorded_each_in_its_own(tmp_path: Path) -> None:
    base, _ = workspace(tmp_path / "one")
    other = saved(tmp_path / "two" / "other", base, 0.9)
    record_release(tmp_path / "two" / "other", other.identity)
    scores = scores_of(base, other)
    folders = {base.id: tmp_path / "one" / "base", other.id: tmp_path / "two" / "other"}
    record_scores(folders, scores, scores.content(), tmp_path / "two" / "scores.parquet")
    here, there = (Ledger.beside(folder).entries()[-2] for folder in folders.values())
    assert (here.release, there.release) == (base.id, other.id)
    # a file is named where it stands beside the ledger
    assert ("file" in here.details, "file" in there.details) == (False, True)


def test_scores_appear_only_after_the_look_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, _ = workspace(tmp_path)
    scores, out = scores_of(base), tmp_path / "scores.parquet"

    def stopped(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("perdure.evidence.ledger.recording.replace_file", stopped)
    with pytest.raises(KeyboardInterrupt):
        record_scores({base.id: tmp_path / "base"}, scores, scores.content(), out)
    assert not out.exists()
    assert Ledger.beside(tmp_path / "base").entries()[-1].action == "looked"


def test_where_nothing_can_be_written_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = saved(tmp_path / "base")

    def denied(*arguments: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied")

    # whoever runs the tests may write everywhere
    monkeypatch.setattr("perdure.evidence.ledger.ledger.FileLock", denied)
    with pytest.raises(LedgerError, match="Permission denied.*copy the release folder to where you may write"):
        record_release(tmp_path / "base", base.identity)
    assert stat.S_ISDIR(tmp_path.stat().st_mode)
