from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass

import pytest

from perdure.errors import MethodError
from perdure.importance import MAS, Scaling
from perdure.methods import Method, built_in, mas_lr
from perdure.regularization import Regularizer, Unrestrained


@pytest.mark.parametrize("name", built_in())
def test_the_record_of_every_method_of_ours_is_json(name: str) -> None:
    record = built_in()[name]().record()
    assert json.loads(json.dumps(record)) == record
    assert record["name"] == name
    assert record["source"]
    assert record["summary"]


def test_the_record_names_the_classes_and_all_settings() -> None:
    assert mas_lr("kernel", "original").record() == {
        "name": "mas-lr",
        "source": "ozgun2020importance",
        "summary": "slows each filter down by its importance to the earlier domains",
        "importance": {"class": "MAS", "output": "softmax"},
        "regularizer": {"class": "LearningRate"},
        "scaling": {"outliers": "clip", "range": "unit", "scope": "network"},
        "granularity": "kernel",
        "batch_norm": "original",
        "data": "target",
    }


def test_the_record_of_somebody_elses_parts_holds_their_settings() -> None:
    @dataclass(frozen=True)
    class Anchored(Regularizer):
        strength: float = 0.5

    method = Method("anchored", "us", "pulls back", MAS("logits"), Anchored(2.0), Scaling(scope="layer"))
    record = method.record()
    assert record["regularizer"] == {"class": "Anchored", "strength": 2.0}
    assert record["importance"] == {"class": "MAS", "output": "logits"}


def test_a_method_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        mas_lr().batch_norm = "original"


@pytest.mark.parametrize("setting", ["granularity", "batch_norm", "data"])
def test_a_misspelt_setting_is_refused(setting: str) -> None:
    """`batch_norm="orginal"` must not quietly train with target statistics."""
    with pytest.raises(MethodError, match=f"`{setting}` must be one of '.*'; got 'orginal'"):
        Method("mine", "us", "", None, Unrestrained(), **{setting: "orginal"})
