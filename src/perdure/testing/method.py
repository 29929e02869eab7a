"""What must hold of any method."""

from __future__ import annotations

import copy
import json
import re
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from perdure.importance import MAS, measure_from
from perdure.methods import Method
from perdure.models import evaluation_mode, trainable_parameters
from perdure.models.batch_norm import HOLDING
from perdure.regularization import form_from
from perdure.release import Memory, Release
from perdure.testing.claims import Claims, differing, require
from perdure.testing.domain import TinyDomain, tiny_domain, tiny_network
from perdure.update import Recipe, train, update

if TYPE_CHECKING:
    from torch import Tensor

    from perdure.types import Task

METHOD: Claims[MethodCase] = Claims("Method")
"""The claims that `check_method` checks."""

RECIPE = Recipe(epochs=3, batch_size=4, learning_rate=0.02, momentum=0.5)


@dataclass(frozen=True)
class MethodCase:
    """A method, and what it is tried on.

    Args:
        method: the method.
        task: of the two domains and the network.
    """

    method: Method
    task: Task

    def base(self, samples: int = 8) -> Release:
        """A release of a first domain that carries what the method needs."""
        domain = tiny_domain("site-a", self.task, train=samples)
        return train(tiny_network(self.task), domain, recipe=RECIPE, measures=(self.method.importance or MAS(),))

    @cached_property
    def before(self) -> Release:
        """The release that is updated."""
        return self.base()

    @cached_property
    def held_and_after(self) -> tuple[dict[str, Tensor], Release]:
        """A copy of all that it held before an update to a second domain, and what the update gave."""
        held = copy.deepcopy(_held(self.before))
        return held, self.update(self.before)

    @property
    def after(self) -> Release:
        """It, updated to a second domain."""
        return self.held_and_after[1]

    def update(self, release: Release, out: Path | None = None, domain: TinyDomain | None = None) -> Release:
        """An update to a second domain of another contrast."""
        first, second = tiny_domain("site-a", self.task), domain or self.second
        old = self.method.data in ("cumulative", "replay")
        return update(
            release,
            second,
            method=self.method,
            recipe=RECIPE,
            joint_with=second.joined(first) if old else None,
            allow_patient_data=self.method.data == "replay",
            out=out,
        )

    @property
    def second(self) -> TinyDomain:
        """The new domain."""
        return tiny_domain("site-b", self.task, contrast=0.5)


def check_method(method: Method, task: Task = "classification", without: Collection[str] = ()) -> None:
    """Checks all of `METHOD` for a method: a small network learns one domain, and is updated to a second.

    Args:
        method: any method.
        task: what the domains ask for.
        without: claims that do not hold of it by intent.

    Raises:
        AssertionError: naming the claim that does not hold, and what was seen.
    """
    METHOD.check(MethodCase(method, task), method.name, without)


@METHOD("it has a name for the command line, a source and a summary")
def _names(case: MethodCase) -> None:
    method = case.method
    require(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", method.name) is not None, f"the name is {method.name!r}")
    require(bool(method.source and method.summary), f"source {method.source!r}, summary {method.summary!r}")


@METHOD("its record is plain JSON, from which it is made again")
def _record(case: MethodCase) -> None:
    method = case.method
    record = method.record()
    require(json.loads(json.dumps(record)) == record, f"the record is {record}")
    made: dict[str, Any] = {
        "regularizer": form_from(record["regularizer"], {method.regularizer.name: type(method.regularizer)})
    }
    if method.importance is not None:
        made["importance"] = measure_from(record["importance"], {method.importance.name: type(method.importance)})
    again = Method(**{**record, **made})
    require(again == method, f"made again it is {again}, and it was {method}")


@METHOD("an update runs, and its release gives finite answers")
def _runs(case: MethodCase) -> None:
    model = case.after.model
    with evaluation_mode(model), torch.no_grad():
        output = model(case.second.samples("val")[0])
    require(bool(output.isfinite().all()), "the output holds NaN or infinity")
    learnt = [seen.domain for seen in case.after.identity.domains]
    require(learnt == ["site-a", "site-b"], f"the release has learnt {learnt}")


@METHOD("the release that is updated stays as it is")
def _parent(case: MethodCase) -> None:
    changed = differing(case.held_and_after[0], _held(case.before))
    require(not changed, f"these changed: {changed}")


@METHOD("the original statistics survive bit for bit")
def _statistics(case: MethodCase) -> None:
    before, after = case.before.memory.statistics, case.after.memory.statistics
    require(not differing(before, after), f"in the memory these changed: {differing(before, after)}")
    if case.method.batch_norm in HOLDING:
        buffers = dict(case.after.model.named_buffers())
        require(not differing(before, buffers), f"in the network these changed: {differing(before, buffers)}")


@METHOD("only what it says trains")
def _trains(case: MethodCase) -> None:
    before, after = dict(case.before.model.named_parameters()), dict(case.after.model.named_parameters())
    moving = trainable_parameters(case.before.model, case.method.trainable) if case.method.data != "none" else set()
    moved = [name for name in before if name not in moving and not torch.equal(before[name], after[name])]
    require(not moved, f"these moved: {moved[:5]}")


@METHOD("an update that was stopped and continued is the same as one that was not, bit for bit")
def _resumes(case: MethodCase) -> None:
    def stop(epoch: int) -> None:
        if epoch == 1:
            raise _StoppedError

    with tempfile.TemporaryDirectory(prefix="perdure-") as folder:
        out = Path(folder) / "candidate"
        with suppress(_StoppedError):
            case.update(case.before, out, replace(case.second, before_epoch=stop))
        continued = case.update(case.before, out)
    for what, one, other in (
        ("weights", continued.model.state_dict(), case.after.model.state_dict()),
        ("the memory", _remembered(continued.memory), _remembered(case.after.memory)),
    ):
        require(not differing(one, other), f"of {what} these differ: {differing(one, other)}")


class _StoppedError(Exception):
    pass


@METHOD("nothing remembered has the shape of an image or an axis of samples")
def _no_image(case: MethodCase) -> None:
    model = case.after.model
    known = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for key, tensor in _remembered(case.after.memory).items():
        name = key.split("/")[-1]
        require(name in known, f"{key!r} belongs to no parameter or buffer of the network")
        shape, full = tuple(tensor.shape), known[name]
        fits = len(shape) == len(full) and all(a in (1, b) for a, b in zip(shape, full, strict=True))
        require(fits, f"{key!r} has shape {shape}, and in the network it has {full}")
    few, many = _shapes(case.before.memory), _shapes(case.base(11).memory)
    require(few == many, f"of 8 samples another memory is kept than of 11: {differing(few, many)}")


def _held(release: Release) -> dict[str, Tensor]:
    return {**release.model.state_dict(), **_remembered(release.memory)}


def _shapes(memory: Memory) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in _remembered(memory).items()}


def _remembered(memory: Memory) -> dict[str, Tensor]:
    """Every tensor of a memory, under a path that ends in the name of a parameter or buffer."""
    found: dict[str, Tensor] = {}

    def add(path: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            found[path] = value
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                add(f"{path}/{key}", inner)
        elif hasattr(value, "__dataclass_fields__"):
            add(path, {name: getattr(value, name) for name in value.__dataclass_fields__})

    add("memory", memory)
    return found
