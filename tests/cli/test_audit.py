"""`perdure audit` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import synthetic
from command import Command, quietly


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on six subjects."""
    folder = tmp_path_factory.mktemp("audit")
    data = synthetic.write_images(folder / "data", domains=("a",), cases=(6, 1, 1), size=(32, 32))
    words = ("--filters", 2, "--kernel-size", 3, "--epochs", 1, "--measure", "uniform")
    quietly("train", "--data", data, "--domain", "a", *words, "--out", folder / "base")
    return folder / "base"


def test_a_clean_release_passes_and_says_what_that_does_not_mean(command: Command, release: Path) -> None:
    text = " ".join(command.succeeds("audit", release).out.split())
    assert "Passed: " in text
    assert "What this does not exclude is in docs/audit.md" in text


def test_a_release_of_too_few_subjects_is_not_passed(command: Command, release: Path) -> None:
    ended = command("audit", release, "--min-subjects", 7, "--json")
    assert ended.code == 8
    assert ended.json["is_passed"] is False
    (one,) = ended.json["objections"]
    assert (one["file"], one["field"]) == ("release.json", "domains.0.counts.subjects.train")
    assert f"error: {release}: 1 objection(s)." in ended.err


def test_an_objection_is_accepted_by_its_file_and_field(command: Command, release: Path) -> None:
    place = "release.json:domains.0.counts.subjects.train"
    record = command.succeeds("audit", release, "--min-subjects", 7, "--accept", place, "--json").json
    assert [one["is_accepted"] for one in record["objections"]] == [True]


def test_a_person_reads_what_was_found_and_what_to_do(command: Command, release: Path) -> None:
    text = " ".join(command("audit", release, "--min-subjects", 7).out.split())
    assert "6 training subject(s) of domain 'a'" in text
    assert "Not passed: 1 objection(s)." in text


def test_what_is_no_release_is_named(command: Command, tmp_path: Path) -> None:
    ended = command("audit", tmp_path)
    assert ended.code == 1
    assert f"error: {tmp_path / 'release.json'}: missing" in ended.err
