"""What does a protected update cost over a plain one, however many domains came before?

What protection adds is a few thousandths of a step, less than two steps differ by. So it is measured by itself (the
optimizer's step with and without it, and the penalty) and set in proportion to a step. Whole steps are measured too.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from goals import METHODS
from memories import memory_of
from releases import pictures, release_of
from results import Found
from script import Measure, Options, run
from steps import Stepper, as_trained, plainly
from timing import Memory as Used
from timing import alone, clock, over, side_by_side
from workloads import Workload, workload

from perdure import methods
from perdure.methods import Method
from perdure.release import Memory, Release
from perdure.update import retain
from perdure.update.retention import Retained

NETWORKS = ("quicknat-128", "resnet50")
OF: dict[str, Callable[[], Method]] = {
    "mas-lr": methods.mas_lr,
    "mas-fix": methods.mas_fix,
    "mas": methods.mas,
    "ewc": methods.ewc,
}
Made = Callable[[Workload], AbstractContextManager[Stepper]]


@dataclass(frozen=True)
class Protected:
    """A network, and what holds it.

    Args:
        method: how it is held.
        work: the network with its batch.
        memory: of the earlier domains.
    """

    method: Method
    work: Workload
    memory: Memory

    @contextmanager
    def under(self, made: Made) -> Iterator[tuple[Stepper, Retained]]:
        """What takes its steps, under restraint."""
        method = self.method
        assert method.importance is not None
        with (
            made(self.work) as stepper,
            retain(
                self.work.model,
                stepper.optimizer,
                self.memory,
                method.regularizer,
                method.batch_norm,
                importance=method.importance.key,
                granularity=method.granularity,
            ) as retained,
        ):
            yield stepper, retained


class Copies:
    """Copies of one network under several methods; what two of them remember alike is made once.

    Args:
        work: the network with its batch.
        domains: how many came before.
    """

    def __init__(self, work: Workload, domains: int) -> None:
        self.work, self.domains = work, domains
        self._known: dict[str, Memory] = {}

    def under(self, name: str) -> Protected:
        """A copy under a method."""
        method, own = OF[name](), copy.deepcopy(self.work.model)
        assert method.importance is not None
        key = method.importance.key
        if key not in self._known:
            self._known[key] = memory_of(own, method.importance, self.domains)
        return Protected(method, Workload(own, self.work.inputs, self.work.target), self._known[key])


def added(protected: Protected, plain: Stepper, made: Made, options: Options) -> tuple[list[float], float]:
    """Seconds that protection adds to a step, and the optimizer's step with it over that without."""
    repeats, now = options.pick(2, 9, 25), clock(options.device)
    with protected.under(made) as (stepper, retained):
        stepper.step(retained)
        taken = side_by_side(
            {"with": stepper.optimizer.step, "without": plain.optimizer.step, "penalty": retained.penalty}, repeats, now
        )
    extra = [a - b + c for a, b, c in zip(taken["with"], taken["without"], taken["penalty"], strict=True)]
    return extra, statistics.median(over(taken["with"], taken["without"]))


def parts(keys: Mapping[str, str], network: str, domains: int, made: Made, options: Options) -> Mapping[str, Found]:
    """A step plus what each method adds to it, over the step.

    Args:
        keys: of rows, and the method of each.
        network: of `workload`.
        domains: how many came before.
        made: how a step is taken.
        options: of the command line.
    """
    own, found = workload(network, options.device, tiny=options.form == "tiny"), {}
    copies = Copies(own, options.pick(2, domains, domains))
    with made(own) as plain:
        repeats = options.pick(1, 2, 5)
        whole = statistics.median(side_by_side({"step": plain.step}, repeats, clock(options.device))["step"])
        for key, name in keys.items():
            extra, share = added(copies.under(name), plain, made, options)
            note = (
                f"{1e3 * statistics.median(extra):.1f} ms of {whole:.2f} s; the optimizer's step by itself {share:.2f}"
            )
            found[key] = Found(tuple(1 + one / whole for one in extra), note)
    return found


def whole(key: str, name: str, network: str, options: Options) -> Mapping[str, Found]:
    """A whole protected step with 64 domains behind it over a whole plain one, in turns."""
    own = workload(network, options.device, tiny=options.form == "tiny")
    protected = Copies(own, options.pick(2, 64, 64)).under(name)
    with plainly(own) as plain, protected.under(plainly) as (stepper, retained):
        works: dict[str, Callable[[], None]] = {"with": lambda: stepper.step(retained), "without": plain.step}
        taken = side_by_side(works, options.pick(1, 5, 11), clock(options.device))
    return {key: Found(tuple(over(taken["with"], taken["without"])))}


