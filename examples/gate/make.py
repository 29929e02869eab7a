"""Makes the workspace of this example: releases, scores and ledger. The scores are drawn, not measured.

Two releases are in use: `first`, for site A, and `second`, which learnt site B. Four candidates learnt site C:

    steady      keeps what it knew, and gains                          ACCEPT
    forgetful   loses lesions of site A                                REJECT
    unsteady    loses nothing on average, but differently in everyone  INCONCLUSIVE
    unplanned   as steady, by a method that the plan does not have     OUTSIDE PLAN

The release folders hold no network that could run: a gate looks at what a release says of itself, and at scores.

    python examples/gate/make.py FOLDER
"""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import save_file

from perdure.evaluation import Header, ScoredRelease, Scores, segmentation_rows
from perdure.evidence.gate.gate import declare
from perdure.evidence.gate.plan import PlanFile
from perdure.evidence.ledger.ledger import Ledger
from perdure.evidence.ledger.recording import record_release, record_scores
from perdure.models import NetworkSpec
from perdure.release import Ancestor, Identity, Seen
from perdure.release.folder import sha256
from perdure.release.release import IDENTITY, with_id
from perdure.types import Contract, Counts, Intensity, Structure

HERE = Path(__file__).parent
STRUCTURES = ("background", "organ", "vessel", "lesion")
SUBJECTS = {"siteA": 24, "siteB": 20, "siteC": 16}
# by candidate: its method, and by domain the mean change and its standard deviation over subjects
CANDIDATES: dict[str, tuple[str, dict[str, tuple[float, float]]]] = {
    "steady": ("mas-lr", {"siteA": (-0.002, 0.01), "siteB": (-0.002, 0.01), "siteC": (0.08, 0.02)}),
    "forgetful": ("ewc", {"siteA": (-0.002, 0.01), "siteB": (-0.002, 0.01), "siteC": (0.09, 0.02)}),
    "unsteady": ("ewc", {"siteA": (0.0, 0.04), "siteB": (-0.002, 0.01), "siteC": (0.08, 0.02)}),
    "unplanned": ("finetune", {"siteA": (-0.002, 0.01), "siteB": (-0.002, 0.01), "siteC": (0.08, 0.02)}),
}


def make(folder: Path) -> None:
    """Writes the workspace; a folder that is there already is refused."""
    folder.mkdir(parents=True)
    shutil.copy(HERE / "PLAN.toml", folder / "PLAN.toml")
    first = release(folder / "first", "siteA", "mas-lr", ())
    second = release(folder / "second", "siteB", "mas-lr", (first,))
    declare(PlanFile.read(folder / "PLAN.toml"), Ledger.beside(folder / "first"))
    rng = np.random.default_rng(0)
    of_first = {site: dice(rng, n, 0.86 if site == "siteA" else 0.8) for site, n in SUBJECTS.items()}
    of_second = {site: moved(rng, values, 0.0, 0.008) for site, values in of_first.items()}
    for name, (method, changes) in CANDIDATES.items():
        made = release(folder / name, "siteC", method, (first, second))
        of_third = {site: moved(rng, of_second[site], *changes[site]) for site in SUBJECTS}
        if name == "forgetful":
            of_third["siteA"][:, 3] -= 0.09
        scored = {"first": (first, of_first), "second": (second, of_second), name: (made, of_third)}
        record(folder, scored, folder / f"{name}.parquet")


def dice(rng: np.random.Generator, subjects: int, mean: float) -> np.ndarray:
    """Dice `(subjects, structures)`; each subject is easy or hard in all of its structures."""
    ease = rng.normal(0, 0.03, (subjects, 1))
    values = mean + ease + rng.normal(0, 0.02, (subjects, len(STRUCTURES)))
    values[:, 0] = 0.99
    return np.clip(values, 0, 1)


def moved(rng: np.random.Generator, values: np.ndarray, mean: float, sd: float) -> np.ndarray:
    """The Dice of a later release; changes have the mean and standard deviation that were asked for."""
    change = rng.normal(size=values.shape)
    change = mean + sd * (change - change.mean(axis=0)) / change.std(axis=0, ddof=1)
    change[:, 0] = 0
    return np.clip(values + change, 0, 1)


def release(folder: Path, domain: str, method: str, line: tuple[Identity, ...]) -> Identity:
    """Writes a release folder and its line in the ledger."""
    folder.mkdir()
    for name in ("weights.safetensors", "memory.safetensors"):
        # a number of its own, because releases with the same tensors would predict alike
        save_file({"nothing": torch.tensor([float(sum(map(ord, folder.name)))])}, folder / name)
    regularizer: dict[str, Any] = {"form": "none"} if method != "ewc" else {"form": "surrogate", "strength": 10.0}
    counts = Counts(
        subjects={"train": 12, "val": 2, "test": SUBJECTS[domain]},
        cases={"train": 12, "val": 2, "test": SUBJECTS[domain]},
        samples={"train": 12, "val": 2, "test": SUBJECTS[domain]},
    )
    seen = (*(line[-1].domains if line else ()), Seen(domain=domain, counts=counts, data="0" * 64))
    ancestors = tuple(
        Ancestor(id=one.id, name=("first", "second")[place], domain=one.domains[-1].domain, method="mas-lr")
        for place, one in enumerate(line)
    )
    identity = Identity(
        created="2026-01-01T00:00:00+00:00",
        origin="updated" if line else "trained",
        network=NetworkSpec(factory="quicknat", arguments={}),
        contract=Contract(
            task="segmentation",
            structures=tuple(Structure(name=name, values=(value,)) for value, name in enumerate(STRUCTURES)),
            channels=1,
            size=(64, 64),
            intensity=Intensity(scaling="format"),
        ),
        domains=seen,
        lineage=ancestors,
        method={"name": method, "by": "perdure", "batch_norm": "target", "regularizer": regularizer},
        recipe={"name": folder.name},
        measures={},
        training={},
        versions={},
        files={name: sha256(folder / name) for name in ("weights.safetensors", "memory.safetensors")},
    )
    identity = with_id(identity)
    (folder / IDENTITY).write_text(identity.model_dump_json(indent=2) + "\n", encoding="utf-8")
    record_release(folder, identity)
    return identity


def record(folder: Path, made: dict[str, tuple[Identity, dict[str, np.ndarray]]], out: Path) -> None:
    """Writes a score file as `perdure evaluate --group sex` would, with its looks in the ledger."""
    known = {identity.id for identity, _ in made.values()}
    releases = [
        ScoredRelease(
            id=identity.id,
            name=name,
            domain=identity.domains[-1].domain,
            parent=next((one.id for one in reversed(identity.lineage) if one.id in known), None),
        )
        for name, (identity, _) in made.items()
    ]
    people = {site: [f"{site}-{number:02d}" for number in range(count)] for site, count in SUBJECTS.items()}
    rows = [
        segmentation_rows(identity.id, site, subject, f"{subject}-t1", STRUCTURES, values[site][number])
        for identity, values in made.values()
        for site in SUBJECTS
        for number, subject in enumerate(people[site])
    ]
    sexes = {site: {subject: "FM"[k % 2] for k, subject in enumerate(people[site])} for site in SUBJECTS}
    header = Header(
        task="segmentation",
        split="test",
        releases=tuple(releases),
        domains=tuple(SUBJECTS),
        structures=STRUCTURES,
        created=datetime.now(UTC),
        groups={"sex": sexes},
    )
    scores = Scores(header, pl.concat(rows))
    folders = {identity.id: folder / name for name, (identity, _) in made.items()}
    record_scores(folders, scores, scores.content(), out)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
