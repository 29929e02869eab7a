from __future__ import annotations

import time

import pytest
import torch

from perdure.benchmark import estimate


def test_a_card_is_timed_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes what it is asked for and goes on alone: without waiting, a step would seem to cost nothing."""
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: clock.append(clock.pop() + 5.0))
    assert estimate._now("cuda") == 5.0
    assert estimate._now("cpu") == 5.0


def test_a_step_is_timed_on_one_thread_as_cells_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads on a busy machine wait for each other, and a grid of half an hour was said to take days."""
    threads = [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    with estimate.one_thread():
        assert threads[-1] == 1
    assert threads[-1] == 3
