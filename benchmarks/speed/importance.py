"""What does exact importance cost, beside a training step, the plain loop over samples, and in memory?"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from goals import NETWORKS
from results import Found
from script import Measure, Options, run
from timing import Memory, alone, as_a_command, clock, over, paired, several, side_by_side
from torch import Tensor, nn
from torch.nn import functional
from workloads import Workload, smooth, workload

from perdure.importance import MAS, Fisher, Importance, per_sample

BATCHES = 16
"""Of a whole call: 64 samples of a QuickNAT."""

MEASURES: dict[str, Importance] = {
    "mas": MAS(), "fisher": Fisher("dataset"), "loop": MAS(), "half": MAS(precision="bf16-mixed"),
}  # fmt: skip


class InTurns:
    """The batches of one call, the time that each takes, and that of a plain step after each.

    Args:
        batch: what each of them is.
        number: how many.
        step: the plain step.
        device: whose clock.
    """

    def __init__(self, batch: Any, number: int, step: Callable[[], None], device: str) -> None:
        self.batch, self.number, self.step, self.now = batch, number, step, clock(device)
        self.measured: list[float] = []
        self.plain: list[float] = []

    def __iter__(self) -> Iterator[Any]:
        """The batches; a measure asks for the next one when it is done with the one before."""
        self.step()
        for _ in range(self.number):
            start = self.now()
            yield self.batch
            self.measured.append(self.now() - start)
            start = self.now()
            self.step()
            self.plain.append(self.now() - start)


@contextmanager
def sample_by_sample() -> Iterator[None]:
    """Importance by the plain loop, as where a network is out of reach of one pass."""
    usual = per_sample.one_pass
    per_sample.one_pass = lambda model, parameters: None
    try:
        yield
    finally:
        per_sample.one_pass = usual


def beside_a_step(network: str, measure: str, options: Options) -> Mapping[str, Found]:
    """A measure batch by batch over plain steps, in turns within one call.

    The first batch, of which two samples are measured in both ways, counts in the row of the whole call alone.
    """
    own = workload(network, options.device, tiny=options.form == "tiny")
    other = workload(network, options.device, tiny=options.form == "tiny")
    number = options.pick(2, 3, BATCHES if measure == "mas" else 8)
    turns = InTurns(own.batch, number, other.step, options.device)
    if measure == "loop":
        with sample_by_sample():
            MEASURES[measure].estimate(own.model, turns)
    else:
        MEASURES[measure].estimate(own.model, turns)
    note = f"{statistics.median(turns.plain):.2f} s a plain step"
    if measure == "half":
        note += f"; {_off(own):.1%} off, the mean of a parameter where it is largest"
    found = {f"importance/{measure}/{network}": Found(tuple(over(turns.measured[1:], turns.plain[1:])), note)}
    if measure == "mas":
        whole = sum(turns.measured) / sum(turns.plain)
        note = "the first batch is measured in both ways, so that a wrong rule cannot pass"
        found[f"importance/call/{network}"] = Found((whole,), note)
    return found


def _off(own: Workload) -> float:
    """How far half precision is off in the parameter where it is most, as a share of its mean importance.

    A parameter of next to no importance is left out, as where half precision is tried before it is taken.
    """
    exact, fast = (MEASURES[name].estimate(own.model, [own.batch]) for name in ("mas", "half"))
    floor = max(float(value.mean()) for value in exact.values()) * per_sample.NOISE
    counted = {name: value for name, value in exact.items() if float(value.mean()) * per_sample.HALF_ALIKE > floor}
    return max(float((fast[name] - value).abs().mean() / value.mean()) for name, value in counted.items())


def command(network: str, options: Options) -> Mapping[str, Found]:
    """MAS batch by batch in a process that allocates as commands do, over plain steps in a process of their own."""
    pairs = paired(Path(__file__), f"batches/{network}", f"steps/{network}", options.pick(1, 1, 5), options.words)
    note = f"{pairs[0][1]:.2f} s a plain step"
    return {f"importance/command/{network}": Found(tuple(one / step for one, step in pairs), note)}


def _batches(network: str, options: Options) -> list[float]:
    as_a_command()
    own = workload(network, options.device, tiny=options.form == "tiny")
    turns = InTurns(own.batch, options.pick(2, 3, 5), lambda: None, options.device)
    MAS().estimate(own.model, turns)
    return turns.measured[1:]


def _steps(network: str, options: Options) -> list[float]:
    own = workload(network, options.device, tiny=options.form == "tiny")
    return several(own.step, options.pick(1, 2, 4), clock(options.device))


def small(name: str, options: Options) -> Mapping[str, Found]:
    """The plain loop over what is chosen by itself, whole calls on 4 batches."""
    own = workload(f"small-{name}", options.device)
    batches = [own.batch] * 4

    def loop() -> None:
        with sample_by_sample():
            MAS().estimate(own.model, batches)

    works = {"loop": loop, "chosen": lambda: MAS().estimate(own.model, batches)}
    taken = side_by_side(works, options.pick(1, 3, 9), clock(options.device))
    return {f"importance/small-{name}": Found(tuple(over(taken["loop"], taken["chosen"])))}


def error(options: Options) -> Mapping[str, Found]:
    """The largest deviation of any number, as a share of the largest one of its tensor; one value a network."""
    worst = []
    for name, measure in itertools.product(("conv", "unpooled", "mlp"), ("mas", "fisher")):
        model, inputs, target = smooth(name)
        expected = _plain(model, inputs, target, measure)
        found = MEASURES[measure].estimate(model.to(options.device), [(inputs, target)])
        worst.append(max(float((found[n].cpu().double() - e).abs().max() / e.abs().max()) for n, e in expected.items()))
    return {"importance/error": Found(tuple(worst), "MAS and Fisher of 3 networks")}


def _plain(model: nn.Module, inputs: Tensor, target: Tensor, measure: str) -> dict[str, Tensor]:
    """As one would first write it, in float64."""
    model = model.double()
    totals = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for x, y in zip(inputs.double().split(1), target.split(1), strict=True):
        output = model(x)
        if measure == "mas":
            value = output.softmax(1).square().sum() / output[0, 0].numel()
        else:
            value = -functional.cross_entropy(output, y, reduction="sum")
        gradients = torch.autograd.grad(value, list(model.parameters()))
        for total, g in zip(totals.values(), gradients, strict=True):
            total += g.abs() if measure == "mas" else g.square()
    model.float()
    return {name: total / len(inputs) for name, total in totals.items()}


def memory(network: str, options: Options) -> Mapping[str, Found]:
    """Peak of a call on two batches over that of one training step, each in a process of its own."""
    repeats = options.pick(1, 1, 3)
    pairs = [
        [alone(Path(__file__), f"{what}/{network}", *options.words)[0] for what in ("importance", "step")]
        for _ in range(repeats)
    ]
    note = f"{pairs[0][0]:.0f} over {pairs[0][1]:.0f} MiB"
    return {f"importance/memory/{network}": Found(tuple(one / other for one, other in pairs), note)}


def _peak_of_importance(network: str, options: Options) -> list[float]:
    used = Memory(options.device)
    own = workload(network, options.device, tiny=options.form == "tiny")
    MAS().estimate(own.model, [own.batch, own.batch])
    return [used.peak()]


def _peak_of_step(network: str, options: Options) -> list[float]:
    used = Memory(options.device)
    own = workload(network, options.device, tiny=options.form == "tiny")
    own.step()
    own.step()
    return [used.peak()]


def _measures() -> Iterator[Measure]:
    for network in NETWORKS:
        for measure in MEASURES:
            keys = [f"importance/{measure}/{network}"]
            keys += [f"importance/call/{network}"] if measure == "mas" else []
            if (measure, network) == ("half", "quicknat-256"):
                continue
            yield Measure(tuple(keys), lambda options, n=network, m=measure: beside_a_step(n, m, options))
    for network in ("quicknat-128", "resnet50"):
        yield Measure((f"importance/command/{network}",), lambda options, n=network: command(n, options))
    for name in ("conv", "quicknat", "mlp"):
        yield Measure((f"importance/small-{name}",), lambda options, n=name: small(n, options))
    yield Measure(("importance/error",), error)
    for network in ("quicknat-128", "resnet50"):
        yield Measure((f"importance/memory/{network}",), lambda options, n=network: memory(n, options))


ALL = tuple(_measures())
ALONE = {
    f"{what}/{network}": (lambda options, n=network, peak=peak: peak(n, options))
    for what, peak in (
        ("importance", _peak_of_importance),
        ("step", _peak_of_step),
        ("batches", _batches),
        ("steps", _steps),
    )
    for network in NETWORKS
}

if __name__ == "__main__":
    run(__file__, ALL, ALONE)
