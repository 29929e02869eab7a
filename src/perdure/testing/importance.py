"""What must hold of any measure of importance."""

from __future__ import annotations

import copy
import io
import json
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from perdure.importance import Importance, measure_from
from perdure.testing.claims import Claims, differing, everything, require, same
from perdure.testing.domain import tiny_domain, tiny_network

if TYPE_CHECKING:
    from perdure.types import Batch, ParamDict, SumOverProcesses

IMPORTANCE: Claims[ImportanceCase] = Claims("Importance")
"""The claims that `check_importance` checks."""

TOLERANCE = 1e-5
STEPS = 3


@dataclass(frozen=True)
class ImportanceCase:
    """A measure, and what it is tried on.

    Args:
        measure: the measure.
        model: after it has learnt something; never changed.
        inputs: `(samples, channels, *spatial)`, at least 2.
        target: the classes, `(samples,)` or `(samples, *spatial)`.
    """

    measure: Importance
    model: nn.Module
    inputs: Tensor
    target: Tensor

    @cached_property
    def trained(self) -> tuple[nn.Module, dict[str, Any]]:
        """A copy after a few more steps, and what the measure gathered on the way."""
        model = copy.deepcopy(self.model)
        return model, self.descend(model)

    def descend(self, model: nn.Module, *, watched: bool = True, stopping: bool = False) -> dict[str, Any]:
        """A few steps of plain descent, and what the measure gathered on the way.

        Args:
            model: moved in place.
            watched: whether the measure watches.
            stopping: whether its state goes through a checkpoint after every step.
        """
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        state: dict[str, Any] = {}
        with ExitStack() as watch:
            for step in range(STEPS):
                if watched and (stopping or step == 0):
                    watch.enter_context(self.measure.watching(model, optimizer, state))
                torch.manual_seed(step)
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(self.inputs), self.target).backward()
                optimizer.step()
                if stopping:
                    watch.close()
                    state = _through_a_file(state)
        return state

    def estimate(
        self,
        model: nn.Module | None = None,
        batches: Collection[Batch] | None = None,
        sum_over_processes: SumOverProcesses | None = None,
    ) -> ParamDict:
        """The measure of the trained copy on all samples, unless said otherwise."""
        own, watched = self.trained
        more = {} if sum_over_processes is None else {"sum_over_processes": sum_over_processes}
        return self.measure.estimate(
            own if model is None else model,
            [(self.inputs, self.target)] if batches is None else batches,
            watched=watched,
            **more,
        )

    def split(self, size: int) -> list[Batch]:
        """The samples in batches."""
        return list(zip(self.inputs.split(size), self.target.split(size), strict=True))


def check_importance(
    measure: Importance,
    model: nn.Module | None = None,
    inputs: Tensor | None = None,
    target: Tensor | None = None,
    without: Collection[str] = (),
) -> None:
    """Checks all of `IMPORTANCE` for a measure.

    Args:
        measure: any measure.
        model: what it is tried on; a small classifier if left out. It is not changed.
        inputs: samples for the model, at least 2.
        target: their classes.
        without: claims that do not hold of it by intent.

    Raises:
        AssertionError: naming the claim that does not hold, and what was seen.
    """
    if model is None:
        domain = tiny_domain()
        model, (inputs, target) = tiny_network(), domain.samples("train")
    if inputs is None or target is None:
        raise TypeError("check_importance needs `inputs` and `target` for a model of yours.")
    IMPORTANCE.check(ImportanceCase(measure, copy.deepcopy(model), inputs, target), measure.key, without)


