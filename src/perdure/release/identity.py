"""What a release says about itself, as it stands in `release.json`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from perdure.models import NetworkSpec
from perdure.release.recorded import MeasureRecord, MethodRecord, RecipeRecord, TrainingRecord
from perdure.types import Contract, Counts, Value


def _without(fields: dict[str, Any], absent: str) -> dict[str, Any]:
    """A field that is None left out, not null: the ids of earlier releases cover what stands in them."""
    return {name: value for name, value in fields.items() if name != absent or value is not None}


class Seen(Value):
    """One domain that the release has learnt.

    Args:
        domain: its name.
        counts: subjects, cases and samples per split.
        data: one SHA-256 over the hashes of all its cases; says which data, reveals none.
        intensities: the distribution of its scaled intensities, a row a channel, see `perdure.update.intensities`; None
            where the domain is too small for it to be kept, and in releases from before it was.
    """

    domain: str
    counts: Counts
    data: str
    intensities: tuple[tuple[float, ...], ...] | None = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(handler(self), "intensities")


class Ancestor(Value):
    """One earlier release of the line, the first one first.

    Args:
        id: its id.
        name: its folder's name when it was updated.
        domain: the domain that it had learnt last.
        method: how.
    """

    id: str
    name: str
    domain: str
    method: str


class Measure(Value):
    """One measure of importance in the memory, see `perdure.release.Accumulated`."""

    domains: int = Field(ge=1)
    samples: int = Field(ge=0)
    subjects: int | None = Field(default=None, ge=0)
    offset: float = 0.0
    settings: MeasureRecord

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(handler(self), "subjects")


class Identity(Value):
    """Everything of a release that is not a tensor.

    Args:
        format: version of the layout.
        id: SHA-256 over everything else in this file; the name of this release in the lineage of others.
        created: UTC, ISO 8601.
        origin: whether the network was trained here, adopted from elsewhere, or updated from a parent release.
        network: how to build it.
        contract: what it expects of its input.
        domains: what it has learnt, oldest first.
        lineage: the releases it comes from, first one first; empty for a base release.
        method: how it was made, see `perdure.methods.Method.record`.
        recipe: how it was trained.
        measures: what its memory holds.
        training: what happened: epochs, losses, share of the steps that importance left, report of the form.
        versions: of the libraries.
        files: SHA-256 of every other file.
    """

    format: Literal[1] = 1
    id: str = ""
    created: str
    origin: Literal["trained", "adopted", "updated"]
    network: NetworkSpec
    contract: Contract
    domains: tuple[Seen, ...] = Field(min_length=1)
    lineage: tuple[Ancestor, ...] = ()
    method: MethodRecord
    recipe: RecipeRecord
    measures: dict[str, Measure]
    training: TrainingRecord
    versions: dict[str, str]
    files: dict[str, str] = Field(default_factory=dict)
