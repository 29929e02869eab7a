r"""Attacks small releases to tell who was in their training data, from the weights alone and with the memory.

    python benchmarks/membership.py --data FOLDER --domain NAME... --size 64 --models 8 --epochs 12 --out RESULT.json

The cases of the domains are one pool. Each model is trained on a random half of the subjects; the other half are
non-members. Every model is the target once, and the others are its shadow models (leave one out), as an attacker would
train who has data of the same kind. A case's score is high where it looks like a member:

- `loss`: minus its loss (Yeom et al. 2018), one threshold for all cases.
- `loss, calibrated`: the likelihood ratio of its confidence, normal with a mean of its own with and without the case
  among the training data, both from the shadow models, and one variance for all (Carlini et al. 2022, the variant for
  few shadow models).
- `gradient`: minus the squared norm of its gradient at the weights.
- `fisher`, `mas`: with the memory: the cosine of its own squared gradient (of its own MAS importance) to the raw
  importance that the release carries, which is their mean over members.
- `fisher norm`: with the memory: minus its gradient's norm with the Fisher information as weights.
- each of these `calibrated`, in the same way; `loss and gradient` and `loss and memory`: the sums of the calibrated
  log-likelihood ratios of loss and `gradient`, and of loss, `fisher` and `mas`.

Reported are AUC and the true-positive rate at 1 % false positives, the mean over targets, with a 95 % t interval over
targets (they share a pool, so that it is rather too narrow).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from perdure.data import Dataset
from perdure.errors import PerdureError
from perdure.importance import MAS, Fisher
from perdure.models import NetworkSpec, evaluation_mode
from perdure.release import Release
from perdure.types import IGNORED, Contract, Counts
from perdure.update import recipe_for, train

FALSE_POSITIVES = 0.01
WITH_MEMORY = ("fisher", "mas", "fisher norm")

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Half:
    """Some cases of a pool in memory, as a `perdure.types.Domain`."""

    inputs: Tensor
    targets: Tensor
    contract: Contract
    name: str = "pool"

    @property
    def counts(self) -> Counts:
        """One subject a case is near enough here."""
        number = {"train": len(self.inputs), "val": 0, "test": 0}
        return Counts(subjects=number, cases=number, samples=number)

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """Of no use here."""
        return {}

    def batches(self, split: str, batch_size: int, **order: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """The samples, shuffled by seed and epoch."""
        seed, number = order.get("seed"), len(self.inputs)
        generator = torch.Generator().manual_seed(1000 * (seed or 0) + order.get("epoch", 0))
        chosen = torch.arange(number) if seed is None else torch.randperm(number, generator=generator)
        parts = list(chosen.split(batch_size))
        if len(parts) > 1 and 2 * len(parts[-1]) < batch_size:
            parts[-2:] = [torch.cat(parts[-2:])]
        yield from ((self.inputs[part], self.targets[part]) for part in parts)

    def steps(self, split: str, batch_size: int) -> int:
        """How many batches there are."""
        return sum(1 for _ in self.batches(split, batch_size))


def pool(arguments: argparse.Namespace) -> tuple[Tensor, Tensor, list[str], Contract]:
    """Inputs, targets and subjects of the cases of the domains, whole subjects drawn by the seed, and the contract."""
    dataset = Dataset.open(arguments.data)
    contract = dataset.default_contract(arguments.domain[0], size=arguments.size)
    inputs, targets, subjects = [], [], []
    for name in arguments.domain:
        domain = dataset.domain(name, contract)
        for split in ("train", "val", "test"):
            for x, y in domain.batches(split, 32):
                inputs.append(x)
                targets.append(y)
            subjects += [f"{name} {case.subject}" for case in domain.cases(split)]
    order = np.random.default_rng(arguments.seed).permutation(np.unique(subjects))
    sizes = np.cumsum([subjects.count(name) for name in order])
    drawn = set(order[sizes <= (arguments.cases or len(subjects))])
    kept = [place for place, name in enumerate(subjects) if name in drawn]
    return torch.cat(inputs)[kept], torch.cat(targets)[kept], [subjects[place] for place in kept], contract


def halves(subjects: list[str], models: int, seed: int) -> NDArray[np.bool_]:
    """Who is in the training data of which model, `(models, cases)`: each subject in half of the models."""
    names, whose = np.unique(subjects, return_inverse=True)
    rng = np.random.default_rng(seed)
    chosen = np.stack([rng.permutation(models) < models // 2 for _ in names], axis=1)
    return np.asarray(chosen[:, whose])


def losses(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and confidence (log-odds of the true class) of one case, each a mean over pixels that count."""
    log_p = output.log_softmax(dim=1).movedim(1, -1).reshape(-1, output.shape[1])
    flat = target.reshape(-1)
    log_p, flat = log_p[flat != IGNORED], flat[flat != IGNORED]
    true = log_p.gather(1, flat[:, None])[:, 0].double()
    return -true.mean(), (true - torch.log(-torch.expm1(true.clamp(max=-1e-9)))).mean()


