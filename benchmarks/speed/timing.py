"""How long does one thing take as a share of another? Side by side in one process, in turns."""

from __future__ import annotations

import math
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Clock = Callable[[], float]

SHORTEST = 0.05
"""What is quicker, in seconds, is done several times a turn."""


def clock(device: str) -> Clock:
    """Seconds so far: processor time of this process with all its threads; on a card the time of day, once it is idle.

    Processor time, because a shared machine gives a process more or less of a core.
    """
    if device == "cpu":
        return time.process_time
    import torch

    def idle() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return idle


def as_a_command() -> None:
    """Has this process allocate memory as Perdure's commands do, whose speed that changes."""
    from perdure.cli.allocator import keep_memory

    keep_memory()


def several(work: Callable[[], object], times: int, now: Clock) -> list[float]:
    """Seconds of each of several calls, after a warm-up."""
    work()
    taken = []
    for _ in range(times):
        start = now()
        work()
        taken.append(now() - start)
    return taken


def of_children() -> float:
    """Processor time of the processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def side_by_side(
    works: Mapping[str, Callable[[], object]], repeats: int, now: Clock, *, long: bool = False
) -> dict[str, list[float]]:
    """Seconds a call of each, in turns: A B A B and so on, after a warm-up.

    Args:
        works: what is timed, by name.
        repeats: how many turns each has.
        now: see `clock`.
        long: each takes so long that it is neither warmed up here nor done more than once a turn.
    """
    calls = {name: 1 if long else _calls(work, now) for name, work in works.items()}
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            start = now()
            for _ in range(calls[name]):
                work()
            taken[name].append((now() - start) / calls[name])
    return taken


def _calls(work: Callable[[], object], now: Clock) -> int:
    start = now()
    work()
    if now() - start >= SHORTEST:
        return 1
    # the first call of all may have been slow for another reason
    start = now()
    work()
    return max(1, math.ceil(SHORTEST / max(now() - start, 1e-6)))


def over(taken: Sequence[float], other: Sequence[float]) -> list[float]:
    """The ratios, turn by turn: what slowed the machine down in a turn slowed both."""
    return [one / base for one, base in zip(taken, other, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The exponent k of y = c x^k, over the larger half of the points: at the smaller ones what is constant weighs."""
    points = sorted(zip(x, y, strict=True))[-max(3, (len(x) + 1) // 2) :]
    return statistics.linear_regression([math.log(a) for a, _ in points], [math.log(b) for _, b in points]).slope


class Memory:
    """How much memory a process took since this object was made, at the most, in MiB; on a card what torch held there.

    Args:
        device: `cpu` or `cuda`.
        mapped: whether pages of files that are mapped count too. Where they do not, the most is that of many looks, so
            that a peak of less than a millisecond may be missed.
    """

    def __init__(self, device: str, *, mapped: bool = True) -> None:
        self._device, self._mapped = device, mapped
        if device == "cpu" and CLEAR.exists():
            # what importing took at the most is no part of it
            CLEAR.write_text("5", encoding="utf-8")
        self._before = 0.0 if device == "cuda" else _resident("VmRSS" if mapped else "RssAnon")
        self._most, self._ended = self._before, threading.Event()
        if device == "cpu" and not mapped:
            threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._ended.wait(0.001):
            self._most = max(self._most, _resident("RssAnon"))

    def peak(self) -> float:
        """The most so far."""
        self._ended.set()
        if self._device == "cuda":
            import torch

            return torch.cuda.max_memory_allocated() / 2**20
        return max((_resident("VmHWM") if self._mapped else self._most) - self._before, LEAST)


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
LEAST = 0.1
"""MiB; less cannot be told from nothing."""


def _resident(what: str) -> float:
    if not STATUS.exists():
        # kilobytes, on a Mac bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    # not ru_maxrss, which Linux hands on from the process that started this one
    (line,) = (line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) / 1024


def alone(script: Path, what: str, *more: str) -> list[float]:
    """The numbers that a script prints as the answer to `--alone WHAT`, from a process of its own.

    Args:
        script: one of this folder.
        what: one of its `ALONE`.
        more: further words of its command line.
    """
    done = subprocess.run(
        [sys.executable, script, "--alone", what, *more], check=True, stdout=subprocess.PIPE, text=True
    )
    return [float(word) for word in done.stdout.split()[-1].split(",")]


def paired(script: Path, one: str, other: str, repeats: int, words: Sequence[str]) -> list[tuple[float, float]]:
    """The medians that two of a script's `ALONE` give, each in a process of its own, in turns."""
    return [
        (statistics.median(alone(script, one, *words)), statistics.median(alone(script, other, *words)))
        for _ in range(repeats)
    ]
