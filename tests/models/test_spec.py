from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from perdure.models import NetworkSpec, QuickNAT, build, describe, resnet50


class Linear(nn.Linear):
    """A network at the top of a module."""


def test_a_quicknat_made_by_hand_can_be_built_again_from_its_description() -> None:
    model = QuickNAT(in_channels=2, classes=5, filters=4, kernel_size=3, dropout=0.1)
    spec = describe(model)
    assert spec is not None
    again = build(spec, channels=2, classes=5, spatial_dims=2)
    assert isinstance(again, QuickNAT)
    assert again.dropout.p == 0.1
    again.load_state_dict(model.state_dict())


def test_a_resnet50_made_by_hand_can_be_built_again_from_its_description() -> None:
    assert describe(resnet50(classes=4, in_channels=1)) == NetworkSpec(
        factory="resnet50", arguments={"classes": 4, "in_channels": 1}
    )


def test_of_another_network_the_class_is_known_and_not_its_arguments() -> None:
    assert describe(Linear(2, 3)) == NetworkSpec(factory=f"{__name__}:Linear", arguments={})


def test_a_network_may_carry_its_own_spec() -> None:
    model = Linear(2, 3)
    spec = NetworkSpec(factory="somewhere:Linear", arguments={"in_features": 2})
    model.network_spec = spec
    assert describe(model) == spec


def test_a_class_that_cannot_be_imported_has_no_description() -> None:
    class Hidden(nn.Identity):
        pass

    assert describe(Hidden()) is None


def test_a_spec_survives_json() -> None:
    spec = NetworkSpec(factory="monai:UNet", arguments={"channels": [4, 8], "norm": ["batch", {"eps": 1e-3}]})
    assert NetworkSpec.model_validate_json(spec.model_dump_json()) == spec


def test_what_is_no_json_cannot_stand_in_a_spec() -> None:
    with pytest.raises(ValidationError, match="arguments"):
        NetworkSpec(factory="monai:UNet", arguments={"act": torch.relu})