def _deviation(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest difference, as a share of the largest importance."""
    require(found.keys() == expected.keys(), f"parameters differ: {differing(found, expected)}")
    largest = max(float(value.abs().max()) for value in expected.values())
    differences = [float((found[name] - value).abs().max()) for name, value in expected.items()]
    return max(differences) / (largest or 1.0)


def _agrees(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    deviation = _deviation(found, expected)
    require(deviation <= TOLERANCE, f"{what} changes it by {deviation:.2g} of its largest value")


@IMPORTANCE("its settings are plain JSON, from which it is made again")
def _settings(case: ImportanceCase) -> None:
    measure = case.measure
    settings = measure.settings()
    require(json.loads(json.dumps(settings)) == settings, f"settings are {settings}")
    again = measure_from(settings, {measure.name: type(measure)})
    require(again == measure, f"made again it is {again}, and it was {measure}")
    require(again.key == measure.key, f"made again its key is {again.key!r}, and it was {measure.key!r}")
    hash(measure)


@IMPORTANCE("every trainable parameter has an importance of its shape, finite and at least 0")
def _shapes(case: ImportanceCase) -> None:
    model, omega = case.trained[0], case.estimate()
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}
    found = {name: tuple(value.shape) for name, value in omega.items()}
    require(found == shapes, f"shapes differ for {differing(found, shapes)}")
    for name, value in omega.items():
        require(bool(value.isfinite().all()), f"that of {name!r} is not finite")
        require(float(value.min()) >= 0, f"that of {name!r} has the value {float(value.min()):.3g}")


@IMPORTANCE("frozen parameters have none")
def _frozen(case: ImportanceCase) -> None:
    model = copy.deepcopy(case.trained[0])
    name, parameter = next(iter(model.named_parameters()))
    if sum(p.requires_grad for p in model.parameters()) > 1:
        parameter.requires_grad_(False)
        require(name not in case.estimate(model), f"that of {name!r} was measured")


@IMPORTANCE("measuring leaves parameters, buffers, gradients, modes and random numbers as they are")
def _untouched(case: ImportanceCase) -> None:
    model = copy.deepcopy(case.trained[0])
    model.train()
    next(model.children(), model).eval()
    nn.functional.cross_entropy(model(case.inputs), case.target).backward()
    before = everything(model)
    omega = case.estimate(model)
    require(not differing(before, everything(model)), f"changed: {differing(before, everything(model))}")
    for value in omega.values():
        value.fill_(7)
    require(not differing(before, everything(model)), "the importance shares its memory with the model")


@IMPORTANCE("measuring twice gives the same bits, whatever the modes, random numbers and gradient switch")
def _repeatable(case: ImportanceCase) -> None:
    model = copy.deepcopy(case.trained[0])
    torch.manual_seed(1)
    first = case.estimate(model.eval())
    torch.manual_seed(2)
    require(same(case.estimate(model.train()), first), "a network in training mode is measured otherwise")
    with torch.no_grad():
        require(same(case.estimate(model), first), "under torch.no_grad it is another")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        require(same(case.estimate(model), first), "mixed precision outside makes it another")


@IMPORTANCE("neither batch size nor order changes it")
def _batches(case: ImportanceCase) -> None:
    together = case.estimate()
    for size in (1, 3):
        _agrees(case.estimate(batches=case.split(size)), together, f"a batch size of {size}")
    _agrees(case.estimate(batches=case.split(3)[::-1]), together, "another order")


@IMPORTANCE("processes that share the samples measure what one does")
def _processes(case: ImportanceCase) -> None:
    expected = case.estimate()
    pair = _Pair()
    shares = [[(case.inputs[rank::2], case.target[rank::2])] for rank in (0, 1)]
    for found in pair.run(lambda rank: case.estimate(copy.deepcopy(case.trained[0]), shares[rank], pair.sum)):
        _agrees(found, expected, "sharing the samples among two processes")


@IMPORTANCE("watching changes no step")
def _watching(case: ImportanceCase) -> None:
    alone = copy.deepcopy(case.model)
    case.descend(alone, watched=False)
    others = differing(case.trained[0].state_dict(), alone.state_dict())
    require(not others, f"trained under watch, these differ: {others}")


@IMPORTANCE("what it gathered survives a checkpoint, and going on from there is as never having stopped")
def _checkpoint(case: ImportanceCase) -> None:
    model = copy.deepcopy(case.model)
    state = case.descend(model, stopping=True)
    found = case.measure.estimate(model, [(case.inputs, case.target)], watched=state)
    require(same(found, case.estimate()), f"these differ: {differing(found, case.estimate())}")


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


class _Pair:
    """Two threads that add tensors up as two processes would."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=60)
        self.parts: list[Tensor] = [torch.empty(0)] * 2
        self.own = threading.local()

    def run(self, work: Callable[[int], ParamDict]) -> list[ParamDict]:
        def one(rank: int) -> ParamDict:
            self.own.rank = rank
            try:
                return work(rank)
            except BaseException:
                self.barrier.abort()
                raise

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(one, (0, 1)))

    def sum(self, value: Tensor) -> Tensor:
        self.parts[self.own.rank] = value.detach()
        self.barrier.wait()
        total = self.parts[0] + self.parts[1]
        self.barrier.wait()
        return total
