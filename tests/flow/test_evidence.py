"""Two sites and one line of releases: what is recorded, what is signed, what is found when something is changed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

import synthetic
from command import Command, quietly
from perdure.evaluation import Scores
from perdure.evidence.ledger.ledger import Ledger
from perdure.release import read_identity

ALTERED = 7


@dataclass(frozen=True)
class Line:
    """Where everything is. The old site has the data of domain `a` alone, the new one those of `b`.

    Args:
        old: folder of the old site.
        new: folder of the new site.
    """

    old: Path
    new: Path

    @property
    def base(self) -> Path:
        return self.new / "releases" / "base"

    @property
    def candidate(self) -> Path:
        return self.new / "releases" / "candidate"

    def actions(self, folder: Path | None = None) -> list[tuple[str, str]]:
        entries = Ledger.beside(folder or self.base).entries()
        names = {entry.release: str(entry.details["name"]) for entry in entries if "files" in entry.details}
        return [(entry.action, names.get(entry.release, "")) for entry in entries]


@pytest.fixture
def line(made: Line, tmp_path: Path) -> Line:
    """A copy for each test, to be spoilt."""
    for site in (made.old, made.new):
        shutil.copytree(site, tmp_path / site.name)
    return Line(tmp_path / made.old.name, tmp_path / made.new.name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Line:
    folder = tmp_path_factory.mktemp("sites")
    line = Line(folder / "old", folder / "new")
    synthetic.write_images(line.old / "data", domains=("a",))
    both = synthetic.write_images(folder / "both", domains=("a", "b"))
    (line.new / "data").mkdir(parents=True)
    rows = (both / "manifest.csv").read_text().splitlines(keepends=True)
    (line.new / "data" / "manifest.csv").write_text("".join([rows[0], *(row for row in rows if ",b," in row)]))
    shutil.copy(both / "dataset.toml", line.new / "data")
    for kind in ("images", "labels"):
        shutil.copytree(both / kind / "b", line.new / "data" / kind / "b")
    shared = ("--epochs", 1, "--batch-size", 4)
    network = ("--filters", 3, "--kernel-size", 3, "--size", 32)
    quietly("train", "--data", line.old / "data", "--domain", "a", *shared, *network, "--out", line.base)
    quietly(
        "evaluate", "--release", line.base, "--data", line.old / "data", "--out", line.new / "releases" / "a.parquet"
    )
    words = ("--release", line.base, "--data", line.new / "data", "--domain", "b", "--method", "mas-lr")
    quietly("update", *words, *shared, "--out", line.candidate)
    for release in (line.base, line.candidate):
        shutil.copytree(release, line.old / "received" / release.name)
    quietly("key", "--out", line.old / "site.key")
    both_there = [word for name in ("base", "candidate") for word in ("--release", line.old / "received" / name)]
    words = ("--data", line.old / "data", "--domain", "a", "--signed", line.old / "site.key")
    quietly("evaluate", *both_there, *words, "--out", line.old / "a.signed")
    return line


def both(line: Line) -> tuple[object, ...]:
    return "--release", line.base, "--release", line.candidate


def remote(line: Line) -> tuple[object, ...]:
    return "--remote", line.old / "a.signed", "--trusted-key", line.old / "site.key.pub"


def test_what_was_done_stands_in_the_ledger_of_each_site(made: Line) -> None:
    assert made.actions() == [("trained", "base"), ("evaluated", "base"), ("looked", "base"), ("updated", "candidate")]
    # the old site received the releases; nobody saw them being made there
    there = Ledger.beside(made.old / "received" / "base").entries()
    assert [entry.details.get("found") for entry in there[:2]] == [True, True]
    assert [entry.action for entry in there[2:]] == ["evaluated", "looked"] * 2


def test_signed_scores_of_the_old_site_fill_the_matrix_of_the_new_one(line: Line, command: Command) -> None:
    out = line.new / "releases" / "scores.parquet"
    words = ("--data", line.new / "data", "--domain", "b", *remote(line), "--out", out)
    record = command.succeeds("evaluate", *both(line), *words, "--json").json
    assert record["matrices"]["candidate"]["domains"] == ["a", "b"]
    # the same as if the old data were here
    here = line.new / "whole.parquet"
    quietly("evaluate", *both(line), "--data", line.old / "data", "--domain", "a", "--out", here)
    expected, found = (Scores.read(path).table.filter(domain="a") for path in (here, out))
    assert sorted(found["value"]) == sorted(expected["value"])
    assert set(found["subject"]).isdisjoint(set(expected["subject"]))
    looks = [entry for entry in Ledger.beside(line.base).entries() if entry.action == "looked"]
    assert [entry.details["domain"] for entry in looks[1:5]] == ["a", "b", "a", "b"]
    # which cases they were is the same for both releases, and says nothing of who is among them
    assert looks[1].details["case_set"] == looks[3].details["case_set"] != looks[2].details["case_set"]
    assert command.succeeds("verify", line.base.parent).code == 0


def test_without_data_of_its_own_a_site_compares_by_remote_scores_alone(line: Line, command: Command) -> None:
    ended = command("evaluate", *both(line), *remote(line), "--out", line.new / "scores.parquet")
    assert ended.code == 2
    assert "--data: needed to score b; name the folder, or a --remote file" in ended.err
    # a release that learnt `a` alone needs nothing else
    words = ("--release", line.base, "--data", line.old / "data", "--signed", line.old / "site.key")
    quietly("evaluate", *words, "--out", line.old / "base.signed")
    words = ("--remote", line.old / "base.signed", "--trusted-key", line.old / "site.key.pub")
    record = command.succeeds(
        "evaluate", "--release", line.base, *words, "--out", line.new / "s.parquet", "--json"
    ).json
    assert [(row["name"], row["domain"]) for row in record["scores"]] == [("base", "a")]


def test_distances_of_surfaces_come_with_the_scores_of_the_site_that_has_the_data(line: Line, command: Command) -> None:
    words = ("--release", line.base, "--data", line.old / "data", "--signed", line.old / "site.key")
    quietly("evaluate", *words, "--surface-distance", "--out", line.old / "base.signed")
    words = ("--release", line.base, "--remote", line.old / "base.signed", "--trusted-key", line.old / "site.key.pub")
    out = line.new / "s.parquet"
    ended = command("evaluate", *words, "--surface-distance", "--out", out)
    assert (ended.code, out.exists()) == (2, False)
    assert "--surface-distance: nothing is scored here" in ended.err
    record = command.succeeds("evaluate", *words, "--out", out, "--json").json
    found = {row["metric"]: row.get("unit") for row in record["scores"]}
    assert found == {"dice": None, "hd95": "pixels", "assd": "pixels"}
    assert Scores.read(out).header.unit == "pixels"


def test_a_wrong_key_another_release_and_a_changed_byte_are_refused(line: Line, command: Command) -> None:
    quietly("key", "--out", line.new / "other.key")
    end = ("--data", line.new / "data", "--domain", "b", "--out", line.new / "scores.parquet")
    signed = ("--remote", line.old / "a.signed")
    ended = command("evaluate", *both(line), *signed, "--trusted-key", line.new / "other.key.pub", *end)
    assert (ended.code, "a.signed: key: found" in ended.err) == (1, True)
    ended = command("evaluate", "--release", line.candidate, *remote(line), *end)
    assert (ended.code, "a.signed: release: found base" in ended.err) == (1, True)
    content = bytearray((line.old / "a.signed").read_bytes())
    content[len(content) // 2] ^= 1
    (line.old / "a.signed").write_bytes(content)
    ended = command("evaluate", *both(line), *remote(line), *end)
    assert (ended.code, "the file was changed" in ended.err) == (1, True)
    assert not (line.new / "scores.parquet").exists()


def test_a_case_that_was_replaced_between_two_signed_files_is_noticed(line: Line, command: Command) -> None:
    out = ("--data", line.old / "data", "--domain", "a", "--signed", line.old / "site.key")
    for name in ("base", "candidate"):
        command.succeeds(
            "evaluate", "--release", line.old / "received" / name, *out, "--out", line.old / f"{name}.signed"
        )
        pictures = sorted((line.old / "data" / "images" / "a").glob("*test*"))
        shutil.copy(pictures[1], pictures[0])
    files = [word for name in ("base", "candidate") for word in ("--remote", line.old / f"{name}.signed")]
    end = ("--data", line.new / "data", "--domain", "b", "--out", line.new / "scores.parquet")
    ended = command("evaluate", *both(line), *files, "--trusted-key", line.old / "site.key.pub", *end)
    assert (ended.code, "cases of domain 'a': found other ones" in ended.err) == (1, True)


def test_a_column_that_repeats_ids_is_not_signed_and_nothing_is_scored_for_it(line: Line, command: Command) -> None:
    manifest = line.old / "data" / "manifest.csv"
    rows = [row.split(",") for row in manifest.read_text().splitlines()]
    place = rows[0].index("subject")
    lines = [",".join([*row, "name" if number == 0 else row[place]]) for number, row in enumerate(rows)]
    manifest.write_text("\n".join(lines) + "\n")
    words = ("--data", line.old / "data", "--domain", "a", "--signed", line.old / "site.key", "--group", "name")
    ended = command("evaluate", "--release", line.base, *words, "--out", line.old / "named.signed")
    assert ended.code == 1
    assert "--group name: in domain 'a'" in ended.err
    assert "scoring cases" not in ended.err
    assert not (line.old / "named.signed").exists()


def test_a_look_at_other_cases_or_other_labels_has_another_digest(line: Line, command: Command) -> None:
    data = line.old / "data"

    def look() -> tuple[object, object]:
        command.succeeds("evaluate", "--release", line.base, "--data", data, "--out", line.new / "a.parquet")
        details = Ledger.beside(line.base).entries()[-1].details
        return details["cases"], details["case_set"]

    first = look()
    assert look() == first
    labels = sorted((data / "labels" / "a").glob("*test*"))
    kept = labels[0].read_bytes()
    shutil.copy(labels[1], labels[0])
    relabelled = look()
    assert (relabelled[0], relabelled[1] != first[1]) == (first[0], True)
    labels[0].write_bytes(kept)
    assert look() == first
    manifest = data / "manifest.csv"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(row for row in lines if labels[0].stem not in row))
    assert look()[0] == first[0] - 1


def test_a_domain_comes_from_here_or_from_there(line: Line, command: Command) -> None:
    words = ("--data", line.old / "data", "--domain", "a", *remote(line), "--out", line.new / "scores.parquet")
    ended = command("evaluate", *both(line), *words)
    assert (ended.code, "--domain a: comes by --remote as well" in ended.err) == (2, True)


def test_a_site_signs_only_its_own_scores(line: Line, command: Command) -> None:
    words = ("--data", line.new / "data", "--domain", "b", "--signed", line.old / "site.key", *remote(line))
    ended = command("evaluate", *both(line), *words, "--out", line.new / "scores.parquet")
    assert (ended.code, "a site signs only what it scored itself" in ended.err) == (2, True)


def test_log_shows_every_entry_and_the_head(line: Line, command: Command) -> None:
    text = command.succeeds("log", line.base.parent).out
    head = Ledger.beside(line.base).head().hash
    assert f"Head, to be kept elsewhere: {head}" in text
    for word in ("trained", "evaluated", "looked", "updated", "candidate", "mas-lr"):
        assert word in text
    record = command.succeeds("log", line.base.parent / "ledger.jsonl", "--json").json
    assert [entry["action"] for entry in record["entries"]] == ["trained", "evaluated", "looked", "updated"]
    assert record["head"] == {"entries": 4, "hash": head}
    ended = command("log", line.new)
    assert (ended.code, "there is no ledger" in ended.err) == (2, True)


def test_verify_names_what_was_changed_and_ends_with_its_own_code(line: Line, command: Command) -> None:
    head = Ledger.beside(line.base).head().hash
    text = command.succeeds("verify", line.base.parent, "--head", head).out
    assert "all as it was written" in text
    file = line.candidate / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    ended = command("verify", line.base.parent)
    assert (ended.code, ended.err) == (ALTERED, "")
    assert f"{file}: content: found SHA-256" in ended.out
    record = command("verify", line.base.parent, "--json", "--head", "0" * 64).json
    assert [Path(problem["file"]).name for problem in record["problems"]] == ["ledger.jsonl", "weights.safetensors"]
    ended = command("verify", file)
    assert (ended.code, "is no folder" in ended.err) == (2, True)


def test_rollback_restores_the_parent_bit_for_bit_and_is_recorded(line: Line, command: Command) -> None:
    out = line.new / "releases" / "restored"
    record = command.succeeds("rollback", line.candidate, "--out", out, "--json").json
    assert (record["action"], record["details"]["from"]) == ("rolled back", read_identity(line.candidate).id)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in line.base.iterdir()
    }
    assert line.actions()[-1] == ("rolled back", "base")
    assert command.succeeds("verify", line.base.parent).code == 0
    ended = command("rollback", line.base, "--out", line.new / "never")
    assert (ended.code, "is a base release" in ended.err) == (1, True)


def test_a_crash_between_a_release_and_its_entry_is_found_and_mended_by_the_next_run(
    line: Line, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = line.new / "releases" / "third"
    words = (
        "--release",
        line.base,
        "--data",
        line.new / "data",
        "--domain",
        "b",
        "--method",
        "finetune",
        "--epochs",
        1,
    )

    def stopped(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("perdure.evidence.ledger.recording.record_release", stopped)
        assert command("update", *words, "--out", out).code == 130
    ended = command("verify", line.base.parent)
    assert (ended.code, "third: release: found one that has no entry" in ended.out) == (ALTERED, True)
    for _ in range(2):
        assert "was finished before" in command.succeeds("update", *words, "--out", out).out
    assert line.actions().count(("updated", "third")) == 1
    assert Ledger.beside(out).entries()[-1].details.get("found") is None
    assert command.succeeds("verify", line.base.parent).code == 0


def test_a_workspace_without_a_ledger_still_works_and_begins_one_with_what_is_there(
    line: Line, command: Command
) -> None:
    for name in ("ledger.jsonl", "ledger.head"):
        (line.base.parent / name).unlink()
    ended = command("verify", line.base.parent)
    assert ended.code == ALTERED
    assert "ledger.jsonl: file: found none; the next train, adopt, update or evaluate begins one" in ended.out
    out = line.new / "releases" / "b.parquet"
    command.succeeds("evaluate", *both(line), "--data", line.new / "data", "--domain", "b", "--out", out)
    assert line.actions()[:3] == [("trained", "base"), ("updated", "candidate"), ("evaluated", "base")]
    text = command("verify", line.base.parent).out
    assert "note: base: was there when it was first recorded" in text


def test_an_update_that_goes_part_of_the_way_back_leaves_two_releases_and_two_entries(
    line: Line, command: Command
) -> None:
    out = line.new / "releases" / "half"
    words = (
        "--release",
        line.base,
        "--data",
        line.new / "data",
        "--domain",
        "b",
        "--method",
        "finetune",
        "--epochs",
        1,
    )
    command.succeeds("update", *words, "--retain", 0.5, "--out", out)
    assert line.actions()[-2:] == [("updated", "half.candidate"), ("updated", "half")]
    assert command.succeeds("verify", line.base.parent).code == 0
