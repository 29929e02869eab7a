"""What only a trained network can show: what a few samples know of importance, and which voxels bf16 calls otherwise.

A small QuickNAT learns the first simulated scanner (once; it is kept with the results). At random weights importance
would say nothing, and half of all voxels would stand between two classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from results import Found
from scipy import stats
from script import Measure, Options, run
from torch import Tensor

from perdure.data import Dataset, FolderDomain
from perdure.data.phantom import write_dataset
from perdure.evaluation import Predictor
from perdure.importance import MAS
from perdure.models import NetworkSpec
from perdure.release import Release
from perdure.update import Machine, Recipe
from perdure.update.train import train

SUBSETS, SAMPLES, DRAWS = (16, 32), 64, 8
NETWORK = NetworkSpec(factory="quicknat", arguments={"filters": 16, "kernel_size": 3})


def learnt(options: Options) -> tuple[Release, Dataset]:
    """The release and the data that it learnt."""
    spacing, epochs = options.pick(6.0, 2.5, 2.5), options.pick(1, 10, 10)
    dataset = Dataset.open(write_dataset(options.work / f"phantoms-{spacing}", spacing_mm=spacing))
    folder = options.work / f"trained-{spacing}"
    if folder.exists():
        return Release.open(folder), dataset
    domain = _domain(dataset, dataset.domains[0], options)
    recipe = Recipe(epochs=epochs, batch_size=5, clip_norm=1.0, importance_samples=1)
    # in float32, so that the release is the same whatever is the default
    machine = Machine(device=options.device, precision="32-true")
    return train(NETWORK, domain, recipe=recipe, machine=machine, out=folder), dataset


def _domain(dataset: Dataset, name: str, options: Options, release: Release | None = None) -> FolderDomain:
    cache = options.work / "cache"
    contract = dataset.default_contract(dataset.domains[0], cache=cache) if release is None else release.contract
    return dataset.domain(name, contract, cache=cache)


def subsets(options: Options) -> Mapping[str, Found]:
    """Importance of some of 64 samples against that of all, for several draws; and of two sets of 64."""
    release, dataset = learnt(options)
    domain = _domain(dataset, dataset.domains[0], options, release)
    inputs = torch.cat([x for x, _ in domain.batches("train", 8, seed=0)])[: 2 * SAMPLES]
    first, other = inputs[:SAMPLES], inputs[SAMPLES:]
    model = release.model.to(options.device)
    every = _importance(model, first)
    found = {}
    for number in SUBSETS:
        draws = [torch.randperm(len(first), generator=torch.Generator().manual_seed(seed)) for seed in range(DRAWS)]
        likeness = [_likeness(_importance(model, first[draw[:number]]), every) for draw in draws]
        found |= _both(f"importance/subset-{number}", likeness)
    return found | _both("importance/subset-floor", [_likeness(_importance(model, other), every)])


def _importance(model: torch.nn.Module, inputs: Tensor) -> Tensor:
    raw = MAS().estimate(model, inputs.split(8))
    return torch.cat([value.flatten() for value in raw.values()]).cpu()


def _likeness(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Spearman's rank correlation, and which share of the top quarter of one is in that of the other."""
    top = one.numel() // 4
    shared = set(one.topk(top).indices.tolist()) & set(other.topk(top).indices.tolist())
    return float(stats.spearmanr(one.numpy(), other.numpy()).statistic), len(shared) / top


def _both(key: str, likeness: list[tuple[float, float]]) -> dict[str, Found]:
    ranks, overlaps = zip(*likeness, strict=True)
    return {f"{key}/rank": Found(tuple(ranks)), f"{key}/overlap": Found(tuple(overlaps))}


def voxels(options: Options) -> Mapping[str, Found]:
    """The share of voxels that float32 and bf16 call differently; one value a test scan, of two scanners."""
    release, dataset = learnt(options)
    exact, fast = (Predictor(release, options.device, precision=one) for one in ("32-true", "bf16-mixed"))
    cases = itertools.chain(*(_domain(dataset, name, options, release).cases("test") for name in dataset.domains[:2]))
    shares, counted = [], np.zeros(2, int)
    for case in cases:
        differ = exact.classes_on_network_grid(case.image) != fast.classes_on_network_grid(case.image)
        shares.append(float(differ.mean()))
        counted += (int(differ.sum()), differ.size)
    note = f"{counted[0]:,} of {counted[1]:,} voxels, background included"
    return {"prediction/voxels": Found(tuple(shares), note)}


KEYS = tuple(f"importance/subset-{name}/{what}" for name in (*SUBSETS, "floor") for what in ("rank", "overlap"))
ALL = (Measure(KEYS, subsets), Measure(("prediction/voxels",), voxels))

if __name__ == "__main__":
    run(__file__, ALL)
