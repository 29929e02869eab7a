"""The whole story on simulated scanners."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from perdure.benchmark.config import PLAIN, Config, Entry, NetworkSection
from perdure.benchmark.plan import Cell, Plan
from perdure.benchmark.store import Store
from perdure.data import Dataset
from perdure.data.phantom import write_dataset
from perdure.evaluation import Predictor, TrainTestMatrix, train_test_matrix
from perdure.evidence.page import MethodEvidence, Provenance, SliceEvidence, write_page
from perdure.importance import MAS
from perdure.methods import finetune, mas_lr
from perdure.update import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.data import FolderDomain
    from perdure.release import Release
    from perdure.update.loop import Progress

SPACING = 2.5
SEQUENCE = "scanners"
METHODS = (finetune(), mas_lr())
NETWORK = NetworkSection(factory="quicknat", arguments={"filters": 8, "kernel_size": 3})
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
    names = Dataset.open(folder).domains
    plan = _plan(folder, out, names, seed)
    store = Store(out, plan, progress)
    # one for both, with the importance that mas-lr needs
    base = store.base(plan.bases()[0], MAS())
    matrices, evidence = {}, []
    for method in METHODS:
        cell = Cell(kind="final", sequence=SEQUENCE, base=PLAIN, seed=seed, label=method.name)
        kept = store.in_turn(cell, names, base)
        scores = store.matrix_scores(kept, names, "test", method.name)
        scores.write(out / f"scores-{method.name}.parquet")
        matrices[method.name] = train_test_matrix(scores, "dice")
        releases, domains = [one.release for one in kept], [plan.domains[name] for name in names]
        slices = tuple(_slice(releases, domains, place) for place in range(len(domains)))
        evidence.append(MethodEvidence(method.name, matrices[method.name], _sentence(method.summary), slices))
    page = out / "index.html"
    _write(page, evidence, [structure.name for structure in plan.contract.structures], base.release, seed)
    return Story(page, matrices)


def _plan(folder: Path, out: Path, domains: Sequence[str], seed: int) -> Plan:
    """The story as a benchmark of two rows and one seed."""
    base, later = (recipe.model_dump(mode="json", exclude={"seed"}) for recipe in (BASE, LATER))
    config = Config(
        name="demo",
        seeds=(seed,),
        sequences={SEQUENCE: tuple(domains)},
        network=NETWORK,
        train=base,
        update=later,
        methods=tuple(Entry(method=method.name) for method in METHODS),
    )
    return Plan(config, out / "demo.toml", folder, cache=out / "cache")


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
