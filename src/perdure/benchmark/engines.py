"""Where cells run: processes of this machine, or workers of a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from perdure.errors import ConfigurationError

Job: TypeAlias = tuple[str, ...]
"""The arguments of one call, texts alone, so that they reach any machine."""

ATTEMPTS = 3
"""So often a job is begun whose process died."""
DIED = f"its process died {ATTEMPTS} times (out of memory?); run fewer at once (--workers), or give it more memory"


class Engine(Protocol):
    """Runs jobs somewhere."""

    def run(self, work: Callable[..., None], jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:
        """Runs every job, and yields each when it is over, with the reason where it failed."""
        ...


@dataclass(frozen=True)
class Local:
    """Processes of this machine, one thread each.

    Args:
        workers: how many at once.
    """

    workers: int

    def run(self, work: Callable[..., None], jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:  # noqa: D102
        waiting = list(reversed(jobs))
        begun: dict[Job, int] = {}
        while waiting:
            # a process that dies breaks the whole pool, so that it is made anew
            with _pool(self.workers) as pool:
                running: dict[Future[None], Job] = {}
                broken = False
                while running or (waiting and not broken):
                    while waiting and not broken and len(running) < self.workers:
                        job = waiting.pop()
                        begun[job] = begun.get(job, 0) + 1
                        running[pool.submit(work, *job)] = job
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        job = running.pop(future)
                        error = future.exception()
                        if isinstance(error, BrokenProcessPool):
                            broken = True
                            if begun[job] < ATTEMPTS:
                                waiting.append(job)
                                continue
                            yield job, DIED
                        else:
                            yield job, None if error is None else _reason(error)


@dataclass(frozen=True)
class Dask:
    """Workers of a Dask cluster that see the same folders.

    Args:
        address: of its scheduler, for example `tcp://host:8786`.
    """

    address: str

    def run(self, work: Callable[..., None], jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:  # noqa: D102
        try:
            from distributed import Client, as_completed
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "--engine dask: dask.distributed is not installed; install perdure[cluster]."
            ) from error
        try:
            client = Client(self.address, timeout=30)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"--address {self.address}: no Dask scheduler answers there: {error}.") from error
        with client:
            # impure, because what a job makes are files
            futures: dict[Any, Job] = {client.submit(work, *job, pure=False): job for job in jobs}
            for future in as_completed(futures):
                yield futures[future], None if future.status == "finished" else _reason(future.exception())


def local_workers(memory: float) -> int:
    """How many cells this machine can run at once.

    Args:
        memory: GiB that one of them needs at most.
    """
    import psutil

    cores = len(psutil.Process().cpu_affinity() or [0]) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count()
    return max(1, min(cores or 1, int(_free_memory() / (memory * 2**30))))


def _free_memory() -> float:
    """Bytes that may still be taken, within the limit of the control group where there is one."""
    import psutil

    free = float(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (most := limit.read_text().strip()) != "max":
        return min(free, float(most) - float(used.read_text()))
    return free


def _pool(workers: int) -> ProcessPoolExecutor:
    # spawned, because torch's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone; it would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _reason(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"
