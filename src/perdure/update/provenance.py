"""What a release will say of how it came to be, and the memory that it carries."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import torch

from perdure.errors import MethodError
from perdure.importance import Importance
from perdure.methods import Method, said
from perdure.models import NetworkSpec
from perdure.release import Ancestor, Identity, Memory, Release, Seen
from perdure.release.release import measures_of
from perdure.types import CountsSubjects
from perdure.update.consolidation import consolidate
from perdure.update.intensities import intensities_of
from perdure.update.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor, nn

    from perdure.types import Batch, Domain

LIBRARIES = ("perdure", "torch", "numpy", "monai", "safetensors", "nibabel", "scipy")


def versions() -> dict[str, str]:
    """Of Python and the libraries that decide a result."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def digest_of(state: dict[str, Tensor]) -> str:
    """One SHA-256 over names and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def digest_of_hashes(domain: Domain) -> str:
    """One SHA-256 over the hashes of all training and validation cases of a domain."""
    return hashlib.sha256(json.dumps(dict(sorted(domain.hashes.items()))).encode()).hexdigest()


def measured(
    model: nn.Module,
    domain: Domain,
    recipe: Recipe,
    measures: Sequence[Importance],
    previous: Memory | None,
    fabric: Fabric | None = None,
    watched: Mapping[str, Mapping[str, Any]] | None = None,
) -> Memory:
    """The memory of a model that has just learnt a domain: every measure, averaged into those of the domains before."""
    rank, ranks = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    memory, subjects = previous, _subjects_measured(domain, recipe)
    for measure in measures:
        batches = _importance_batches(domain, recipe, rank, ranks)
        gathered = (watched or {}).get(measure.key)
        memory = consolidate(model, batches, measure, previous=memory, watched=gathered, subjects=subjects)
    if memory is None:
        raise MethodError("A release needs at least one measure of importance, or no method can use it later.")
    return memory


def _importance_batches(domain: Domain, recipe: Recipe, rank: int, ranks: int) -> Iterator[Batch]:
    """Training samples without augmentation: all in order, or the first so many of a seeded order."""
    # as many at once as in training, so that it fits where that did; a multiple of `ranks`, so that process r has the
    # samples r, r + ranks, ... of the order
    size = -(-recipe.batch_size // ranks) * ranks
    if recipe.importance_samples is None:
        return domain.batches("train", size, rank=rank, ranks=ranks)
    batches = domain.batches("train", size, seed=recipe.seed, rank=rank, ranks=ranks)
    return _first(batches, -(-(recipe.importance_samples - rank) // ranks))


def _subjects_measured(domain: Domain, recipe: Recipe) -> int | None:
    """Of how many subjects the samples of `_importance_batches` are; None where the domain cannot say."""
    limit = recipe.importance_samples
    if limit is None or limit >= domain.counts.samples.get("train", 0):
        return domain.counts.subjects.get("train", 0)
    return domain.subjects_drawn(limit, recipe.seed) if isinstance(domain, CountsSubjects) else None


def _first(batches: Iterator[Batch], samples: int) -> Iterator[Batch]:
    while samples > 0 and (batch := next(batches, None)) is not None:
        inputs, target = batch
        yield inputs[:samples], target[:samples]
        samples -= len(inputs)


def identity_of(
    network: NetworkSpec,
    domain: Domain,
    parent: Release | None,
    origin: Literal["trained", "adopted", "updated"],
    method: Method | None,
    recipe: Recipe,
    memory: Memory,
    training: dict[str, Any],
) -> Identity:
    """Everything of the new release that is not a tensor; `training` says what happened."""
    seen = Seen(
        domain=domain.name,
        counts=domain.counts,
        data=digest_of_hashes(domain),
        intensities=intensities_of(domain),
    )
    earlier = () if parent is None else parent.identity.domains
    lineage: tuple[Ancestor, ...] = ()
    if parent is not None:
        ancestor = Ancestor(
            id=parent.id,
            name=parent.name,
            domain=earlier[-1].domain,
            method=said(parent.identity.method),
        )
        lineage = (*parent.lineage, ancestor)
    return Identity(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        origin=origin,
        network=network,
        contract=domain.contract,
        domains=(*earlier, seen),
        lineage=lineage,
        method={"name": origin} if method is None or origin == "trained" else method.record(),
        recipe=recipe.model_dump(mode="json"),
        measures=measures_of(memory),
        training=training,
        versions=versions(),
    )
