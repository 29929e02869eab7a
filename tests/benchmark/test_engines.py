from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from distributed import Client, LocalCluster, Worker

from perdure.benchmark import engines
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


def test_a_process_that_dies_costs_no_other_job_an_attempt(work: ModuleType, tmp_path: Path) -> None:
    jobs = [(str(tmp_path), name) for name in ("doomed", "long")]
    over = {}
    for job, reason in Local(2).run(work.dies_beside_another, jobs):
        over[job] = reason
        (tmp_path / "over").touch()
    assert f"its process died {ATTEMPTS} times" in str(over[jobs[0]])
    assert over[jobs[1]] is None
    assert (tmp_path / "doomed.tries").read_text() == str(ATTEMPTS)
    assert (tmp_path / "long.tries").read_text() == "1"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_dies_while_nobody_looks_ends_nothing(work: ModuleType, tmp_path: Path, workers: int) -> None:
    jobs = [(str(tmp_path), f"job{number}") for number in range(3)]
    over = {}
    for job, reason in Local(workers).run(work.dies_afterwards, jobs):
        over[job] = reason
        time.sleep(0.6)
    assert over == dict.fromkeys(jobs)


def test_processes_take_turns_at_the_cards(work: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    jobs = [(str(tmp_path), f"job{number}") for number in range(2)]
    assert dict(Local(2, "cuda").run(work.leaves_its_card, jobs)) == dict.fromkeys(jobs)
    assert {(tmp_path / name).read_text() for _, name in jobs} == {"4", "7"}


def test_no_job_is_no_work(work: ModuleType) -> None:
    assert list(Local(2).run(work.fails, [])) == []
    assert list(Dask("tcp://127.0.0.1:9").run(work.fails, [])) == []


def test_as_many_run_at_once_as_memory_allows() -> None:
    assert local_workers(memory=1e6) == 1
    assert 1 <= local_workers(memory=0.01) <= (os.cpu_count() or 1)


def test_one_runs_on_each_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert local_workers(memory=1e6, device="cuda") == 3


def test_a_scheduler_that_does_not_answer_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "ANSWER", 0.5)
    with pytest.raises(ConfigurationError, match="no Dask scheduler answers there"):
        list(Dask("tcp://127.0.0.1:9").run(print, [("x",)]))


@contextmanager
def cluster(workers: int, threads: int = 1) -> Iterator[tuple[LocalCluster, Client]]:
    """In threads of this process."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as made,
        Client(made) as client,
    ):
        yield made, client


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.01)


def test_workers_of_several_threads_are_refused(work: ModuleType, tmp_path: Path) -> None:
    """Cells of one process would share torch's random numbers."""
    with cluster(1, threads=2) as (made, _), pytest.raises(ConfigurationError, match="has 2.*--nthreads 1"):
        list(Dask(made.scheduler_address).run(work.leaves_a_file, [(str(tmp_path), "job")]))
    assert not list(tmp_path.iterdir())


def test_a_worker_of_several_threads_that_joins_later_is_given_no_work(work: ModuleType, tmp_path: Path) -> None:
    jobs = [(str(tmp_path), name) for name in ("short", "long", "other")]
    with cluster(1) as (made, _):
        run = Dask(made.scheduler_address).run(work.waits, jobs)
        assert next(run) == (jobs[0], None)
        until((tmp_path / "long").exists)

        async def join() -> Worker:
            return await Worker(made.scheduler_address, nthreads=2, dashboard_address="127.0.0.1:0")

        late = made.sync(join)
        try:
            with pytest.raises(ConfigurationError, match="has 2.*--nthreads 1.*goes on"):
                next(run)
        finally:
            (tmp_path / "over").touch()
            made.sync(late.close)
    assert not (tmp_path / "other").exists()


def test_a_cluster_without_workers_is_said_so(work: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "WAIT", 0.5)
    with cluster(0) as (made, _), pytest.raises(ConfigurationError, match="no worker joined this scheduler"):
        list(Dask(made.scheduler_address).run(work.fails, [("", "bad")]))


def test_a_job_that_someone_cancels_says_so(work: ModuleType, tmp_path: Path) -> None:
    jobs = [(str(tmp_path), name) for name in ("short", "long")]
    with cluster(1) as (made, client):
        over = {}
        for job, reason in Dask(made.scheduler_address).run(work.waits, jobs):
            over[job] = reason
            if job == jobs[0]:
                until((tmp_path / "long").exists)
                client.restart(wait_for_workers=False)
                (tmp_path / "over").touch()
    assert over == {jobs[0]: None, jobs[1]: engines.CANCELLED}


def test_a_job_whose_worker_is_lost_after_it_is_done(work: ModuleType, tmp_path: Path) -> None:
    """Is done: one that was told of is not begun again, and one that was not is told of as done."""
    jobs = [(str(tmp_path), f"job{number}") for number in range(2)]
    with cluster(1) as (made, client):
        run = Dask(made.scheduler_address).run(work.waits, jobs)
        over = dict([next(run)])
        until(lambda: not any(client.processing().values()))
        made.scale(2)
        client.wait_for_workers(2)
        lost = made.workers[0].address

        async def lose(dask_scheduler: Any) -> None:
            await dask_scheduler.remove_worker(lost, stimulus_id="test", expected=False)

        client.run_on_scheduler(lose)
        over.update(run)
    assert over == dict.fromkeys(jobs)
    assert {(tmp_path / name).read_text() for _, name in jobs} == {"x", "xx"}
