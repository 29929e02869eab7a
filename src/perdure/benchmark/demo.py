"""The whole story on simulated scanners."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from perdure.benchmark.sequence import updated_in_turn
from perdure.data import Dataset
from perdure.data.phantom import write_dataset
from perdure.evaluation import Predictor, TrainTestMatrix, evaluate, train_test_matrix
from perdure.evidence.page import MethodEvidence, Provenance, SliceEvidence, write_page
from perdure.importance import MAS
from perdure.methods import finetune, mas_lr
from perdure.models import NetworkSpec
from perdure.update import Recipe, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.data import FolderDomain
    from perdure.release import Release
    from perdure.update.loop import Progress

SPACING = 2.5
NETWORK = NetworkSpec(factory="quicknat", arguments={"filters": 8, "kernel_size": 3})
# found on validation scans so that all of it ends in a few minutes on two cores
BASE = Recipe(epochs=8, batch_size=5, clip_norm=1.0)
LATER = Recipe(epochs=9, batch_size=5, learning_rate=0.025, clip_norm=1.0)


@dataclass(frozen=True, eq=False)
class Story:
    """What the demo found.

    Args:
        page: the page with figures.
        matrices: by method.
    """

    page: Path
    matrices: dict[str, TrainTestMatrix]


def run_demo(out: Path, *, seed: int = 0, progress: Progress) -> Story:
    """Trains a base on one simulated scanner, updates it to three others by two methods, and writes a page.

    Args:
        out: data, releases, scores and page go here; what is there already is not made again.
        seed: of everything random.
        progress: told after every step.
    """
    torch.set_num_threads(1)  # on networks this small a second thread costs more than it brings
    folder = write_dataset(
        out / "data", spacing_mm=SPACING, seed=seed, progress=lambda d, t: progress("simulating scans", d, t, None)
    )
    dataset = Dataset.open(folder)
    cache = out / "cache"
    contract = dataset.default_contract(dataset.domains[0], cache=cache)
    domains = [dataset.domain(name, contract, cache=cache) for name in dataset.domains]
    base_recipe, later_recipe = (recipe.model_copy(update={"seed": seed}) for recipe in (BASE, LATER))
    name = f"base, {domains[0].name}"
    base = train(
        NETWORK,
        domains[0],
        recipe=base_recipe,
        measures=(MAS(),),
        out=out / "releases" / "base",
        progress=lambda what, done, total, loss: progress(f"{name}: {what}", done, total, loss),
    )
    matrices, evidence = {}, []
    for method in (finetune(), mas_lr()):
        releases = updated_in_turn(base, domains, method, later_recipe, out / "releases", None, progress)
        say = partial(_scoring, progress, method.name)
        scores = evaluate(releases, domains, progress=say)
        scores.write(out / f"scores-{method.name}.parquet")
        matrices[method.name] = train_test_matrix(scores, "dice")
        slices = tuple(_slice(releases, domains, place) for place in range(len(domains)))
        evidence.append(MethodEvidence(method.name, matrices[method.name], _sentence(method.summary), slices))
    page = out / "index.html"
    _write(page, evidence, [structure.name for structure in contract.structures], base, seed)
    return Story(page, matrices)


def _scoring(progress: Progress, method: str, done: int, total: int) -> None:
    progress(f"{method}: scoring", done, total, None)


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _slice(releases: Sequence[Release], domains: Sequence[FolderDomain], place: int) -> SliceEvidence:
    """The slice with most structure of a domain's first test case: right after it was learnt, and at the end."""
    case = domains[place].cases("test")[0]
    middle = int(case.foreground()[:, 0].argmax())
    before, after = (
        Predictor(release).classes_on_network_grid(case.image[middle : middle + 1])[0].T
        for release in (releases[place], releases[-1])
    )
    # transposed, a coronal slice of "LIA" stands upright: down is inferior
    return SliceEvidence(
        domain=case.domain,
        image=np.asarray(case.image[middle, 0]).T,
        truth=np.asarray(case.target[middle]).T,
        before=before,
        after=after,
        caption=f"subject {case.subject}, slice {middle}",
    )


def _write(page: Path, evidence: Sequence[MethodEvidence], structures: Sequence[str], base: Release, seed: int) -> None:
    write_page(
        page,
        title="Four scanners, one model",
        introduction=(
            "A small QuickNAT learnt to segment brain tissue on scanner 1 and was then updated to scanners 2, 3 and 4 "
            "in turn, each time from one annotated scan and without the earlier scans: once simply trained on "
            "(finetune), once with important parameters slowed down (mas-lr)."
        ),
        notice="Simulated scans: the numbers show how the tool works and say nothing about real scanners.",
        methods=evidence,
        structures=structures,
        provenance=Provenance(
            command=f"perdure demo --seed {seed}",
            seeds=(seed,),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=base.identity.versions,
            further={
                "network": f"{base.identity.network.factory} {base.identity.network.arguments}",
                "platform": platform.platform(terse=True),
            },
        ),
    )
