"""Several runs in one pair of processes, because starting a pair takes longer than a small run.

Here and not in a test, because processes that are spawned have to import it by name.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perdure.methods import Method
from perdure.release import Release
from perdure.types import Domain
from perdure.update import Machine, Recipe, update
from perdure.update.job import _Worker
from perdure.update.launch import launch
from perdure.update.run_folder import RunFolder

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Each:
    """One piece of work after the other, in each process."""

    def __init__(self, pieces: list[_Worker]) -> None:
        self.pieces = pieces

    def __call__(self, fabric: Fabric) -> None:
        for piece in self.pieces:
            piece(fabric)


def by_two_processes(
    base: Release, domain: Domain, methods: Mapping[str, Method], recipe: Recipe, out: Path
) -> dict[str, Path]:
    """What `update(..., machine=Machine(devices=2))` makes of each method: by name, the folder of its release."""
    machine, jobs = Machine(devices=2), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[update.__module__], "run_job", lambda job, _, **how: jobs.append(job))
        for method in methods.values():
            update(base, domain, method=method, recipe=recipe, machine=machine)
    folders = {name: out / name for name in methods}
    pieces: list[Any] = [
        _Worker(job, RunFolder(folder.with_name(f"{folder.name}.run"), job.identity()), folder)
        for job, folder in zip(jobs, folders.values(), strict=True)
    ]
    launch(machine.fabric(), Each(pieces))
    return folders
