from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass

import pytest

from perdure.errors import MethodError
from perdure.importance import MAS, Fisher, Scaling
from perdure.methods import Method, built_in, mas_lr
from perdure.regularization import Freezing, LearningRate, Regularizer, SurrogateLoss, Unrestrained


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
        "importance": MAS().settings(),
        "regularizer": {"form": "learning-rate", "power": 1.0, "multiplier": 1.0, "floor": 0.0},
        "granularity": "kernel",
        "batch_norm": "original",
        "trainable": "all",
        "data": "target",
        "rate": 1.0,
        "weight_decay": None,
        "needs_dropout": False,
        "recipe": "paper",
        "by": "perdure",
    }


def test_the_record_of_somebody_elses_parts_holds_their_settings() -> None:
    @dataclass(frozen=True)
    class Anchored(Regularizer):
        strength: float = 0.5

        name = "anchored"

    method = Method("anchored", "us", "pulls back", Anchored(2.0), MAS("logits", scaling=Scaling(scope="layer")))
    record = method.record()
    assert record["regularizer"] == {"form": "anchored", "strength": 2.0}
    assert record["importance"]["output"] == "logits"
    assert record["importance"]["scaling"]["scope"] == "layer"


def test_a_method_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        mas_lr().batch_norm = "original"


@pytest.mark.parametrize("setting", ["granularity", "batch_norm", "data"])
def test_a_misspelt_setting_is_refused(setting: str) -> None:
    """`batch_norm="orginal"` must not quietly train with target statistics."""
    with pytest.raises(MethodError, match=f"`{setting}` must be one of '.*'; got 'orginal'"):
        Method("mine", "us", "", Unrestrained(), **{setting: "orginal"})


@pytest.mark.parametrize("parts", [{"regularizer": LearningRate()}, {"regularizer": Unrestrained(), "rate": "matched"}])
def test_raw_importance_is_no_share_of_a_step(parts: dict[str, object]) -> None:
    """A Fisher information of 3 would freeze, one of 0.01 would be fine-tuning, and neither would be told."""
    with pytest.raises(
        MethodError, match='and its measure leaves it raw. Give the measure a scaling with range = "unit"'
    ):
        Method("mine", "us", "", importance=Fisher(), **parts)
    assert Method("mine", "us", "", importance=Fisher(scaling=Scaling()), **parts).importance


@pytest.mark.parametrize("form", [Freezing(), SurrogateLoss(1.0), Unrestrained()])
def test_forms_that_rank_or_weigh_take_raw_importance(form: Regularizer) -> None:
    assert Method("mine", "us", "", form, Fisher()).importance == Fisher()
