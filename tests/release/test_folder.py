from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.release import Folder, folder
from perdure.release.folder import replace_file, sha256

MODULE = Path(folder.__file__)


def killed_while_writing(target: Path) -> None:
    """A process that is killed with one file written, by a signal that it cannot catch."""
    script = f"""
import importlib.util, os, pathlib, signal
spec = importlib.util.spec_from_file_location("folder", {str(MODULE)!r})
folder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(folder)
with folder.Folder.being_written(pathlib.Path({str(target)!r})) as temporary:
    (temporary / "weights").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9


def names(parent: Path) -> list[str]:
    return sorted(entry.name for entry in parent.iterdir())


def test_the_folder_appears_under_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "x"
    with Folder.being_written(target) as temporary:
        (temporary / "file").write_text("content")
        assert not target.exists()
    assert names(tmp_path / "new") == ["x"]
    assert (target / "file").read_text() == "content"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_error_nothing_is_left(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), Folder.being_written(tmp_path / "x") as temporary:  # noqa: PT012
        (temporary / "file").write_text("content")
        raise error
    assert names(tmp_path) == []


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    """The second to come took it for something that a killed process had left, and the first failed for want of it."""
    with Folder.being_written(tmp_path / "x") as first:
        (first / "a").write_text("first")
        with (
            pytest.raises(FileExistsError, match="x: another process is writing it"),
            Folder.being_written(tmp_path / "x"),
        ):
            pass
        with Folder.being_written(tmp_path / "y") as beside:
            (beside / "b").write_text("beside")
    assert (tmp_path / "x" / "a").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_what_another_process_made_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="x exists; nothing is overwritten"):  # noqa: SIM117, PT012
        with Folder.being_written(tmp_path / "x") as second:
            (second / "a").write_text("second")
            (tmp_path / "x").mkdir()
            (tmp_path / "x" / "a").write_text("first")
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x" / "a").read_text() == "first"


def test_a_folder_that_was_taken_for_one_that_was_left_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its lock."""

    def removed(*_: object) -> None:
        for unfinished in tmp_path.iterdir():
            unfinished.rmdir()

    monkeypatch.setattr(fcntl, "flock", removed)
    with pytest.raises(FileExistsError, match="another process is writing it"), Folder.being_written(tmp_path / "x"):
        raise AssertionError("written to")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_only_an_unfinished_folder_that_the_next_writer_removes(tmp_path: Path) -> None:
    killed_while_writing(tmp_path / "x")
    (left,) = names(tmp_path)
    assert re.fullmatch(r"\.x\.[0-9a-f]{12}\.unfinished", left)
    with Folder.being_written(tmp_path / "x") as temporary:
        (temporary / "weights").write_bytes(b"whole")
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x" / "weights").read_bytes() == b"whole"


@pytest.mark.parametrize(("mine", "other"), [("a", "a.b"), ("*", "b"), ("[ab]", "a"), ("a.b", "axb")])
def test_a_folder_that_is_being_written_under_another_name_is_left_alone(tmp_path: Path, mine: str, other: str) -> None:
    with Folder.being_written(tmp_path / other) as theirs:
        with Folder.being_written(tmp_path / mine):
            assert theirs.is_dir()
        (theirs / "file").write_text("content")
    assert names(tmp_path) == sorted([mine, other])


def test_a_file_that_is_being_written_beside_it_is_left_alone(tmp_path: Path) -> None:
    beside = tmp_path / ".x.json.0123456789ab.unfinished"
    beside.write_text("theirs")
    with Folder.being_written(tmp_path / "x"):
        pass
    assert beside.read_text() == "theirs"


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_exists_is_never_overwritten(tmp_path: Path, is_folder: bool) -> None:
    target = tmp_path / "x"
    if is_folder:
        target.mkdir()
    else:
        target.write_text("mine")
    with pytest.raises(FileExistsError, match="exists; nothing is overwritten"), Folder.being_written(target):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["x"]


def test_what_appears_meanwhile_is_not_overwritten_either(tmp_path: Path) -> None:
    target = tmp_path / "x"
    with pytest.raises(OSError), Folder.being_written(target) as temporary:  # noqa: PT011, PT012 - the system's error
        (temporary / "file").write_text("second")
        target.mkdir()
        (target / "file").write_text("first")
    assert names(tmp_path) == ["x"]
    assert (target / "file").read_text() == "first"


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    replace_file(file, b"first")
    replace_file(file, b"second")
    assert file.read_bytes() == b"second"
    assert names(file.parent) == ["file"]


def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file" / "inside").mkdir(parents=True)
    with pytest.raises(OSError):  # noqa: PT011 - the system's error
        replace_file(tmp_path / "file", b"content")
    assert names(tmp_path) == ["file"]


def test_the_hash_of_a_file_by_a_published_example(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1: SHA-256 of `abc`."""
    (tmp_path / "file").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "file") == expected


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_an_error_of_the_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The system names none where an open file cannot be written."""

    def fails(_: int) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "file").write_bytes(b"before")
    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        replace_file(tmp_path / "file", b"after")
    assert caught.value.filename == str(tmp_path / "file")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"before"


def test_a_file_can_be_for_its_owner_alone(tmp_path: Path) -> None:
    replace_file(tmp_path / "secret", b"x", mode=0o600)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_files_in_folders_of_a_folder_are_flushed_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []
    monkeypatch.setattr(
        "os.fsync", lambda descriptor: flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
    )
    with Folder.being_written(tmp_path / "bundle") as folder:
        (folder / "models").mkdir()
        (folder / "models" / "model.pt").write_bytes(b"weights")
    assert {"models", "model.pt"} <= set(flushed)
