from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from perdure.errors import MethodError, ReleaseError
from perdure.importance import MAS, Scaling, aggregate, filter_axes, running_mean
from perdure.importance.base import Importance
from perdure.update import consolidate
from reference.networks import bits, everything, network, samples


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(bits(one[name]) == bits(other[name]) for name in one)


def test_memory_is_anchor_importance_and_statistics() -> None:
    model, inputs = network("batch norm", 0), samples(4, 0)
    memory = consolidate(model, [inputs], MAS(), "filter")
    raw = MAS().estimate(model, [inputs])
    assert same(memory.anchor, {name: p.detach() for name, p in model.named_parameters()})
    assert same(memory.measures["mas"].latest, raw)
    assert same(memory.weights, aggregate(Scaling()(raw), "filter", filter_axes(model)))
    assert same(memory.statistics, dict(model.named_buffers()))
    assert memory.measures["mas"].domains == 1
    assert memory.granularity == "filter"


def test_taking_it_changes_nothing() -> None:
    model = network("batch norm", 0).train()
    before = everything(model)
    consolidate(model, [samples(3, 0)])
    assert everything(model) == before


def test_memory_does_not_follow_the_model() -> None:
    model = network("batch norm", 0)
    memory = consolidate(model, [samples(3, 0)])
    before = {name: bits(tensor) for name, tensor in {**memory.anchor, **memory.statistics}.items()}
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)
    assert {name: bits(tensor) for name, tensor in {**memory.anchor, **memory.statistics}.items()} == before


@pytest.mark.parametrize("granularity", ["parameter", "kernel", "filter"])
def test_a_second_domain_is_averaged_in_and_has_the_anchor(granularity) -> None:
    """The statistics stay those of the first domain: they are the original ones."""
    model, first, second = network("grouped", 0), samples(3, 1), samples(3, 2)
    one = consolidate(model, [first], granularity=granularity)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.2)
    both = consolidate(model, [second], granularity=granularity, previous=one)
    alone = consolidate(model, [second], granularity=granularity)
    assert same(both.weights, running_mean(one.weights, alone.weights, 2))
    assert same(both.anchor, alone.anchor)
    assert same(both.measures["mas"].latest, alone.measures["mas"].latest)
    assert both.measures["mas"].domains == 2
    assert one.measures["mas"].domains == 1


def test_statistics_stay_those_of_the_original_domain() -> None:
    model = network("batch norm", 0)
    first = consolidate(model, [samples(3, 0)])
    before = {name: bits(tensor) for name, tensor in first.statistics.items()}
    model.train()(samples(4, 1))
    second = consolidate(model, [samples(3, 1)], previous=first)
    assert {name: bits(tensor) for name, tensor in second.statistics.items()} == before


def test_another_measure_stands_beside_the_first() -> None:
    model = network("linear", 0)
    memory = consolidate(model, [samples(3, 0)])
    both = consolidate(model, [samples(3, 0)], MAS("logits"), previous=memory)
    assert list(both.measures) == ["mas", "mas-logits"]
    assert both.measures["mas"] is memory.measures["mas"]
    assert both.measures["mas-logits"].domains == 1


def test_a_measure_that_is_scaled_otherwise_stands_beside_the_first() -> None:
    model = network("batch norm", 0)
    layerwise = MAS(scaling=Scaling(scope="layer"))
    first = consolidate(model, [samples(3, 0)], layerwise)
    both = consolidate(model, [samples(3, 1)], previous=first)
    assert list(both.measures) == [layerwise.key, "mas"]
    assert both.measures["mas"].domains == 1
    assert both.measures[layerwise.key] is first.measures[layerwise.key]


def test_a_parameter_that_was_frozen_before_is_named() -> None:
    model = network("linear", 0)
    model[1].bias.requires_grad_(False)
    memory = consolidate(model, [samples(3, 0)])
    assert set(memory.weights) == {"1.weight"}
    model[1].bias.requires_grad_(True)
    with pytest.raises(ReleaseError, match=r"these differ: \['1.bias'\]"):
        consolidate(model, [samples(3, 0)], previous=memory)


def test_without_samples_there_is_no_memory() -> None:
    with pytest.raises(MethodError, match="at least one sample"):
        consolidate(network("linear", 0), [])


def test_batches_are_read_once() -> None:
    memory = consolidate(network("linear", 0), iter([samples(3, 0)]))
    assert memory.weights["1.weight"].max() == 1


def test_settings_are_as_a_release_gives_them_back() -> None:
    """Somebody's measure with a tuple among its settings does not look changed after a round through JSON."""

    @dataclass(frozen=True)
    class Theirs(Importance):
        layers: tuple[str, ...] = ("a", "b")

        name = "theirs"

        def estimate(self, model, batches, *, sum_over_processes=None, watched=None):
            return {}

    settings = Theirs().settings()
    assert (settings["measure"], settings["layers"]) == ("theirs", ["a", "b"])
    assert settings["scaling"]["quantiles"] == [0.25, 0.75]
    assert json.loads(json.dumps(settings)) == settings