def merged(options: Options) -> Mapping[str, Found]:
    """What EWC adds with 4 domains in one quadratic, over 4 penalties as they are usually written."""
    own = workload("quicknat-128", options.device, tiny=options.form == "tiny")
    separate = Separate(own.model, 4)
    with plainly(own) as plain:
        plain.step()
        extra, _ = added(Copies(own, 4).under("ewc"), plain, plainly, options)
        taken = side_by_side({"separate": separate.backward}, len(extra), clock(options.device))["separate"]
    note = f"{1e3 * statistics.median(extra):.1f} over {1e3 * statistics.median(taken):.1f} ms"
    return {"restraint/merged": Found(tuple(over(extra, taken)), note)}


class Separate:
    """A quadratic penalty for each domain, as most implementations have it: a loop over domains and parameters.

    Args:
        model: whose parameters are pulled.
        domains: how many there are.
    """

    def __init__(self, model: torch.nn.Module, domains: int) -> None:
        self.past = [
            [(p, torch.rand_like(p), p.detach() + 1e-3 * torch.randn_like(p)) for p in model.parameters()]
            for _ in range(domains)
        ]

    def backward(self) -> None:
        """The sum of all of them, and its gradient."""
        total: torch.Tensor | float = 0.0
        for domain in self.past:
            for parameter, omega, anchor in domain:
                total = total + (omega * (parameter - anchor) ** 2).sum()
        assert isinstance(total, torch.Tensor)
        (total / 2).backward()


def memory(name: str, options: Options) -> Mapping[str, Found]:
    """Peak of protected steps beyond that of plain ones, in copies of the parameters, each in a process of its own."""
    folder = options.work / f"resnet50-{name}"
    if not folder.exists():
        method = OF[name]()
        assert method.importance is not None
        release_of(_few(options).model, pictures(), (method.importance,), 2).save(folder)
    values = []
    for _ in range(options.pick(1, 1, 3)):
        protected, size = alone(Path(__file__), f"memory/{name}", *options.words)
        plain, _ = alone(Path(__file__), "memory/plain", *options.words)
        values.append((protected - plain) / size)
    return {f"restraint/memory/{name}": Found(tuple(values), f"parameters {size:.0f} MiB, plain {plain:.0f} MiB")}


def _few(options: Options) -> Workload:
    # few and small samples: what counts is what is kept for each parameter
    return workload("resnet50", options.device, tiny=True, samples=2)


def _peak(name: str, options: Options) -> list[float]:
    # what a release has in its files is mapped: the system may take it back at any time
    used, own = Used(options.device, mapped=False), _few(options)
    size = sum(p.numel() * p.element_size() for p in own.model.parameters()) / 2**20
    if name == "plain":
        with plainly(own) as stepper:
            stepper.step()
            stepper.step()
    else:
        release = Release.open(options.work / f"resnet50-{name}", network=own.model)
        with Protected(OF[name](), own, release.memory).under(plainly) as (stepper, retained):
            stepper.step(retained)
            stepper.step(retained)
    return [used.peak(), size]


def _measures() -> Iterator[Measure]:
    for network in NETWORKS:
        for domains in (1, 64):
            keys = {f"restraint/parts/{name}/{domains}/{network}": name for name in METHODS}
            yield Measure(
                tuple(keys),
                lambda options, k=keys, n=network, d=domains: parts(_of(k, options), n, d, plainly, options),
            )
        keys = {f"restraint/fast/{name}/{network}": name for name in METHODS}
        yield Measure(
            tuple(keys), lambda options, k=keys, n=network: parts(_of(k, options), n, 64, as_trained, options)
        )
        for name in METHODS:
            key = f"restraint/whole/{name}/{network}"
            yield Measure((key,), lambda options, k=key, m=name, n=network: whole(k, m, n, options))
    yield Measure(("restraint/merged",), merged)
    for name in METHODS:
        yield Measure((f"restraint/memory/{name}",), lambda options, m=name: memory(m, options))


def _of(keys: Mapping[str, str], options: Options) -> dict[str, str]:
    return {key: name for key, name in keys.items() if key in options.missing}


ALL = tuple(_measures())
ALONE = {f"memory/{name}": (lambda options, m=name: _peak(m, options)) for name in (*METHODS, "plain")}

if __name__ == "__main__":
    run(__file__, ALL, ALONE)
