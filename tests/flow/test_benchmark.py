"""A grid ends with the same table wherever its cells ran, and however often it was stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from distributed import Client

import synthetic
from command import in_a_process_of_its_own
from perdure.benchmark.record import Record

GRID = """
name = "grid"
seeds = [0, 1]
memory = 0.5
[data]
folder = "data"
size = 16
[sequences]
there = ["a", "b", "c"]
back = ["b", "a"]
[network]
arguments = { filters = 2, kernel_size = 3 }
[train]
epochs = 1
[update]
epochs = 1
[[methods]]
method = "no-update"
role = "control"
[[methods]]
method = "ewc"
search = { strength = [1.0, 10.0], retain = [0.0, 0.5] }
[[methods]]
method = "joint"
role = "control"
[[methods]]
label = "fails"
[methods.compose]
importance = { measure = "mas" }
# no explicit step is stable under such a penalty, which shows when training begins
regularizer = { form = "surrogate-loss", strength = 1e12, step = "explicit" }
"""
SOME_FAILED = 6


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    synthetic.write_images(folder / "data", domains=("a", "b", "c"), cases=(2, 1, 2))
    (folder / "grid.toml").write_text(GRID)
    return folder / "grid.toml"


def words(config: Path, out: Path, *more: object) -> list[str]:
    return ["benchmark", str(config), "--out", str(out), "--cache", str(config.parent / "cache"), *map(str, more)]


@pytest.fixture(scope="module")
def alone(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid that nothing disturbed."""
    out = tmp_path_factory.mktemp("alone")
    ended = in_a_process_of_its_own(*words(config, out, "--workers", 2))
    assert ended.code == SOME_FAILED, ended.err
    assert "fails, seed 0: failed: MethodError" in ended.err
    return out


def same(found: Path, expected: Path) -> None:
    """Every score is the same, and so is all that was chosen and that failed."""
    left, right = (Record.read(folder / "records.parquet") for folder in (found, expected))
    assert left.table.equals(right.table)
    assert [one.model_copy(update={"made": ""}) for one in left.header.choices] == [
        one.model_copy(update={"made": ""}) for one in right.header.choices
    ]
    assert [cell.status for cell in left.header.cells] == [cell.status for cell in right.header.cells]


def test_every_cell_is_scored_once_or_says_why_not(alone: Path) -> None:
    record = Record.read(alone / "records.parquet")
    cells = {(cell.label, cell.status) for cell in record.header.cells}
    assert cells == {("no-update", "done"), ("ewc", "done"), ("joint", "done"), ("fails", "failed")}
    # stages x domains x seeds: 3 x 3 and 2 x 2, for each of three rows, two seeds, two test cases, two structures
    assert len(record.table) == (9 + 4) * 3 * 2 * 2 * 2
    assert record.header.reads["repeated"] == 0
    failures = json.loads((alone / "failures.json").read_text())
    assert len(failures) == 4
    assert all("explicit" in why for why in failures.values())


def test_test_cases_are_scored_after_everything_was_chosen(alone: Path) -> None:
    """And trials know nothing but validation cases of the first two domains."""
    reads = [json.loads(line) for line in (alone / "reads.jsonl").read_text().splitlines() if line]
    chosen = max(one["made"] for one in json.loads((alone / "selection.json").read_text())["choices"])
    assert {read["split"] for read in reads} == {"val", "test"}
    assert all(read["at"] >= chosen for read in reads if read["split"] == "test")
    assert all(read["cell"].startswith("final") for read in reads if read["split"] == "test")
    trials = [read for read in reads if read["cell"].startswith("trial")]
    assert {read["split"] for read in trials} == {"val"}
    assert {read["domain"] for read in trials if ", there," in read["cell"]} <= {"a", "b"}


def test_the_same_command_does_nothing_twice(config: Path, alone: Path) -> None:
    before = sorted((alone / "releases").iterdir()), (alone / "reads.jsonl").read_bytes()
    dates = {path: path.stat().st_mtime_ns for path in before[0]}
    assert in_a_process_of_its_own(*words(config, alone)).code == SOME_FAILED
    assert (sorted((alone / "releases").iterdir()), (alone / "reads.jsonl").read_bytes()) == before
    assert {path: path.stat().st_mtime_ns for path in before[0]} == dates


