"""Where cells run: processes of this machine, or workers of a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from typing import Any, Protocol, TypeAlias

from perdure.errors import ConfigurationError

Job: TypeAlias = tuple[str, ...]
"""The arguments of one call, texts alone, so that they reach any machine."""

ATTEMPTS = 3
"""So often a job is begun whose process died."""
ANSWER, WAIT = 30, 60
"""Seconds in which the scheduler of a cluster has to answer, and its first worker has to be there."""

DIED = f"its process died {ATTEMPTS} times (out of memory?); run fewer at once (--workers), or give it more memory"
CARDS = "CUDA_VISIBLE_DEVICES"
CANCELLED = (
    "it was cancelled: by someone, or because the scheduler was restarted or lost; the same command begins it again"
)


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
        device: with `cuda`, they take turns at the cards of this machine, and each sees one alone.
    """

    workers: int
    device: str = "cpu"

    def run(self, work: Callable[..., None], jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:  # noqa: D102
        waiting = deque(jobs)
        deaths: Counter[Job] = Counter()
        # a pool for each process: one that dies breaks its whole pool, and so it is known whose job it was
        free: list[tuple[str | None, ProcessPoolExecutor | None]] = [(card, None) for card in self._cards()]
        running: dict[Future[None], tuple[Job, str | None, ProcessPoolExecutor]] = {}
        with ExitStack() as pools:
            while waiting or running:
                while waiting and free:
                    card, pool = free.pop()
                    pool = pool or pools.enter_context(_process(card))
                    try:
                        future = pool.submit(work, *waiting[0])
                    except BrokenProcessPool:  # it died after its last job
                        free.append((card, None))
                        continue
                    running[future] = waiting.popleft(), card, pool
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    job, card, pool = running.pop(future)
                    error = future.exception()
                    if not isinstance(error, BrokenProcessPool):
                        free.append((card, pool))
                        yield job, None if error is None else _reason(error)
                        continue
                    free.append((card, None))
                    deaths[job] += 1
                    if deaths[job] == ATTEMPTS:
                        yield job, DIED
                    else:
                        # after the others: fewer run at once then, and leave it more memory
                        waiting.append(job)

    def _cards(self) -> list[str | None]:
        """For each process the card that it sees; None leaves it what this one sees."""
        cards: list[str | None] = [None]
        if self.device == "cuda":
            import torch

            seen = os.environ.get(CARDS)
            cards = (
                [*seen.split(",")] if seen else [str(number) for number in range(torch.cuda.device_count())] or cards
            )
        return [cards[number % len(cards)] for number in range(self.workers)]


@dataclass(frozen=True)
class Dask:
    """Workers of a Dask cluster that see the same folders, of one thread each.

    Args:
        address: of its scheduler, for example `tcp://host:8786`.
    """

    address: str

    def run(self, work: Callable[..., None], jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:  # noqa: D102
        if not jobs:
            return
        try:
            from distributed import Client, as_completed
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "--engine dask: dask.distributed is not installed; install perdure[cluster]."
            ) from error
        try:
            client = Client(self.address, timeout=ANSWER)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"--address {self.address}: no Dask scheduler answers there: {error}.") from error
        with client:
            self._check_workers(client)
            # impure, because what a job makes are files
            futures: dict[Any, Job] = {client.submit(_alone, work, *job, pure=False): job for job in jobs}
            for future in as_completed(futures):
                # a worker that joined meanwhile; work is begun where nothing else runs, or not at all
                if isinstance(found := future.exception(), _NotAloneError):
                    raise self._refused(str(found))
                reason = _reason_of(future)
                # or it would be done anew when its worker is lost later
                future.release()
                yield futures[future], reason

    def _check_workers(self, client: Any) -> None:
        try:
            client.wait_for_workers(1, timeout=WAIT)
        except TimeoutError as error:
            raise ConfigurationError(
                f"--address {self.address}: no worker joined this scheduler within {WAIT} s; start them first, "
                f"for example with: dask worker {self.address} --nthreads 1."
            ) from error
        # torch's random numbers are the process's: two cells in one process would take each other's
        if wrong := {worker: threads for worker, threads in client.nthreads().items() if threads != 1}:
            raise self._refused(", ".join(f"{worker} has {threads}" for worker, threads in wrong.items()))

    def _refused(self, listed: str) -> ConfigurationError:
        return ConfigurationError(
            f"--address {self.address}: workers must have one thread each, or results change; {listed}. Start them "
            f"with: dask worker {self.address} --nthreads 1. What is finished is kept; the same command goes on."
        )


def local_workers(memory: float, device: str = "cpu") -> int:
    """How many cells this machine can run at once: as many as cores and free memory allow, or one a card.

    Args:
        memory: GiB that one of them needs at most.
        device: `cpu` or `cuda`.
    """
    if device == "cuda":
        import torch

        return max(1, torch.cuda.device_count())
    import psutil

    from perdure.update.shortage import free_memory

    cores = len(psutil.Process().cpu_affinity() or [0]) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count()
    return max(1, min(cores or 1, int(free_memory() / (memory * 2**30))))


def _process(card: str | None) -> ProcessPoolExecutor:
    # spawned, because torch's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(card,))


def _begin(card: str | None) -> None:
    """Chooses the card before CUDA is first used; ends this process when the one that started it is gone.

    It would wait for work forever.
    """
    if card is not None:
        os.environ[CARDS] = card
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _NotAloneError(Exception):
    """Says which worker has several threads."""


def _alone(work: Callable[..., None], *job: str) -> None:
    """Does a job in a worker of one thread, and begins none in another."""
    from distributed import get_worker

    worker = get_worker()
    if worker.state.nthreads != 1:
        raise _NotAloneError(f"{worker.address} has {worker.state.nthreads}")
    work(*job)


def _reason_of(future: Any) -> str | None:
    """Why a Dask future that is over failed."""
    # where the worker was lost after the job had finished, it waits until the job is done again
    error = future.exception()
    if future.cancelled():
        return CANCELLED
    return None if error is None else _reason(error)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
