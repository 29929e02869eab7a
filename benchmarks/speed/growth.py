"""How do time and memory grow with domains, voxels, classes, parameters and cases? As which power of each?"""

from __future__ import annotations

import csv
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import scans
import torch
from memories import size_of
from prediction import by_library
from releases import release_of, volumes
from restraint import Copies, Protected
from results import Found
from script import Alone, Measure, Options, run
from steps import plainly
from timing import Memory, alone, clock, side_by_side, slope
from torch import nn
from workloads import Workload

from perdure.data import Dataset
from perdure.evaluation import dice
from perdure.importance import MAS
from perdure.models import QuickNAT

DOMAINS = (1, 2, 4, 8, 16, 32, 64)
EXTENTS = (32, 64, 128, 256)
CLASSES = (2, 8, 32, 128, 250)
WIDTHS = {
    100_000: 220, 316_000: 395, 1_000_000: 705, 3_160_000: 1_255, 10_000_000: 2_235, 31_600_000: 3_974,
    100_000_000: 7_070,
}  # fmt: skip
"""Of two hidden layers, by the parameters that they give."""
CASES = (10, 100, 1_000, 3_000, 10_000)


def grown(
    key: str, works: Mapping[int, Callable[[], object]], repeats: int, options: Options, *, memory: str = ""
) -> dict[str, Found]:
    """The exponents of time, one a repeat, and of peak memory where a name in `ALONE` says how it is taken.

    Args:
        key: of the row; that of memory has `-memory` behind it.
        works: what is timed, by what is varied.
        repeats: how many turns.
        options: of the command line.
        memory: what stands before the size in `ALONE`.
    """
    taken = side_by_side({str(size): work for size, work in works.items()}, repeats, clock(options.device))
    found = {key: _exponents({size: taken[str(size)] for size in works})}
    if memory:
        peaks = {size: alone(Path(__file__), f"{memory}/{size}", *options.words)[0] for size in works}
        found[f"{key}-memory"] = _exponent(peaks)
    return found


def _exponents(taken: Mapping[int, Sequence[float]]) -> Found:
    """Of seconds, one a turn, by what is varied."""
    sizes, turns = list(taken), zip(*taken.values(), strict=True)
    medians = {size: statistics.median(seconds) for size, seconds in taken.items()}
    return Found(tuple(slope(sizes, turn) for turn in turns), _ends(medians, "s"), tuple(medians.items()))


def _exponent(mebibytes: Mapping[int, float]) -> Found:
    sizes, values = list(mebibytes), list(mebibytes.values())
    return Found((slope(sizes, values),), _ends(mebibytes, "MiB"), tuple(mebibytes.items()))


def _ends(values: Mapping[int, float], unit: str) -> str:
    first, *_, last = values.items()
    return "; ".join(f"{size:,}: {value:.3g} {unit}" for size, value in (first, last))


def _steps(protected: Mapping[int, Protected], options: Options) -> Found:
    """Of the optimizer's step of each; not in turns, because a restraint holds as long as its context does."""
    taken = {}
    for number, one in protected.items():
        with one.under(plainly) as (stepper, retained):
            stepper.step(retained)
            works = {"step": stepper.optimizer.step}
            taken[number] = side_by_side(works, options.pick(2, 9, 25), clock(options.device))["step"]
    return _exponents(taken)


def domains(options: Options) -> Mapping[str, Found]:
    """The optimizer's step under EWC, and the memory behind it, with ever more domains merged into it."""
    torch.manual_seed(0)
    # the published network in full; few pixels, because the optimizer's step does not look at them
    model = QuickNAT(filters=options.pick(4, 16, 64)).to(options.device).train()
    inputs, target = torch.randn(2, 1, 16, 16), torch.randint(33, (2, 16, 16))
    own = Workload(model, inputs.to(options.device), target.to(options.device))
    held = {number: Copies(own, number).under("ewc") for number in DOMAINS[: options.pick(3, 7, 7)]}
    sizes = {number: size_of(one.memory) / 2**20 for number, one in held.items()}
    return {"growth/domains": _steps(held, options), "growth/domains-memory": _exponent(sizes)}


def voxels(options: Options) -> Mapping[str, Found]:
    """`predict_files` of ever larger cubes, by a small QuickNAT."""
    extents = EXTENTS[: options.pick(2, 3, 4)]
    works = {extent**3: _predicting(extent, options) for extent in extents}
    return grown("growth/volume", works, options.pick(1, 2, 3), options, memory="volume")


def _predicting(extent: int, options: Options) -> Callable[[], None]:
    torch.manual_seed(0)
    release = release_of(QuickNAT(classes=4, filters=8, kernel_size=3), volumes(extent, 4))
    source = scans.volume(options.work / f"volume-{extent}-{extent}.nii.gz", extent, extent)
    return by_library(release, source, options)


def _peak_of_volume(extent: int, options: Options) -> list[float]:
    used = Memory(options.device)
    _predicting(extent, options)()
    return [used.peak()]


def classes(options: Options) -> Mapping[str, Found]:
    """Dice of one volume with ever more classes in it."""
    works = {number: _overlap(number, options) for number in CLASSES}
    return grown("growth/classes", works, options.pick(1, 5, 11), options, memory="classes")


