"""One base release, updated from domain to domain by one method."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.data import join
from perdure.update import update

if TYPE_CHECKING:
    from perdure.data import FolderDomain
    from perdure.methods import Method
    from perdure.release import Release
    from perdure.update import Machine, Recipe
    from perdure.update.loop import Progress


def updated_in_turn(
    base: Release,
    domains: Sequence[FolderDomain],
    method: Method,
    recipe: Recipe | None,
    folder: Path,
    machine: Machine | None,
    progress: Progress,
) -> list[Release]:
    """The base release and what became of it after each later domain, in the order of learning.

    Args:
        base: has learnt the first domain.
        domains: all of them, the first one included.
        method: used for every update.
        recipe: used for every update; the default if None.
        folder: releases are written to `<folder>/<method>-<domain>`; those that are there are opened.
        machine: device, processes, precision.
        progress: told after every step.
    """
    releases = [base]
    for place, domain in enumerate(domains[1:], 1):
        past = join(domains[: place + 1], domain.name) if method.data == "cumulative" else None
        releases.append(
            update(
                releases[-1],
                domain,
                method=method,
                recipe=recipe,
                joint_with=past,
                machine=machine,
                out=folder / f"{method.name}-{domain.name}",
                progress=_named(progress, f"{method.name}, {domain.name}"),
            )
        )
    return releases


def _named(progress: Progress, who: str) -> Progress:
    return partial(_told, progress, who)


def _told(progress: Progress, who: str, what: str, done: int, total: int, loss: float | None) -> None:
    progress(f"{who}: {what}", done, total, loss)
