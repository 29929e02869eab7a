"""What does training cost as `perdure train` does it, beside a plain loop in float32?"""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from releases import volumes
from results import Found
from script import Measure, Options, run
from sites import Site
from steps import as_trained, default_precision, plainly
from timing import as_a_command, clock, over, paired, several, side_by_side
from workloads import Workload, workload

from perdure.importance import MAS
from perdure.methods import finetune
from perdure.release import Memory
from perdure.update import Machine, Recipe
from perdure.update.loop import Training
from perdure.update.losses import loss_for
from perdure.update.run_folder import RunFolder

NETWORKS = ("quicknat-128", "resnet50")
PRECISIONS = ("default", "32-true", "bf16-mixed")


def step(precision: str, network: str, options: Options) -> Mapping[str, Found]:
    """A step as `train` runs it over a plain one, in turns."""
    own = workload(network, options.device, tiny=options.form == "tiny")
    other = Workload(copy.deepcopy(own.model), own.inputs, own.target)
    given = None if precision == "default" else precision
    with plainly(own) as plain, as_trained(other, given) as fast:
        works = {"fast": fast.step, "plain": plain.step}
        taken = side_by_side(works, options.pick(1, 3, 11), clock(options.device))
    note = given or default_precision(options.device)
    plainly_s = statistics.median(taken["plain"])
    found = Found(tuple(over(taken["fast"], taken["plain"])), f"{note}; {plainly_s:.2f} s a plain step")
    return {f"training/{precision}/{network}": found}


def command(network: str, options: Options) -> Mapping[str, Found]:
    """A step in a process that allocates as commands do, over a plain one in a process of its own, in turns."""
    pairs = paired(Path(__file__), f"fast/{network}", f"plain/{network}", options.pick(1, 1, 7), options.words)
    note = f"{default_precision(options.device)}; {pairs[0][1]:.2f} s a plain step"
    return {f"training/command/{network}": Found(tuple(fast / plain for fast, plain in pairs), note)}


def _steps(how: str, network: str, options: Options) -> list[float]:
    if how == "fast":
        as_a_command()
    own = workload(network, options.device, tiny=options.form == "tiny")
    with as_trained(own) if how == "fast" else plainly(own) as stepper:
        return several(stepper.step, options.pick(1, 2, 3), clock(options.device))


def epoch(options: Options) -> Mapping[str, Found]:
    """One epoch by the library's own loop, over one that is written plainly, with the same loss."""
    own = workload("quicknat-128", options.device, tiny=options.form == "tiny", samples=options.pick(8, 16, 16))
    domain = Site(volumes(own.inputs.shape[-1]), own.inputs.cpu(), own.target.cpu())
    recipe = Recipe(epochs=1, batch_size=4, learning_rate=1e-4, clip_norm=1.0)

    def ours() -> None:
        machine = Machine(device=options.device)
        with tempfile.TemporaryDirectory() as folder:
            run_folder = RunFolder(Path(folder) / "run", {})
            model = copy.deepcopy(own.model)
            fabric = machine.fabric()
            Training(fabric, model, domain, recipe, finetune(), Memory({}, {}), run_folder, (MAS(),)).run()

    def plain() -> None:
        model = copy.deepcopy(own.model)
        loss_function = loss_for(domain.contract, domain.batches("train", 4))
        optimizer = recipe.make_optimizer(model)
        for inputs, target in domain.batches("train", 4):
            optimizer.zero_grad()
            loss = loss_function(model(inputs.to(options.device)), target.to(options.device))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    taken = side_by_side({"ours": ours, "plain": plain}, options.pick(1, 2, 5), clock(options.device))
    note = f"{statistics.median(taken['plain']):.1f} s a plain epoch; checkpoint and log included in ours"
    return {"training/epoch": Found(tuple(over(taken["ours"], taken["plain"])), note)}


def _measures() -> Iterator[Measure]:
    for network in NETWORKS:
        for precision in PRECISIONS:
            key = f"training/{precision}/{network}"
            yield Measure((key,), lambda options, p=precision, n=network: step(p, n, options))
        yield Measure((f"training/command/{network}",), lambda options, n=network: command(n, options))
    yield Measure(("training/epoch",), epoch)


ALL = tuple(_measures())
ALONE = {
    f"{how}/{network}": (lambda options, h=how, n=network: _steps(h, n, options))
    for how in ("fast", "plain")
    for network in NETWORKS
}

if __name__ == "__main__":
    run(__file__, ALL, ALONE)
