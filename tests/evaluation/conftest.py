"""Scores of a small line of releases, made from the numbers that a test wants to see again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from perdure.evaluation import Header, ScoredRelease, Scores, SurfaceDistances, domain_rows, segmentation_rows

MakeScores = Callable[..., Scores]


def header(
    domains: Sequence[str],
    learnt: int | None = None,
    prefix: str = "r",
    task: str = "segmentation",
    foreground: int = 2,
) -> Header:
    learnt = len(domains) if learnt is None else learnt
    names = ["background", *(f"s{k}" for k in range(1, foreground + 1))]
    return Header.model_validate(
        {
            "task": task,
            "split": "test",
            "releases": [
                ScoredRelease(
                    id=f"{prefix}{i}", name=f"after-{domain}", domain=domain, parent=f"{prefix}{i - 1}" if i else None
                )
                for i, domain in enumerate(domains[:learnt])
            ],
            "domains": tuple(domains),
            "structures": tuple(names),
            "created": datetime(2026, 1, 1, tzinfo=UTC),
        }
    )


@pytest.fixture
def dice_scores() -> MakeScores:
    """Makes scores from Dice `(releases, domains, subjects, structures)`, one case a subject, background 1."""

    def make(values: np.ndarray, prefix: str = "r") -> Scores:
        values = np.asarray(values, dtype=float)
        releases, domains, subjects, structures = values.shape
        names = [f"d{j + 1}" for j in range(domains)]
        head = header(names, releases, prefix, foreground=structures)
        rows = [
            segmentation_rows(
                f"{prefix}{i}",
                names[j],
                f"subject{s}",
                f"case{s}",
                head.structures,
                np.concatenate([[1.0], values[i, j, s]]),
            )
            for i in range(releases)
            for j in range(domains)
            for s in range(subjects)
        ]
        return Scores(head, pl.concat(rows))

    return make


@pytest.fixture
def distance_scores() -> MakeScores:
    """Makes scores of one release with Dice and distances `(domains, subjects, structures)`, ASSD half of HD95."""

    def make(dice: np.ndarray, hd95: np.ndarray, unit: str = "mm") -> Scores:
        dice, hd95 = np.asarray(dice, float), np.asarray(hd95, float)
        names = [f"d{j + 1}" for j in range(len(dice))]
        head = header(names, 1, foreground=dice.shape[2]).model_copy(update={"unit": unit})
        rows = []
        for j, s in np.ndindex(dice.shape[:2]):
            far = np.concatenate([[np.nan], hd95[j, s]])
            distances = SurfaceDistances(hd95=far, assd=far / 2)
            overlap = np.concatenate([[1.0], dice[j, s]])
            rows.append(
                segmentation_rows("r0", names[j], f"subject{s}", f"case{s}", head.structures, overlap, distances)
            )
        return Scores(head, pl.concat(rows))

    return make


@pytest.fixture
def kappa_scores() -> MakeScores:
    """Makes scores from kappa `(releases, domains)`."""

    def make(values: np.ndarray) -> Scores:
        names = [f"d{j + 1}" for j in range(values.shape[1])]
        rows = [
            domain_rows(f"r{i}", names[j], {"kappa": float(values[i, j])})
            for i in range(values.shape[0])
            for j in range(values.shape[1])
        ]
        return Scores(header(names, len(values), task="classification"), pl.concat(rows))

    return make
