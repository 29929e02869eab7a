"""Does the setting that `train` has by default learn as well as float32? On real images, over 3 seeds.

    python benchmarks/speed/seeds.py --data FOLDER

FOLDER holds the data folders `retina_vessels` and `cxr_pneumonia`, see `--data` of the suite.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from results import Found
from script import Measure, Options, run
from steps import default_precision

from perdure.data import Dataset
from perdure.evaluation import evaluate
from perdure.models import NetworkSpec
from perdure.update import Machine, Recipe
from perdure.update.train import train

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Task:
    """What is learnt, and how it is scored.

    Args:
        folder: below `--data`.
        domain: of it.
        metric: of `evaluate`.
        size: pixels.
        network: a small one.
        recipe: so short that it learns something.
    """

    folder: str
    domain: str
    metric: str
    size: int
    network: NetworkSpec
    recipe: Recipe


TASKS = {
    "dice": Task(
        "retina_vessels", "drive", "dice", 96,
        NetworkSpec(factory="quicknat", arguments={"filters": 8, "kernel_size": 3}),
        Recipe(epochs=40, batch_size=4, clip_norm=1.0),
    ),
    "kappa": Task(
        "cxr_pneumonia", "guangzhou_paediatric", "kappa", 64,
        NetworkSpec(
            factory="monai:ResNet",
            arguments={"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [8, 16, 32, 64]},
        ),
        Recipe(optimizer="adam", learning_rate=1e-3, epochs=6, batch_size=32, milestones=()),
    ),
}  # fmt: skip


def compared(metric: str, options: Options) -> Mapping[str, Found]:
    """How far the means of two precisions lie apart, in standard errors of their difference."""
    task = TASKS[metric]
    folder = None if options.data is None else options.data / task.folder
    if folder is None or not folder.is_dir():
        sys.stderr.write(f"seeds: skipped training/{metric}: name the folder that holds {task.folder} with --data\n")
        return {}
    default = default_precision(options.device)
    names = ("32-true", "bf16-mixed" if default == "32-true" else default)
    seeds = SEEDS[: options.pick(2, 3, 3)]
    exact, fast = ([_score(task, folder, name, seed, options) for seed in seeds] for name in names)
    apart = statistics.mean(fast) - statistics.mean(exact)
    noise = math.sqrt((statistics.variance(fast) + statistics.variance(exact)) / len(seeds))
    said = "; ".join(
        f"{name}: {', '.join(f'{score:.3f}' for score in scores)}"
        for name, scores in zip(names, (exact, fast), strict=True)
    )
    note = f"{said}; difference {apart:+.4f}"
    return {f"training/{metric}": Found((abs(apart) / noise if noise else math.inf,), note)}


def _score(task: Task, folder: Path, precision: str, seed: int, options: Options) -> float:
    dataset, cache = Dataset.open(folder), options.work / "cache"
    contract = dataset.default_contract(task.domain, size=task.size, cache=cache)
    domain = dataset.domain(task.domain, contract, cache=cache)
    epochs = options.pick(1, task.recipe.epochs, task.recipe.epochs)
    recipe = task.recipe.model_copy(update={"seed": seed, "importance_samples": 1, "epochs": epochs})
    machine = Machine(device=options.device, precision=precision)  # type: ignore[arg-type]
    release = train(task.network, domain, recipe=recipe, machine=machine)
    rows = evaluate([release], [domain], device=options.device).table
    values = rows.filter(rows["metric"] == task.metric)
    if task.metric == "dice":
        values = values.filter(values["structure"] != contract.structures[0].name)
    return float(values["value"].mean())  # type: ignore[arg-type]


ALL = tuple(Measure((f"training/{metric}",), lambda options, m=metric: compared(m, options)) for metric in TASKS)

if __name__ == "__main__":
    run(__file__, ALL)
