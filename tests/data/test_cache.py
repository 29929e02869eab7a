"""Entries are whole or absent, whatever happens to a process or a disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from perdure.data.cache import Cache, default_folder
from perdure.errors import DataError

ARRAYS = {"image": np.arange(5000, dtype=np.float32).reshape(50, 100), "target": np.ones(7, np.uint8)}


class Builder:
    """Builds `ARRAYS`, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        self.calls += 1
        return ARRAYS, {"grid": [1, 2]}


def test_what_was_built_once_is_read_afterwards(tmp_path: Path) -> None:
    build = Builder()
    for _ in range(2):
        entry = Cache(tmp_path / "cache").entry("k", build)
        np.testing.assert_array_equal(entry.array("image"), ARRAYS["image"])
        assert entry.array("target").dtype == np.uint8
        assert entry.notes == {"grid": [1, 2]}
    assert build.calls == 1
    assert list((tmp_path / "cache" / "building").iterdir()) == []


def test_arrays_are_mapped_and_writing_into_one_changes_nothing_on_disk(tmp_path: Path) -> None:
    entry = Cache(tmp_path).entry("k", Builder())
    array = entry.array("image")
    assert isinstance(array, np.memmap)
    array[0] = -1
    np.testing.assert_array_equal(entry.array("image"), ARRAYS["image"])


