from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from perdure.errors import LedgerError
from perdure.evidence.ledger.approval import approve
from perdure.evidence.ledger.ledger import Ledger
from perdure.evidence.ledger.recording import record_release
from perdure.evidence.ledger.restoring import roll_back
from perdure.evidence.ledger.verification import verify
from workspaces import gated, saved, workspace


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("place", ["restored", "../deployed/now"])
def test_the_parent_comes_back_bit_for_bit_and_that_is_recorded(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "releases"
    base, candidate = workspace(folder)
    entry = roll_back(folder / "candidate", folder / place)
    assert content(folder / place) == content(folder / "base")
    assert Ledger.beside(folder / "base").entries()[-1] == entry
    assert (entry.action, entry.release) == ("rolled back", base.id)
    beside = {"folder": "restored"} if place == "restored" else {}
    assert entry.details == {"from": candidate.id, "to": base.id, "name": Path(place).name, **beside}
    assert verify(folder).problems == ()


def test_a_release_that_is_damaged_itself_can_be_rolled_back(tmp_path: Path) -> None:
    workspace(tmp_path)
    (tmp_path / "candidate" / "release.json").write_text("{")
    (tmp_path / "candidate" / "weights.safetensors").unlink()
    roll_back(tmp_path / "candidate", tmp_path / "restored")
    assert content(tmp_path / "restored") == content(tmp_path / "base")


@pytest.mark.parametrize("name", ["weights.safetensors", "memory.safetensors", "release.json"])
def test_a_damaged_parent_is_refused_by_the_name_of_the_file_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    workspace(tmp_path)
    file = tmp_path / "base" / name
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(LedgerError, match=f"base .* cannot be restored(.|\n)*{name}: content: found SHA-256"):
        roll_back(tmp_path / "candidate", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
    assert Ledger.beside(tmp_path / "base").entries()[-1].action == "updated"


def test_a_parent_whose_folder_is_gone_is_named(tmp_path: Path) -> None:
    workspace(tmp_path)
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(LedgerError, match="base: there is no such folder, and no other holds the release"):
        roll_back(tmp_path / "candidate", tmp_path / "restored")


@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_whole_copy_under_another_name_will_do(tmp_path: Path, is_damaged: bool) -> None:
    workspace(tmp_path)
    shutil.copytree(tmp_path / "base", tmp_path / "copy")
    if is_damaged:
        (tmp_path / "base" / "weights.safetensors").write_bytes(b"")
    else:
        shutil.rmtree(tmp_path / "base")
    roll_back(tmp_path / "candidate", tmp_path / "restored")
    assert content(tmp_path / "restored") == content(tmp_path / "copy")


def test_a_base_release_has_none_to_go_back_to(tmp_path: Path) -> None:
    workspace(tmp_path)
    with pytest.raises(LedgerError, match="is a base release; there is none before it"):
        roll_back(tmp_path / "base", tmp_path / "restored")


def test_a_release_that_nobody_recorded_is_refused(tmp_path: Path) -> None:
    base, _ = workspace(tmp_path)
    saved(tmp_path / "stray", base, 0.9)
    with pytest.raises(LedgerError, match="release stray: found no entry"):
        roll_back(tmp_path / "stray", tmp_path / "restored")


def test_a_parent_that_was_never_in_this_workspace_is_refused(tmp_path: Path) -> None:
    base, _ = workspace(tmp_path / "one")
    other = saved(tmp_path / "two" / "other", base, 0.9)
    record_release(tmp_path / "two" / "other", other.identity)
    with pytest.raises(LedgerError, match="its parent was never in this workspace"):
        roll_back(tmp_path / "two" / "other", tmp_path / "restored")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    workspace(tmp_path)
    (tmp_path / "restored").mkdir()
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        roll_back(tmp_path / "candidate", tmp_path / "restored")


def test_a_crash_between_the_copy_and_its_entry_is_mended_by_the_same_call_and_recorded_once(tmp_path: Path) -> None:
    workspace(tmp_path)
    shutil.copytree(tmp_path / "base", tmp_path / "restored")
    entry = roll_back(tmp_path / "candidate", tmp_path / "restored")
    assert roll_back(tmp_path / "candidate", tmp_path / "restored") == entry
    entries = Ledger.beside(tmp_path / "base").entries()
    assert [one.action for one in entries] == ["trained", "updated", "rolled back"]


def test_a_release_that_was_approved_again_is_rolled_back_again_and_that_is_recorded(tmp_path: Path) -> None:
    _, candidate = workspace(tmp_path)
    verdict, ledger = gated(tmp_path, candidate), Ledger.beside(tmp_path / "base")

    def actions() -> list[str]:
        return [one.action for one in ledger.entries()][3:]

    approve(tmp_path / "candidate", verdict, "Ada")
    roll_back(tmp_path / "candidate", tmp_path / "restored")
    approve(tmp_path / "candidate", verdict, "Ada")
    assert actions() == ["approved", "rolled back", "approved"]
    approve(tmp_path / "candidate", verdict, "Ada")
    roll_back(tmp_path / "candidate", tmp_path / "restored")
    roll_back(tmp_path / "candidate", tmp_path / "restored")
    assert actions() == ["approved", "rolled back", "approved", "rolled back"]
    assert verify(tmp_path).problems == ()