def test_a_grid_killed_three_times_ends_as_one_left_alone(config: Path, alone: Path, tmp_path: Path) -> None:
    moment = random.Random(0)
    cells = Path(sys.executable).with_name("perdure")
    for _ in range(3):
        run = subprocess.Popen([cells, *words(config, tmp_path, "--workers", 2)], stderr=subprocess.DEVNULL)
        began, had = time.monotonic(), finished(tmp_path)
        # not before it has done something, and a random while later
        until(lambda had=had: finished(tmp_path) > had, run)
        time.sleep(moment.uniform(0, 2))
        assert run.poll() is None, f"it ended within {time.monotonic() - began:.0f} s: make the grid larger"
        run.kill()
        run.wait()
    ended = in_a_process_of_its_own(*words(config, tmp_path, "--workers", 2))
    assert ended.code == SOME_FAILED, ended.err
    same(tmp_path, alone)


def finished(out: Path) -> int:
    """How many cells are done."""
    return len(list(out.glob("cells/*/*/record.json")))


def until(holds: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not holds() and process.poll() is None:
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers on loopback: its address and the workers."""
    file = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    python = [sys.executable, "-m"]
    # a process that is killed fails its task, as it would on a machine that is lost
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3"}
    where = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    scheduler = subprocess.Popen([*python, "distributed.cli.dask_scheduler", *where], env=environment, **quiet)
    until(file.exists, scheduler)
    one = ["--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
    workers = [
        subprocess.Popen(
            [*python, "distributed.cli.dask_worker", *one, "--name", f"w{number}"], env=environment, **quiet
        )
        for number in range(2)
    ]
    try:
        yield json.loads(file.read_text())["address"], workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def kill_at_work(worker: subprocess.Popen[bytes], name: str, address: str) -> None:
    """Kills a worker in the middle of a cell: it is stopped before the scheduler is asked what it has to do."""
    with Client(address) as client:
        listed = client.scheduler_info(n_workers=-1)["workers"].items()
        (place,) = (place for place, about in listed if about["name"] == name)
        end = time.monotonic() + 120
        while True:
            worker.send_signal(signal.SIGSTOP)
            # what it said before has arrived by then
            time.sleep(0.5)
            if client.processing()[place]:
                break
            assert time.monotonic() < end, "it never has anything to do"
            worker.send_signal(signal.SIGCONT)
            time.sleep(0.2)
        worker.kill()


@pytest.mark.parametrize("dies", [False, True])
def test_a_cluster_gives_the_same_table_also_if_a_worker_dies(
    dies: bool, config: Path, alone: Path, tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, workers = cluster
    out = tmp_path / "out"
    run = subprocess.Popen(
        [Path(sys.executable).with_name("perdure"), *words(config, out, "--engine", "dask", "--address", address)],
        stderr=subprocess.PIPE,
    )
    if dies:
        until(lambda: finished(out) >= 3, run)
        kill_at_work(workers[0], "w0", address)
    _, errors = run.communicate(timeout=400)
    assert run.returncode == SOME_FAILED, errors.decode()
    same(out, alone)


def test_rows_that_join_later_leave_the_others_as_they_are(config: Path, alone: Path, tmp_path: Path) -> None:
    """A copy of the grid with one row more, that needs another importance: nothing of the old rows is made again."""
    more = tmp_path / "grid.toml"
    more.write_text(GRID + '[[methods]]\nmethod = "mas-lr"\n')
    bases = sorted((alone / "releases").glob("base-plain-*-seed?-??????????"))
    assert len(bases) == 4
    before = Record.read(alone / "records.parquet").table
    count = finished(alone)
    assert in_a_process_of_its_own(*words(more, alone, "--data", config.parent / "data")).code == SOME_FAILED
    after = Record.read(alone / "records.parquet").table
    assert after.filter(pl.col("label") != "mas-lr").equals(before)
    assert finished(alone) == count + 4
    assert sorted((alone / "releases").glob("base-plain-*-seed?-??????????")) == bases
