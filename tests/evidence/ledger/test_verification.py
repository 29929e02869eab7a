from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.evidence.ledger.ledger import Ledger
from perdure.evidence.ledger.recording import record_scores
from perdure.evidence.ledger.restoring import roll_back
from perdure.evidence.ledger.verification import verify
from perdure.evidence.ledger.workspace import entry_of, release_problems
from workspaces import saved, scores_of, workspace


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return filled(tmp_path / "releases")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("workspace") / "releases")


def filled(folder: Path) -> Path:
    """Two releases, their scores, a declared plan, a verdict and an approval."""
    base, candidate = workspace(folder)
    scores = scores_of(base, candidate, domains=("a", "b"))
    folders = {release.id: folder / release.name for release in (base, candidate)}
    record_scores(folders, scores, scores.content(), folder / "scores.parquet")
    ledger = Ledger.beside(folder / "base")
    (folder / "PLAN.toml").write_text('name = "plan"\n')
    ledger.append("declared", plan=digest(folder / "PLAN.toml"), name="plan", file="PLAN.toml")
    (folder / "verdict.json").write_text("{}\n")
    ledger.append("approved", candidate.id, name="Dr. A", verdict=digest(folder / "verdict.json"), file="verdict.json")
    return folder


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_found(folder: Path, head: str | None = None) -> list[str]:
    return [str(Path(problem.file).relative_to(folder)) for problem in verify(folder, head).problems]


def test_a_workspace_that_is_as_it_was_written_has_no_problem(whole: Path) -> None:
    found = verify(whole)
    assert (found.problems, found.notes) == ((), ())
    assert (found.releases, found.files) == (2, 9)
    assert found.head == Ledger.beside(whole / "base").head()


def test_any_byte_changed_in_any_file_of_a_release_is_found_and_located(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "candidate"
    shutil.copytree(shared / "candidate", folder)
    entries = Ledger.beside(shared / "base").entries()
    missed = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            entry = entry_of(folder, entries)
            if entry is None or [problem.file for problem in release_problems(folder, entry)] != [str(path)]:
                missed.append((path.name, place))
        path.write_bytes(content)
    assert missed == []
    assert entry_of(folder, entries) is not None


@given(data=st.data())
def test_a_byte_that_becomes_any_other_byte_in_any_file_of_the_workspace_is_found_and_located(
    shared: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("changed") / "releases"
    shutil.copytree(shared, folder)
    names = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    path = data.draw(st.sampled_from(names))
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != content[place]))
    path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
    assert str(path.relative_to(folder)) in files_found(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "memory.safetensors", "release.json"])
def test_a_missing_file_of_a_release_is_named(whole: Path, name: str) -> None:
    (whole / "base" / name).unlink()
    assert files_found(whole) == [f"base/{name}"]


def test_an_unknown_file_or_folder_in_a_release_is_named(whole: Path) -> None:
    (whole / "base" / "patients.csv").write_text("x")
    (whole / "base" / "images").mkdir()
    assert files_found(whole) == ["base/images", "base/patients.csv"]


def test_a_release_that_was_replaced_by_another_whole_one_is_found(whole: Path) -> None:
    shutil.rmtree(whole / "candidate")
    base = saved(whole.parent / "elsewhere" / "base")
    saved(whole / "candidate", base, 0.9)
    assert set(files_found(whole)) == {"candidate/release.json", "candidate/weights.safetensors"}


def test_a_release_that_nobody_recorded_is_named_and_what_to_do(whole: Path) -> None:
    saved(whole / "stray", threshold=0.9)
    (problem,) = verify(whole).problems
    assert problem.file == str(whole / "stray")
    assert "no entry in the ledger" in problem.found


def test_a_copy_of_a_recorded_release_under_another_name_is_no_problem(whole: Path) -> None:
    shutil.copytree(whole / "base", whole / "base-copy")
    found = verify(whole)
    assert (found.problems, found.releases) == ((), 3)


@pytest.mark.parametrize("name", ["weights.safetensors", "memory.safetensors", "release.json"])
def test_a_byte_changed_in_a_renamed_copy_is_located_too(whole: Path, name: str) -> None:
    file = whole / "renamed" / name
    shutil.copytree(whole / "base", whole / "renamed")
    for place in range(0, file.stat().st_size, 50):
        content = bytearray((whole / "base" / name).read_bytes())
        content[place] ^= 1
        file.write_bytes(content)
        assert files_found(whole) == [f"renamed/{name}"]


def test_a_recorded_release_in_the_place_of_another_is_found(whole: Path) -> None:
    shutil.rmtree(whole / "candidate")
    shutil.copytree(whole / "base", whole / "candidate")
    (problem,) = verify(whole).problems
    assert (problem.file, problem.field) == (str(whole / "candidate"), "release")
    assert problem.found.startswith("base (")


def test_two_releases_that_were_swapped_are_both_found(whole: Path) -> None:
    (whole / "base").rename(whole / "aside")
    (whole / "candidate").rename(whole / "base")
    (whole / "aside").rename(whole / "candidate")
    assert files_found(whole) == ["base", "candidate"]