def _overlap(number: int, options: Options) -> Callable[[], object]:
    shape, draw = (options.pick(16, 128, 128),) * 3, np.random.default_rng(0)
    one, other = (draw.integers(0, number, shape, np.uint8) for _ in range(2))
    return lambda: dice(one, other, number)


def _peak_of_classes(number: int, options: Options) -> list[float]:
    work = _overlap(number, options)
    used = Memory(options.device)
    work()
    return [used.peak()]


def classes_in_training(options: Options) -> Mapping[str, Found]:
    """A plain training step of a small QuickNAT with ever more outputs."""
    pixels, works = options.pick(16, 64, 64), {}
    for number in CLASSES:
        torch.manual_seed(0)
        model = QuickNAT(classes=number, filters=16).to(options.device).train()
        inputs = torch.randn(4, 1, pixels, pixels, device=options.device)
        target = torch.randint(number, (4, pixels, pixels), device=options.device)
        works[number] = Workload(model, inputs, target).step
    return grown("growth/classes-training", works, options.pick(1, 3, 9), options)


def parameters(options: Options) -> Mapping[str, Found]:
    """MAS of ever wider networks of linear layers, on 8 samples."""
    works = {}
    for number in list(WIDTHS)[: options.pick(3, 5, 7)]:
        own = _wide(number, options)
        works[number] = lambda own=own: MAS().estimate(own.model, [own.batch])
    return grown("growth/parameters", works, options.pick(1, 2, 3), options, memory="parameters")


def parameters_of_a_step(options: Options) -> Mapping[str, Found]:
    """A protected step of the optimizer of ever wider networks."""
    numbers = list(WIDTHS)[: options.pick(3, 5, 7)]
    held = {number: Copies(_wide(number, options), 1).under("mas-lr") for number in numbers}
    return {"growth/parameters-step": _steps(held, options)}


def _wide(number: int, options: Options) -> Workload:
    torch.manual_seed(0)
    width = WIDTHS[number]
    model = nn.Sequential(
        nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, 4),
    )  # fmt: skip
    inputs, target = torch.randn(8, 8), torch.randint(4, (8,))
    return Workload(model.to(options.device).train(), inputs.to(options.device), target.to(options.device))


def _peak_of_parameters(number: int, options: Options) -> list[float]:
    used, own = Memory(options.device), _wide(number, options)
    MAS().estimate(own.model, [own.batch])
    return [used.peak()]


def cases(options: Options) -> Mapping[str, Found]:
    """A data folder of ever more cases is opened, and its domain made ready, after its files were checked once."""
    works = {number: _opening(number, options) for number in CASES[: options.pick(2, 4, 5)]}
    return grown("growth/cases", works, options.pick(1, 2, 5), options, memory="cases")


def _opening(number: int, options: Options) -> Callable[[], object]:
    folder = _folder(options.work / f"cases-{number}", number)
    cache = options.work / "cache"
    contract = Dataset.open(folder).default_contract("site", cache=cache)
    return lambda: Dataset.open(folder).domain("site", contract, cache=cache)


def _folder(folder: Path, number: int) -> Path:
    """So many tiny pictures of as many subjects, with a class each."""
    if folder.exists():
        return folder
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    source = scans.pictures(folder.with_name("one-picture"), 8, 1) / "picture-000.png"
    (unfinished / "images").mkdir(parents=True)
    toml = 'name = "cases"\ntask = "classification"\nmodality = "simulated"\n\n[labels]\nlow = 0\nhigh = 1\n'
    (unfinished / "dataset.toml").write_text(toml, encoding="utf-8")
    with (unfinished / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "subject", "domain", "split", "image", "class"])
        for k in range(number):
            name = f"images/case-{k:05}.png"
            shutil.copyfile(source, unfinished / name)
            split = ("train", "train", "train", "val", "test")[k % 5]
            rows.writerow([f"case-{k:05}", f"subject-{k:05}", "site", split, name, k % 2])
    return unfinished.rename(folder)


def _peak_of_cases(number: int, options: Options) -> list[float]:
    used = Memory(options.device)
    _opening(number, options)()
    return [used.peak()]


def _alone() -> Iterator[tuple[str, Alone]]:
    for extent in EXTENTS:
        yield f"volume/{extent**3}", lambda options, e=extent: _peak_of_volume(e, options)
    for number in WIDTHS:
        yield f"parameters/{number}", lambda options, n=number: _peak_of_parameters(n, options)
    for number in CLASSES:
        yield f"classes/{number}", lambda options, n=number: _peak_of_classes(n, options)
    for number in CASES:
        yield f"cases/{number}", lambda options, n=number: _peak_of_cases(n, options)


ALL = (
    Measure(("growth/domains", "growth/domains-memory"), domains),
    Measure(("growth/volume", "growth/volume-memory"), voxels),
    Measure(("growth/classes", "growth/classes-memory"), classes),
    Measure(("growth/classes-training",), classes_in_training),
    Measure(("growth/parameters", "growth/parameters-memory"), parameters),
    Measure(("growth/parameters-step",), parameters_of_a_step),
    Measure(("growth/cases", "growth/cases-memory"), cases),
)

if __name__ == "__main__":
    run(__file__, ALL, dict(_alone()))
