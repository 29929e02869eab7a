"""How long a grid will take, before it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch.nn import functional

from perdure.benchmark.config import Settings
from perdure.benchmark.grid import cost
from perdure.benchmark.plan import Cell, Plan
from perdure.errors import NetworkError
from perdure.models import load_weights, training_mode

BATCH = 2
"""Samples in a step that is timed: batch norm needs two, and more would take longer to say the same."""
STEPS = 2
"""Training steps that are timed; the first of all is left out, as it allocates."""


def every_cell(plan: Plan, chosen: Mapping[tuple[str, str], Settings | None]) -> list[Cell]:
    """All cells of a plan.

    Args:
        plan: whose cells.
        chosen: by sequence and label what selection took; of rows that are not chosen yet, the final cells stand
            without settings.
    """
    return [*plan.bases(), *plan.trials(), *plan.finals(chosen)]


def seconds_a_sample(plan: Plan, base: str) -> float:
    """What one training step costs on this machine, for each sample of its batch, in seconds; it is tried.

    On one thread, as cells run: two that wait for each other on a busy machine can take a hundred times as long.

    Args:
        plan: whose network, contract and batch size.
        base: which base release's network.

    Raises:
        NetworkError: if the network cannot be built, its weights do not fit, or it does not take a training sample.
    """
    contract = plan.contract
    recipe = plan.config.train_recipe(base, contract, seed=0)
    model = plan.built(base).to(plan.device)
    if plan.weights is not None:
        load_weights(model, plan.weights, replace_head=True)
    batch = min(BATCH, recipe.batch_size)
    inputs = torch.rand(batch, contract.channels, *contract.size, device=plan.device)
    taken = []
    with one_thread(), training_mode(model, "target"):
        for _ in range(1 + STEPS):
            started = _now(plan.device)
            try:
                output = model(inputs)
                target = torch.zeros(output.shape[:1] + output.shape[2:], dtype=torch.long, device=plan.device)
                functional.cross_entropy(output, target).backward()
            except (RuntimeError, ValueError, IndexError) as error:
                size = " x ".join(map(str, contract.size))
                raise NetworkError(
                    f"Network '{plan.network(base).factory}' does not take a training sample, {contract.channels} "
                    f"channel(s) of {size} pixels: {error}."
                ) from error
            taken.append(_now(plan.device) - started)
    return min(taken[1:]) / batch


@contextmanager
def one_thread() -> Iterator[None]:
    """Has torch compute on one thread inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _now(device: str) -> float:
    """The clock once the device has done all that it was asked to; a card is asked and not waited for."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def estimated_seconds(plan: Plan, cells: Sequence[Cell], a_sample: Mapping[str, float], workers: int) -> float:
    """How long cells will take together, in seconds.

    Args:
        plan: whose cells.
        cells: which.
        a_sample: by base release what `seconds_a_sample` found.
        workers: how many run at once.
    """
    return sum(cost(plan, cell) * a_sample[cell.base] for cell in cells) / workers
