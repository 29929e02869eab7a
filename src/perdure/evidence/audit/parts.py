"""Do recipe, method, measures, training and counts in `release.json` hold what such things have, and nothing else?

To a reader of JSON these parts may hold anything. Here each is made again from what it says, by the code that wrote it:
a recipe is a `Recipe`, the settings of a measure are those of the measure that they name. So neither an image in nested
lists nor a row for each patient fits in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from perdure.errors import MethodError
from perdure.evidence.audit.objection import IDENTITY, Kind, Objection
from perdure.importance import measure_from
from perdure.methods import Method
from perdure.methods.composition import TEXTS
from perdure.methods.method import OURS
from perdure.methods.registry import built_in
from perdure.regularization import form_from
from perdure.release import Identity
from perdure.types import SPLITS, Value
from perdure.update import Recipe
from perdure.update.intensities import LEVELS
from perdure.update.rates import Trial
from perdure.update.run_folder import Epoch

REMOVE = "Remove it where the release is made, and make the release again; its id and hashes cover this file."

_MOST_SAMPLES = 100_000
"""Samples of one case: a volume has thousands of slices or patches at most."""
_DECIMALS = 6
"""Of kept intensities, see `update.intensities`."""

Share = Annotated[float, Field(ge=0, le=1)]


class _Interpolated(Value):
    """What `update --retain` says of itself."""

    retain: Share
    candidate: str
    importance: Literal["candidate's", "measured anew"]


class _Training(Value):
    """What happened in training, see `Identity`; `adopt` says how many samples it measured."""

    epochs: tuple[Epoch, ...] = ()
    kept_epoch: int | None = Field(default=None, ge=1)
    precision: Literal["32-true", "bf16-mixed"] | None = None
    mean_step_share: Share | None = None
    fixed_share: Share | None = None
    frozen_share: Share | None = None
    note: str | None = None
    report: dict[str, float | None] = Field(default_factory=dict, max_length=8)
    rates: tuple[Trial, ...] = Field(default=(), max_length=16)
    interpolated: _Interpolated | None = None
    asked_batch_size: int | None = Field(default=None, ge=1)
    samples_measured: int | None = Field(default=None, ge=1)


def part_objections(identity: Identity) -> Iterator[Objection]:
    """Objections to what the parts hold that another room fills in.

    Args:
        identity: of the release.
    """
    yield from _recipe(identity)
    yield from _method(identity)
    yield from _measures(identity)
    yield from _training(identity)
    yield from _contract(identity)
    yield from _domains(identity)


def strict_problems(error: ValidationError, place: str) -> Iterator[Objection]:
    """An objection to each thing that does not have the form of its field.

    Args:
        error: of a strict validation.
        place: where what was validated stands.
    """
    for problem in error.errors(include_url=False):
        where = ".".join(str(step) for step in (*filter(None, [place]), *problem["loc"]))
        if problem["type"] == "extra_forbidden":
            yield _objection("key", where, "a key that a release does not have")
        else:
            yield _objection("form", where, str(problem["msg"]))


def _recipe(identity: Identity) -> Iterator[Objection]:
    try:
        Recipe.model_validate_json(json.dumps(identity.recipe), strict=True)
    except ValidationError as error:
        yield from strict_problems(error, "recipe")


def _method(identity: Identity) -> Iterator[Objection]:
    said = identity.method
    if set(said) == {"name"}:
        if said["name"] != identity.origin:
            yield _objection("form", "method.name", f"another than the origin, {identity.origin}")
        return
    kinds = {**dict.fromkeys((*TEXTS, "by"), str), "needs_dropout": bool}
    if wrong := [name for name, kind in kinds.items() if name in said and not isinstance(said[name], kind)]:
        yield _objection("form", f"method.{wrong[0]}", "another type than this field has")
        return
    if said.get("by") == OURS and said.get("name") not in built_in():
        yield _objection("form", "method.name", "no method of Perdure, and it says that it is one")
    try:
        importance, regularizer = said.get("importance"), said.get("regularizer")
        method = Method(
            **{
                **said,
                "importance": None if importance is None else measure_from(_table(importance)),
                "regularizer": form_from(_table(regularizer)),
            }
        )
    except (MethodError, TypeError):
        yield _objection("form", "method", "no method that Perdure can make again from what stands there")
        return
    if not _is_in(said, method.record()):
        yield _objection("form", "method", "other fields or settings than such a method has")


def _measures(identity: Identity) -> Iterator[Objection]:
    for key, one in identity.measures.items():
        place = f"measures.{key}.settings"
        try:
            measure = measure_from(one.settings)
        except (MethodError, TypeError):
            yield _objection("form", place, "no measure that Perdure can make again from what stands there")
            continue
        if not _is_in(one.settings, measure.settings()):
            yield _objection("form", place, "other settings than such a measure has")
        if measure.key != key:
            yield _objection("form", f"measures.{key}", "another name than such a measure has")
        if one.domains > len(identity.domains):
            found = f"{one.domains} domains; the release has learnt {len(identity.domains)}"
            yield _objection("form", f"measures.{key}.domains", found)
        most = sum(seen.counts.samples.get("train", 0) for seen in identity.domains)
        if one.samples > most:
            yield _objection("form", f"measures.{key}.samples", f"{one.samples}; all training samples are {most}")


def _training(identity: Identity) -> Iterator[Objection]:
    said = identity.training
    try:
        training = _Training.model_validate_json(json.dumps(said), strict=True)
    except ValidationError as error:
        yield from strict_problems(error, "training")
        return
    epochs, most = training.epochs, identity.recipe.get("epochs")
    if isinstance(most, int) and len(epochs) > most:
        yield _objection("form", "training.epochs", f"{len(epochs)} epochs; the recipe has {most}")
    if [one.epoch for one in epochs] != list(range(1, len(epochs) + 1)):
        yield _objection("form", "training.epochs", "epochs that are not numbered from 1 on")
    if training.kept_epoch is not None and training.kept_epoch > len(epochs):
        yield _objection("form", "training.kept_epoch", f"an epoch after the last, {len(epochs)}")


def _contract(identity: Identity) -> Iterator[Objection]:
    contract = identity.contract
    for name in ("mean", "std"):
        values: Sequence[float] | None = getattr(contract.intensity, name)
        if values is not None and len(values) != contract.channels:
            found = f"{len(values)} numbers; there are {contract.channels} channels"
            yield _objection("form", f"contract.intensity.{name}", found)
    values = [value for structure in contract.structures for value in structure.values]
    if len(set(values)) != len(values):
        yield _objection("form", "contract.structures", "a value that means two structures, or one twice")


def _domains(identity: Identity) -> Iterator[Objection]:
    if len(identity.domains) != len(identity.lineage) + 1:
        found = f"{len(identity.domains)} domains after {len(identity.lineage)} earlier releases"
        yield _objection("form", "domains", f"{found}; each release learns one")
    for number, seen in enumerate(identity.domains):
        counts, place = seen.counts, f"domains.{number}"
        for split in SPLITS:
            subjects, cases, samples = (part.get(split, 0) for part in (counts.subjects, counts.cases, counts.samples))
            if not 0 <= subjects <= cases or not 0 <= samples <= cases * _MOST_SAMPLES:
                found = f"{subjects} subjects, {cases} cases and {samples} samples to {split}"
                yield _objection("form", f"{place}.counts", f"{found}, which cannot be")
        if seen.intensities is not None and not _are_shares(seen.intensities, identity.contract.channels):
            found = f"other than {identity.contract.channels} x {LEVELS} shares from 0 to 1, none below the one before"
            yield _objection("form", f"{place}.intensities", found)


def _are_shares(rows: Sequence[Sequence[float]], channels: int) -> bool:
    """Whether rows are distribution functions as `update.intensities` gives them."""
    return len(rows) == channels and all(
        len(row) == LEVELS
        and all(0 <= value <= 1 and round(value, _DECIMALS) == value for value in row)
        and list(row) == sorted(row)
        for row in rows
    )


def _is_in(said: Any, made: Any) -> bool:
    """Whether all that stands there is what was made of it; a setting that came later may be missing."""
    if isinstance(said, Mapping) and isinstance(made, Mapping):
        return all(name in made and _is_in(value, made[name]) for name, value in said.items())
    return bool(said == made)


def _table(settings: Any) -> Mapping[str, Any]:
    if not isinstance(settings, Mapping):
        raise MethodError(f"{type(settings).__name__} where a table of settings stands.")
    return settings


def _objection(kind: Kind, field: str, found: str) -> Objection:
    why = "Only what is listed can be vouched for."
    return Objection(kind=kind, file=IDENTITY, field=field, found=found, why=why, what_to_do=REMOVE)
