"""Which form must the records of method, recipe and training have, that a release and a run folder keep as they were?

Each may hold more than stands here: what a later version, or a method of somebody else, has to say. What stands here is
what readers rely on, so that a file which says otherwise is refused when it is read and not wherever it is used.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Form(_Record):
    form: str
    strength: float | str | None = None
    fraction: float | None = None


class _Measure(_Record):
    measure: str | None = None


class _Method(_Record):
    name: str = ""
    by: str = ""
    data: str | None = None
    granularity: str | None = None
    batch_norm: str | None = None
    regularizer: _Form | None = None
    importance: _Measure | None = None


class _Recipe(_Record):
    optimizer: str | None = None
    learning_rate: float | None = None
    seed: int | None = None
    epochs: int | None = None
    patience: int | None = None
    importance_samples: int | None = None


class _Epoch(_Record):
    __pydantic_extra__: dict[str, float | None]
    epoch: int
    loss: float
    validation_loss: float | None


class _Trial(_Record):
    rate: float
    validation_loss: float | None


class _Report(_Record):
    __pydantic_extra__: dict[str, float | None]


class _Dial(_Record):
    retain: float


class _Training(_Record):
    epochs: list[_Epoch] = []
    kept_epoch: int = 1
    rates: list[_Trial] = []
    report: _Report | None = None
    mean_step_share: float | None = None
    fixed_share: float | None = None
    frozen_share: float | None = None
    samples_measured: int | None = None
    asked_batch_size: int | None = None
    interpolated: _Dial | None = None


class _Shares(_Record):
    mean_step_share: float
    fixed_share: float


def _method(record: dict[str, Any]) -> dict[str, Any]:
    _Method.model_validate(record)
    return record


def _recipe(record: dict[str, Any]) -> dict[str, Any]:
    _Recipe.model_validate(record)
    return record


def _training(record: dict[str, Any]) -> dict[str, Any]:
    found = _Training.model_validate(record)
    if found.epochs and not 1 <= found.kept_epoch <= len(found.epochs):
        raise ValueError(f"kept_epoch: found {found.kept_epoch}; there are {len(found.epochs)} epochs")
    if found.mean_step_share is not None:
        _Shares.model_validate(record)
    return record


def _measure(record: dict[str, Any]) -> dict[str, Any]:
    _Measure.model_validate(record)
    return record


MethodRecord = Annotated[dict[str, Any], AfterValidator(_method)]
RecipeRecord = Annotated[dict[str, Any], AfterValidator(_recipe)]
TrainingRecord = Annotated[dict[str, Any], AfterValidator(_training)]
MeasureRecord = Annotated[dict[str, Any], AfterValidator(_measure)]