def statistics(release: Release, inputs: Tensor, targets: Tensor) -> dict[str, Scores]:
    """What an attacker computes of every case, by attack; high for what looks like a member."""
    model: nn.Module = release.model
    names, parameters = zip(*model.named_parameters(), strict=True)
    kept = {key: [one.latest[name] for name in names] for key, one in release.memory.measures.items()}
    found: dict[str, list[float]] = {}
    with evaluation_mode(model):
        for x, y in zip(inputs, targets, strict=True):
            output = model(x[None])
            loss, confidence = losses(output, y[None])
            gradient = torch.autograd.grad(loss, parameters, retain_graph=True)
            pixels = output[0].numel() / output.shape[1]
            sensitivity = torch.autograd.grad(output.square().sum() / pixels, parameters)
            squared = [g.square() for g in gradient]
            row = {
                "loss": -float(loss.detach()),
                "confidence": float(confidence.detach()),
                "gradient": -float(sum(g.sum() for g in squared)),
                "fisher": cosine(squared, kept["fisher"]),
                "mas": cosine([g.abs() for g in sensitivity], kept["mas"]),
                "fisher norm": -float(sum((g * f).sum() for g, f in zip(squared, kept["fisher"], strict=True))),
            }
            for name, value in row.items():
                found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


def cosine(a: list[Tensor], b: list[Tensor]) -> float:
    """Of two lists of tensors as one vector each."""
    product = sum(float((x * y).sum()) for x, y in zip(a, b, strict=True))
    lengths = [sum(float(x.square().sum()) for x in one) ** 0.5 for one in (a, b)]
    return product / max(lengths[0] * lengths[1], 1e-30)


def calibrated(values: Scores, members: NDArray[np.bool_], target: int) -> Scores:
    """The log-likelihood ratio of each case for one target by the other models; arguments are `(models, cases)`."""
    others = np.arange(len(values)) != target
    shadow, inside = values[others], members[others]
    mean, deviation = {}, {}
    for state in (True, False):
        chosen = np.where(inside == state, shadow, np.nan)
        mean[state] = np.nanmean(chosen, axis=0)
        deviation[state] = float(np.sqrt(np.nanmean(np.square(chosen - mean[state])))) + 1e-12
    x = values[target]
    return np.asarray(
        stats.norm.logpdf(x, mean[True], deviation[True]) - stats.norm.logpdf(x, mean[False], deviation[False])
    )


def auc_and_rate(scores: Scores, members: NDArray[np.bool_]) -> tuple[float, float]:
    """AUC, and the true-positive rate at the threshold that 1 % of non-members pass."""
    ranks = stats.rankdata(scores)
    n, m = int(members.sum()), int((~members).sum())
    auc = (ranks[members].sum() - n * (n + 1) / 2) / (n * m)
    threshold = np.sort(scores[~members])[::-1][int(FALSE_POSITIVES * m)]
    return float(auc), float((scores[members] > threshold).mean())


