"""Whatever a file holds, it is read or refused by name: no other error, no hang, no file outside, no memory run away.

`make fuzz` reads 100,000 inputs of each kind; here are a few of each, the same on every run.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from fuzz.run import fuzzed
from fuzz.targets import targets
from fuzz.watch import Watch
from perdure.errors import DataError


@pytest.mark.parametrize("name", sorted(targets()))
def test_hostile_files_are_read_or_refused_by_name(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fuzzed(name, inputs=60, limit=3)
    assert found["findings"] == {}
    # a fuzzer that hands out the same files would find nothing, and one whose files are all refused little
    assert found["different"] > found["inputs"] / 2 > 2


class TestWatch:
    """The watch itself sees what it is there for."""

    @pytest.fixture
    def watch(self, tmp_path: Path) -> Watch:
        return Watch(tmp_path)

    def test_success_and_refusal_are_no_findings(self, watch: Watch, tmp_path: Path) -> None:
        def refuses() -> None:
            raise DataError("no")

        (tmp_path / "inside").write_text("x")
        watch(lambda: None, b"")
        watch((tmp_path / "inside").read_bytes, b"")
        watch(refuses, b"")
        assert (watch.findings, watch.refused) == ({}, 1)

    def test_any_other_error_is_one(self, watch: Watch) -> None:
        def fails() -> None:
            raise KeyError("x")

        watch(fails, b"input")
        watch(fails, b"another")
        ((what, (count, first, said)),) = watch.findings.items()
        assert what.startswith("KeyError in ")
        assert (count, first, said) == (2, b"input", "'x'")

    def test_a_hang_is_one(self, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
        def hangs() -> None:
            while True:
                pass

        monkeypatch.setattr("fuzz.watch.SECONDS", 0.1)
        watch(hangs, b"")
        assert next(iter(watch.findings)).startswith("hang")

    def test_waiting_for_ever_is_one(self, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fuzz.watch.BLOCKED", 0.2)
        os.mkfifo(tmp_path / "pipe")
        watch((tmp_path / "pipe").read_bytes, b"")
        assert next(iter(watch.findings)).startswith("hang")

    def test_memory_is_one(self, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = iter([0, 2**31])
        monkeypatch.setattr("fuzz.watch._most_memory", lambda: next(sizes))
        watch(lambda: None, b"")
        assert watch.findings["memory"][2] == "2048 MiB more"

    def test_files_outside_processes_and_the_network_are(self, watch: Watch, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("/etc/hostname")
        watch(lambda: Path("/etc/hostname").read_bytes(), b"")
        watch((tmp_path / "link").read_bytes, b"")
        watch(lambda: (tmp_path.parent / "made").mkdir(), b"")
        watch(lambda: subprocess.run([sys.executable, "-c", ""], check=True), b"")
        with socket.socket() as one:
            watch(lambda: one.connect_ex(("127.0.0.1", 9)), b"")
        kinds = {what.split()[0] + " " + what.split()[1] for what in watch.findings}
        assert kinds >= {"read outside:", "os.mkdir outside:"}
        assert any(what.startswith("subprocess.Popen") for what in watch.findings)
        assert any(what.startswith("socket.connect") for what in watch.findings)