@pytest.mark.parametrize("file", ["image.npy", "target.npy", "entry.json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "overwritten"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, file: str, damage: str) -> None:
    build = Builder()
    path = Cache(tmp_path).entry("k", build).folder / file
    content = path.read_bytes()
    path.unlink()
    if damage != "removed":
        damaged = {"cut": content[:-1], "emptied": b"", "overwritten": b"\0" * 40 + content[40:]}[damage]
        path.write_bytes(damaged)
    entry = Cache(tmp_path).entry("k", build)
    assert build.calls == 2
    np.testing.assert_array_equal(entry.array("image"), ARRAYS["image"])
    assert list((tmp_path / "building").iterdir()) == []


@pytest.mark.parametrize("place", [200, 5000, -1])
def test_an_entry_with_one_bit_that_flipped_is_built_again(tmp_path: Path, place: int) -> None:
    """A network would be trained on it otherwise, and nobody would see it."""
    build = Builder()
    path = Cache(tmp_path).entry("k", build).folder / "image.npy"
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    np.testing.assert_array_equal(Cache(tmp_path).entry("k", build).array("image"), ARRAYS["image"])
    assert build.calls == 2


def test_changed_notes_are_damage(tmp_path: Path) -> None:
    build = Builder()
    path = Cache(tmp_path).entry("k", build).folder / "entry.json"
    outer = json.loads(path.read_text())
    outer["body"] = outer["body"].replace('"grid": [1, 2]', '"grid": [2, 1]')
    path.write_text(json.dumps(outer))
    assert Cache(tmp_path).entry("k", build).notes == {"grid": [1, 2]}


def test_a_failure_while_building_leaves_nothing(tmp_path: Path) -> None:
    def build() -> tuple[dict[str, np.ndarray], dict[str, object]]:
        return {"image": ARRAYS["image"], "bad": np.array([object()])}, {}

    with pytest.raises(ValueError, match="Object arrays"):
        Cache(tmp_path).entry("k", build)
    assert list((tmp_path / "building").iterdir()) == []
    assert list((tmp_path / "entries").iterdir()) == []


def test_a_folder_that_another_process_cleared_away_meanwhile_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine's clock may be a day ahead, and what is being written then looks given up."""
    cache, save, cleared = Cache(tmp_path), np.save, []

    def saved(file: object, array: np.ndarray, **more: object) -> None:
        save(file, array, **more)
        if not cleared:
            (folder,) = (tmp_path / "building").iterdir()
            shutil.rmtree(folder)
            cleared.append(folder)

    monkeypatch.setattr("numpy.save", saved)
    np.testing.assert_array_equal(cache.entry("k", Builder()).array("image"), ARRAYS["image"])
    assert len(cleared) == 1


@pytest.mark.parametrize("what", ["numpy.save", "os.fsync", "pathlib.Path.mkdir", "pathlib.Path.rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_cache_that_cannot_be_written_says_so_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, number: int
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    cache = Cache(tmp_path)
    before = cache.entry("before", Builder())
    with monkeypatch.context() as patch:
        patch.setattr(what, fails)
        with pytest.raises(
            DataError, match=rf"{tmp_path}: the cache .* cannot be written \({os.strerror(number)}.*--cache"
        ):
            cache.entry("k", Builder())
    np.testing.assert_array_equal(before.array("image"), ARRAYS["image"])
    assert cache.entry("k", Builder()).array("target").sum() == 7


def test_a_folder_that_cannot_be_made_into_a_cache_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/cache: the cache .* cannot be written"):
        Cache(tmp_path / "file" / "cache")


def test_an_entry_that_cannot_be_kept_is_an_error_and_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    monkeypatch.setattr("perdure.data.cache._opened", lambda folder: None)
    with pytest.raises(DataError, match=r"entries/k: a cache entry cannot be read back.*disk full"):
        cache.entry("k", Builder())


PROGRAM = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from perdure.data.cache import Cache

folder, mode = sys.argv[1:]
def build():
    # both processes are in here before either goes on
    (Path(folder) / f"here-{os.getpid()}").touch()
    while mode == "race" and len(list(Path(folder).glob("here-*"))) < 2:
        time.sleep(0.005)
    arrays = {"image": np.arange(5000, dtype=np.float32).reshape(50, 100), "target": np.ones(7, np.uint8)}
    return arrays, {"grid": [1, 2]}

if mode == "killed":
    save = np.save
    def die(file, array, **more):
        if array.ndim == 1:  # the second array: the first is written already
            os.kill(os.getpid(), signal.SIGKILL)
        save(file, array, **more)
    np.save = die
print(Cache(Path(folder) / "cache").entry("k", build).array("image").sum())
"""


def start(folder: Path, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), mode], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_at_once_both_get_the_entry(tmp_path: Path) -> None:
    processes = [start(tmp_path, "race") for _ in range(2)]
    for process in processes:
        printed, complaints = process.communicate(timeout=60)
        assert (process.returncode, float(printed)) == (0, ARRAYS["image"].sum()), complaints
    assert [path.name for path in (tmp_path / "cache" / "entries").iterdir()] == ["k"]
    assert list((tmp_path / "cache" / "building").iterdir()) == []


def test_a_process_killed_while_writing_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    process = start(tmp_path, "killed")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    building = list((tmp_path / "cache" / "building").iterdir())
    assert len(building) == 1
    assert (building[0] / "image.npy").exists()
    build = Builder()
    np.testing.assert_array_equal(Cache(tmp_path / "cache").entry("k", build).array("image"), ARRAYS["image"])
    assert build.calls == 1

    yesterday = time.time() - 25 * 60 * 60
    os.utime(building[0], (yesterday, yesterday))
    Cache(tmp_path / "cache")
    assert not building[0].exists()


def test_it_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    entry = cache.entry("k", Builder())
    for folder in (cache.folder, entry.folder, entry.folder.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_default_folder_is_where_the_desktop_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "perdure"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder() == tmp_path / "home" / ".cache" / "perdure"
    assert Cache().folder.is_dir()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written a moment ago count as if it had been a while ago."""
    monkeypatch.setattr("perdure.data.cache._SETTLED", -1)


@pytest.mark.usefixtures("settled")
def test_a_file_is_hashed_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "scan.nii"
    file.write_bytes(b"one")
    cache = Cache(tmp_path / "cache")
    # printf one | sha256sum
    first = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    assert cache.sha256(file) == first
    with monkeypatch.context() as patched:
        patched.setattr("hashlib.file_digest", None)
        assert Cache(tmp_path / "cache").sha256(file) == first
    file.write_bytes(b"two")
    assert cache.sha256(file) != first


def test_a_file_that_was_just_written_is_hashed_again(tmp_path: Path) -> None:
    """Its content may change within the resolution of its time, as here, where the time is set back."""
    file, cache = tmp_path / "scan.nii", Cache(tmp_path / "cache")
    file.write_bytes(b"one")
    times = file.stat()
    first = cache.sha256(file)
    with file.open("r+b") as same:
        same.write(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert cache.sha256(file) != first


@pytest.mark.usefixtures("settled")
def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_hashed_again(tmp_path: Path) -> None:
    """As `rsync --inplace --times` and `cp --preserve` do it: the file stays the same, and only its content changes."""
    file, cache = tmp_path / "label.nii", Cache(tmp_path / "cache")
    file.write_bytes(b"one")
    times, first = file.stat(), cache.sha256(file)
    with file.open("r+b") as same:
        same.write(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (times.st_mtime_ns, times.st_ino)
    assert cache.sha256(file) != first


@pytest.mark.usefixtures("settled")
def test_a_memo_with_a_bit_that_flipped_is_not_believed(tmp_path: Path) -> None:
    """Its digest would go into a release."""
    file, cache = tmp_path / "scan.nii", Cache(tmp_path / "cache")
    file.write_bytes(b"one")
    digest = cache.sha256(file)
    (memo,) = (tmp_path / "cache" / "hashes").iterdir()
    memo.write_text(memo.read_text().replace(digest, digest[:-1] + ("0" if digest[-1] != "0" else "1")))
    assert cache.sha256(file) == digest


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("content", ["", "{", "[]", '{"stamp": 1}', "null", "[" * 5000])
def test_a_damaged_memo_is_ignored(tmp_path: Path, content: str) -> None:
    file, cache = tmp_path / "scan.nii", Cache(tmp_path / "cache")
    file.write_bytes(b"one")
    digest = cache.sha256(file)
    (memo,) = (tmp_path / "cache" / "hashes").iterdir()
    memo.write_text(content)
    assert cache.sha256(file) == digest


def test_passed_checks_are_remembered(tmp_path: Path) -> None:
    assert not Cache(tmp_path).has_passed("k")
    Cache(tmp_path).remember_passed("k")
    assert Cache(tmp_path).has_passed("k")


def test_the_hash_of_a_series_is_that_of_its_files_by_name(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "b").write_bytes(b"2")
    (tmp_path / "s" / "a").write_bytes(b"1")
    (tmp_path / "s" / ".hidden").write_bytes(b"3")
    both = " ".join(hashlib.sha256(content).hexdigest() for content in (b"1", b"2"))
    cache = Cache(tmp_path / "cache")
    assert cache.sha256(tmp_path / "s") == hashlib.sha256(both.encode()).hexdigest()
    (tmp_path / "s" / "a").write_bytes(b"other")
    assert cache.sha256(tmp_path / "s") != hashlib.sha256(both.encode()).hexdigest()