def interval(values: list[float]) -> dict[str, float]:
    """Mean and 95 % t interval."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return {"mean": mean, "low": mean - reach, "high": mean + reach}


def attacked(found: list[dict[str, Scores]], members: NDArray[np.bool_]) -> dict[str, dict[str, dict[str, float]]]:
    """By attack its AUC and rate over all targets."""
    table = {name: np.stack([one[name] for one in found]) for name in found[0]}
    # a gradient's norm is spread over decades
    table |= {name: -np.log(-np.minimum(table[name], -1e-30)) for name in ("gradient", "fisher norm")}
    results: dict[str, list[tuple[float, float]]] = {}
    for target in range(len(found)):
        raw = {name: table[name][target] for name in table if name != "confidence"}
        ratios = {name: calibrated(table[name], members, target) for name in table if name != "loss"}
        ratios["loss"] = ratios.pop("confidence")
        scores = raw | {f"{name}, calibrated": ratio for name, ratio in ratios.items()}
        scores["loss and gradient, calibrated"] = ratios["loss"] + ratios["gradient"]
        scores["loss and memory, calibrated"] = ratios["loss"] + ratios["fisher"] + ratios["mas"]
        for name, score in scores.items():
            results.setdefault(name, []).append(auc_and_rate(score, members[target]))
    return {
        name: {"auc": interval([a for a, _ in one]), "tpr": interval([b for _, b in one])}
        for name, one in results.items()
    }


def one_model(arguments: argparse.Namespace, number: int) -> dict[str, Scores]:
    """Trains one model on its half, and computes of every case what an attacker would."""
    inputs, targets, subjects, contract = pool(arguments)
    inside = torch.from_numpy(halves(subjects, arguments.models, arguments.seed)[number])
    changes = {"epochs": arguments.epochs, "learning_rate": arguments.learning_rate, "patience": None}
    recipe = recipe_for(contract, "base").model_copy(
        update={**changes, "augmentation": False, "seed": arguments.seed * 100 + number}
    )
    half = Half(inputs[inside], targets[inside], contract)
    spec = NetworkSpec(factory=arguments.network, arguments=json.loads(arguments.arguments))
    return statistics(train(spec, half, recipe=recipe, measures=(MAS(), Fisher())), inputs, targets)


def main() -> None:
    """Trains, attacks, and writes what came out."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--domain", nargs="+", required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--network", default="monai:ResNet")
    options.add_argument(
        "--arguments", default='{"block": "basic", "layers": [1,1,1,1], "block_inplanes": [16,32,64,128]}'
    )
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--cases", type=int, help="at most so many; all if left out")
    options.add_argument("--models", type=int, default=8)
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--learning-rate", type=float, default=1e-3)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--jobs", type=int, default=1, help="models at once")
    arguments = options.parse_args()
    inputs, _, subjects, _ = pool(arguments)
    members = halves(subjects, arguments.models, arguments.seed)
    if arguments.jobs == 1:
        found = [one_model(arguments, number) for number in range(arguments.models)]
    else:
        with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as processes:
            found = list(processes.map(one_model, [arguments] * arguments.models, range(arguments.models)))
    fit = [
        [-float(one["loss"][state].mean()) for state in (inside, ~inside)]
        for one, inside in zip(found, members, strict=True)
    ]
    results = attacked(found, members)
    facts = {
        "cases": len(inputs),
        "subjects": len(set(subjects)),
        "models": arguments.models,
        "fit": np.mean(fit, axis=0).tolist(),
    }
    settings = {key: str(value) for key, value in vars(arguments).items() if key not in ("data", "out", "jobs")}
    arguments.out.write_text(json.dumps({"settings": settings, **facts, "attacks": results}, indent=1) + "\n")
    for name, one in results.items():
        words = [
            f"{key} {one[key]['mean']:.3f} [{one[key]['low']:.3f}, {one[key]['high']:.3f}]" for key in ("auc", "tpr")
        ]
        print(f"{name:34}", *words)  # noqa: T201


if __name__ == "__main__":
    try:
        main()
    except PerdureError as error:
        sys.exit(f"error: {error}")
