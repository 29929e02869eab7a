from __future__ import annotations

import torch
from torch import nn

from perdure.importance import Uniform


def test_every_trainable_parameter_has_importance_1_also_after_scaling() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 2).double(), nn.BatchNorm1d(3))
    model[1].bias.requires_grad_(False)
    omega = Uniform().estimate(model, [])
    assert omega.keys() == {"0.weight", "0.bias", "1.weight"}
    for name, value in Uniform().scaling(omega).items():
        parameter = model.get_parameter(name)
        assert value.unique().tolist() == [1.0]
        assert (value.shape, value.dtype) == (parameter.shape, parameter.dtype)


def test_it_reads_no_data() -> None:
    def untouched():
        raise AssertionError("the data were read")
        yield

    Uniform().estimate(nn.Linear(1, 1), untouched())
    assert not Uniform.needs_data


def test_it_does_not_follow_the_model() -> None:
    model = nn.Linear(2, 2)
    omega = Uniform().estimate(model, [])
    with torch.no_grad():
        model.weight.zero_()
    assert omega["weight"].unique().tolist() == [1.0]
