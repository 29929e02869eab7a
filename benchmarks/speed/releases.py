"""Releases of networks with random weights, as a vendor's would be in size."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from memories import memory_of
from torch import nn

from perdure.importance import Importance
from perdure.models import NetworkSpec
from perdure.release import Identity, Memory, Release, Seen
from perdure.release.release import measures_of, with_id
from perdure.types import Contract, Counts, Intensity, Structure
from perdure.update.provenance import versions


def volumes(pixels: int = 256, classes: int = 33) -> Contract:
    """Coronal slices of volumes of 1 mm."""
    return _contract(
        classes, task="segmentation", channels=1, size=(pixels, pixels), orientation="LIA", spacing=(1.0, 1.0, 1.0),
        view="coronal", intensity=Intensity(scaling="robust"),
    )  # fmt: skip


def pictures(pixels: int = 224, classes: int = 4) -> Contract:
    """Pictures in colour, one class each."""
    return _contract(
        classes, task="classification", channels=3, size=(pixels, pixels), resize="stretch",
        intensity=Intensity(scaling="format"),
    )  # fmt: skip


def release_of(model: nn.Module, contract: Contract, measures: Sequence[Importance] = (), domains: int = 1) -> Release:
    """A release that is not on a disk yet.

    Args:
        model: its network.
        contract: what it expects.
        measures: which importance it carries; numbers stand in for what they would find.
        domains: how many it has learnt.
    """
    memory = Memory({}, {})
    for measure in measures:
        one = memory_of(model, measure, domains)
        memory = Memory(one.anchor, {**memory.measures, **one.measures}, one.statistics, axes=one.axes)
    counts = Counts(subjects={"train": 64}, cases={"train": 64}, samples={"train": 64})
    spec = model.network_spec
    assert isinstance(spec, NetworkSpec)
    identity = Identity(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        origin="trained",
        network=spec,
        contract=contract,
        domains=tuple(Seen(domain=f"site-{k}", counts=counts, data="0" * 64) for k in range(domains)),
        method={"name": "trained"},
        recipe={},
        measures=measures_of(memory),
        training={},
        versions=versions(),
    )
    return Release(model.eval(), memory, with_id(identity), "benchmark")


def _contract(classes: int, **fields: Any) -> Contract:
    structures = tuple(Structure(name=f"structure{k}", values=(k,)) for k in range(classes))
    return Contract(structures=structures, modality="simulated", **fields)
