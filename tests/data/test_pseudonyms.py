"""A salt is there whole, or not at all."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

import pytest

from perdure.data.pseudonyms import new_salt, read_salt


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full when a file is flushed; the system then names none."""

    def flushed(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", flushed)


def test_a_new_salt_is_the_one_that_is_read_and_its_owner_alone_can_read_it(tmp_path: Path) -> None:
    assert new_salt(tmp_path / "salt") == read_salt(tmp_path / "salt")
    assert (tmp_path / "salt").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["salt"]


@pytest.mark.usefixtures("full")
def test_a_salt_that_cannot_be_written_leaves_no_part_of_it_and_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="salt") as caught:
        new_salt(tmp_path / "salt")
    assert Path(caught.value.filename).parent == tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("has_links", [True, False])
def test_a_salt_that_another_process_made_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def refused(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", refused)
    salt = new_salt(tmp_path / "salt")
    with pytest.raises(FileExistsError) as caught:
        new_salt(tmp_path / "salt")
    assert caught.value.filename == str(tmp_path / "salt")
    assert read_salt(tmp_path / "salt") == salt
    assert [path.name for path in tmp_path.iterdir()] == ["salt"]


def test_a_disk_that_fails_when_the_folder_is_flushed_is_told_with_the_salt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flushed(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "salt"))):
        new_salt(tmp_path / "salt")
