"""Measures how often `perdure check` gives the advice that turns out to be right.

    python benchmarks/check_advice.py --data FOLDER --base DOMAIN... --seeds 0 1 2 --out RUN [--network quicknat ...]

For every base domain and seed a small release is trained. Scans of every domain are then checked without their labels:
those of the base domain's own test split should be in contract. For each other domain the labels say what helps, on its
validation cases: no change, statistics estimated anew on its training images, or an update by plain fine-tuning. The
least of these whose score comes within a margin of the best is right. `--releases FOLDER` takes base releases of a
grid's store in place of training them.

Scores are kept in RUN/scores.json and not measured again; RUN/advice.json has one line a base, seed, domain and split.
"""

from __future__ import annotations

import argparse
import json
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from perdure.data import Dataset
from perdure.data.unlabelled import unlabelled_scans
from perdure.errors import PerdureError
from perdure.evaluation import evaluate
from perdure.evaluation.scores import mean_scores
from perdure.evaluation.shift_of_scans import Shifts, shifts
from perdure.evidence.advice import advice
from perdure.importance import Uniform
from perdure.methods import finetune
from perdure.models import NetworkSpec, recalibrate
from perdure.release import Release
from perdure.update import recipe_for, train, update
from perdure.update.intensities import intensities_of

MARGINS = {"dice": 0.02, "kappa": 0.05}
"""What counts as better; our choice, about what two seeds differ by."""


def base_release(arguments: argparse.Namespace, dataset: Dataset, domain: str, seed: int) -> Release:
    """A release of one domain: of the store of a grid, or trained now and kept in the folder of the run."""
    if arguments.releases is not None:
        name = f"base-plain-{domain.replace('_', '-')}-seed{seed}-[0-9a-f]*"
        found = [path for path in sorted(arguments.releases.glob(name)) if not path.name.endswith(".run")]
        if found:
            return Release.open(found[0])
    out = arguments.out / f"base-{domain}-seed{seed}"
    if out.exists():
        return Release.open(out)
    spacing = None if arguments.spacing is None else (arguments.spacing,) * 3
    contract = dataset.default_contract(domain, size=arguments.size, spacing=spacing, merge_sides=arguments.merge_sides)
    recipe = recipe_for(contract, "base").model_copy(update={"seed": seed, "epochs": arguments.epochs})
    network = NetworkSpec(factory=arguments.network, arguments=json.loads(arguments.arguments))
    return train(network, dataset.domain(domain, contract), recipe=recipe, measures=[Uniform()], out=out)


def score(release: Release, domain: Any) -> float:
    """The release's score on validation cases: mean Dice over subjects and structures, or kappa."""
    metric = "dice" if release.contract.task == "segmentation" else "kappa"
    found = mean_scores(evaluate([release], [domain], "val"), metric)
    (value,) = found.values()
    return float("nan") if value is None else value


def scores_by_action(release: Release, dataset: Dataset, name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """The score on one domain's validation cases after each action."""
    domain = dataset.domain(name, release.contract)
    anew = deepcopy(release.model)
    recalibrate(anew, domain.batches("train", 8))
    recipe = recipe_for(release.contract, "update").model_copy(update={"epochs": arguments.update_epochs})
    updated = update(release, domain, method=finetune(), recipe=recipe)
    return {
        "nothing": score(release, domain),
        "recalibrate": score(replace(release, model=anew), domain),
        "update": score(updated, domain),
    }


def with_intensities(release: Release, dataset: Dataset) -> Release:
    """The release with what it would carry today; those of before kept no intensities."""
    *earlier, newest = release.identity.domains
    if newest.intensities is None:
        kept = intensities_of(dataset.domain(newest.domain, release.contract))
        newest = newest.model_copy(update={"intensities": kept})
    return replace(release, identity=release.identity.model_copy(update={"domains": (*earlier, newest)}))


def measured(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """What every action scores, from the file of the run where it stands there already, and what `check` says now."""
    file = arguments.out / "scores.json"
    known: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}
    dataset = Dataset.open(arguments.data)
    rows = []
    for base in arguments.base:
        for seed in arguments.seeds:
            release = with_intensities(base_release(arguments, dataset, base, seed), dataset)
            for domain in dataset.domains:
                key = f"{base} {seed} {domain}"
                if domain != base and key not in known:
                    known[key] = scores_by_action(release, dataset, domain, arguments)
                    arguments.out.mkdir(parents=True, exist_ok=True)
                    file.write_text(json.dumps(known, indent=1))
                for split in ("val", "test"):
                    found = shifts(release, unlabelled_scans(arguments.data, [domain], split))
                    rows.append(row(release, base, seed, domain, split, known.get(key), found))
                    print(*rows[-1].values(), sep=" | ", flush=True)  # noqa: T201
    (arguments.out / "advice.json").write_text(json.dumps(rows, indent=1))
    return rows


def row(
    release: Release, base: str, seed: int, domain: str, split: str, scores: dict[str, float] | None, found: Shifts
) -> dict[str, Any]:
    """One line of the table."""
    said, nearest = advice(found, release.contract.task), found.domains[0]
    right = "nothing" if scores is None else helps(scores, release.contract.task)
    return {
        "base": base, "seed": seed, "scans": domain, "split": split, "subjects": found.subjects,
        "distance": None if nearest.distance is None else round(nearest.distance, 3),
        "p": nearest.p,
        "intensities": None if nearest.intensities is None else round(nearest.intensities.distance, 3),
        "state": said.state, "suggestion": said.suggestion, "right": right,
        **{name: round(value, 3) for name, value in (scores or {}).items()},
    }  # fmt: skip


def helps(scores: dict[str, float], task: str) -> str:
    """The least action whose score comes within the margin of the best."""
    margin = MARGINS["dice" if task == "segmentation" else "kappa"]
    best = max(scores.values())
    return next(action for action in ("nothing", "recalibrate", "update") if scores[action] >= best - margin)


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--base", nargs="+", required=True)
    options.add_argument("--seeds", nargs="+", type=int, default=[0])
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--releases", type=Path)
    options.add_argument("--network", default="quicknat")
    options.add_argument("--arguments", default='{"filters": 8, "kernel_size": 3}')
    options.add_argument("--size", type=int)
    options.add_argument("--spacing", type=float)
    options.add_argument("--merge-sides", action="store_true")
    options.add_argument("--epochs", type=int, default=60)
    options.add_argument("--update-epochs", type=int, default=15)
    return options


def main() -> None:
    """Measures what is not measured yet."""
    measured(parser().parse_args())


if __name__ == "__main__":
    try:
        main()
    except PerdureError as error:
        sys.exit(f"error: {error}")
