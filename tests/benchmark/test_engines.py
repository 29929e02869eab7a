from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from perdure.benchmark.engines import ATTEMPTS, Dask, Local, local_workers
from perdure.errors import ConfigurationError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def work() -> Iterator[ModuleType]:
    """A module that spawned processes can import too: they take over `sys.path`."""
    sys.path.insert(0, str(HERE))
    try:
        yield importlib.import_module("work")
    finally:
        sys.path.remove(str(HERE))


def test_every_job_is_run_in_another_process(work: ModuleType, tmp_path: Path) -> None:
    jobs = [(str(tmp_path), f"job{number}") for number in range(5)]
    over = dict(Local(2).run(work.leaves_a_file, jobs))
    assert over == dict.fromkeys(jobs)
    pids = {(tmp_path / name).read_text() for _, name in jobs}
    assert str(os.getpid()) not in pids
    assert len(pids) <= 2


def test_a_job_that_fails_says_why_and_stops_no_other(work: ModuleType, tmp_path: Path) -> None:
    jobs = [(str(tmp_path), name) for name in ("bad", "good", "fine")]
    over = dict(Local(1).run(work.fails, jobs))
    assert over == {jobs[0]: "ValueError: this one is bad", jobs[1]: None, jobs[2]: None}


def test_a_process_that_dies_is_replaced_and_its_job_begun_again(work: ModuleType, tmp_path: Path) -> None:
    jobs = [(str(tmp_path), name) for name in ("mortal", "good", "doomed")]
    over = dict(Local(1).run(work.dies, jobs))
    assert over[jobs[0]] is None
    assert over[jobs[1]] is None
    assert f"its process died {ATTEMPTS} times" in str(over[jobs[2]])
    assert (tmp_path / "doomed.tries").read_text() == str(ATTEMPTS)


def test_no_job_is_no_work(work: ModuleType) -> None:
    assert list(Local(2).run(work.fails, [])) == []


def test_as_many_run_at_once_as_memory_allows() -> None:
    assert local_workers(memory=1e6) == 1
    assert 1 <= local_workers(memory=0.01) <= (os.cpu_count() or 1)


def test_a_scheduler_that_does_not_answer_is_said_so() -> None:
    with pytest.raises(ConfigurationError, match="no Dask scheduler answers there"):
        list(Dask("tcp://127.0.0.1:9").run(print, [("x",)]))
