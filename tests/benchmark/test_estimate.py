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