def test_a_parent_restored_to_where_its_update_stood_is_no_problem(whole: Path) -> None:
    (whole / "candidate").rename(whole / "withdrawn")
    roll_back(whole / "withdrawn", whole / "candidate")
    assert verify(whole).problems == ()


def test_a_rollback_to_another_place_excuses_nothing_here(whole: Path) -> None:
    roll_back(whole / "candidate", whole.parent / "deployed" / "candidate")
    assert verify(whole).problems == ()
    shutil.rmtree(whole / "candidate")
    shutil.copytree(whole / "base", whole / "candidate")
    assert files_found(whole) == ["candidate"]


def test_links_are_named_and_not_followed_in_silence(whole: Path) -> None:
    outside = whole.parent / "outside"
    outside.mkdir()
    (whole / "base").rename(outside / "base")
    (whole / "base").symlink_to(outside / "base")
    for name in ("candidate/weights.safetensors", "scores.parquet", "ledger.jsonl"):
        (whole / name).rename(outside / Path(name).name)
        (whole / name).symlink_to(outside / Path(name).name)
    found = verify(whole).problems
    assert {problem.found for problem in found} == {"a link"}
    assert sorted(files_found(whole)) == ["base", "candidate/weights.safetensors", "ledger.jsonl", "scores.parquet"]


def test_a_release_in_a_hidden_folder_is_looked_at(whole: Path) -> None:
    saved(whole / ".stray", threshold=0.9)
    shutil.copytree(whole / "base", whole / ".base.0123456789ab.unfinished")  # as a killed writer leaves it
    assert files_found(whole) == [".stray"]


def test_a_release_that_was_moved_away_is_a_note(whole: Path) -> None:
    shutil.move(whole / "base", whole.parent / "archive")
    found = verify(whole)
    assert found.problems == ()
    assert found.notes == ("base: its folder is not here; it was moved or removed.",)


@pytest.mark.parametrize("name", ["PLAN.toml", "verdict.json", "scores.parquet"])
def test_a_plan_verdict_or_score_file_that_was_changed_is_named(whole: Path, name: str) -> None:
    with (whole / name).open("ab") as file:
        file.write(b" ")
    assert files_found(whole) == [name]


@pytest.mark.parametrize("name", ["PLAN.toml", "verdict.json", "scores.parquet"])
def test_one_that_is_not_there_any_more_is_no_problem(whole: Path, name: str) -> None:
    (whole / name).unlink()
    assert files_found(whole) == []


def test_scores_of_a_release_that_nobody_recorded_are_named(whole: Path) -> None:
    base = saved(whole.parent / "other" / "base", threshold=0.9)
    scores_of(base).write(whole / "of-another-line.parquet")
    (whole / "no-scores.parquet").write_bytes(b"PAR1")
    assert files_found(whole) == []
    shutil.copy(whole / "scores.parquet", whole / "copy.parquet")
    assert files_found(whole) == []
    known = Ledger.beside(whole / "base").entries()[0].release
    header = scores_of(base).header
    ours = header.releases[0].model_copy(update={"id": known})
    forged = scores_of(base)
    table = forged.table.with_columns(release=forged.table["release"].replace(base.id, known))
    type(forged)(header.model_copy(update={"releases": (ours,)}), table).write(whole / "forged.parquet")
    assert files_found(whole) == ["forged.parquet"]


def test_a_plan_that_was_declared_anew_is_known_in_both_forms(whole: Path) -> None:
    first = (whole / "PLAN.toml").read_bytes()
    (whole / "PLAN.toml").write_bytes(first + b"# stricter\n")
    Ledger.beside(whole / "base").append("declared", plan=digest(whole / "PLAN.toml"), name="plan", file="PLAN.toml")
    assert files_found(whole) == []
    (whole / "PLAN.toml").write_bytes(first)
    assert files_found(whole) == []


def test_without_a_ledger_that_is_the_problem_and_each_release(tmp_path: Path) -> None:
    saved(tmp_path / "base")
    assert files_found(tmp_path) == ["ledger.jsonl", "base"]


def test_releases_are_still_compared_where_the_ledger_is_damaged(whole: Path) -> None:
    ledger = whole / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"action":"declared"', b'"action":"trained" '))
    (whole / "candidate" / "weights.safetensors").write_bytes(b"")
    assert files_found(whole) == ["ledger.jsonl", "candidate/weights.safetensors"]


@pytest.mark.parametrize("spelt", [str.lower, str.upper, "  {}\n".format])
def test_a_head_that_was_kept_elsewhere_is_found_again_after_later_entries(
    whole: Path, spelt: Callable[[str], str]
) -> None:
    ledger = Ledger.beside(whole / "base")
    kept = ledger.head().hash
    ledger.append("looked", "a")
    assert files_found(whole, spelt(kept)) == []


def test_a_kept_head_shows_that_the_end_was_taken_away_together_with_the_head_file(whole: Path) -> None:
    ledger = Ledger.beside(whole / "base")
    before = ledger.path.read_bytes(), ledger.head_path.read_bytes()
    ledger.append("looked", "a")
    kept = ledger.head().hash
    ledger.path.write_bytes(before[0])
    ledger.head_path.write_bytes(before[1])
    assert files_found(whole) == []  # neither file can show it
    (problem,) = verify(whole, kept).problems
    assert problem.field == f"head {kept}"
