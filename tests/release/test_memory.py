from __future__ import annotations

import pytest
import torch

from perdure.errors import MethodError, ReleaseError
from perdure.release import Accumulated, Memory
from perdure.release.memory import accumulated

SETTINGS = {"measure": "MAS", "output": "softmax", "scaling": {"scope": "network"}}


def measure(*values: float) -> Accumulated:
    return Accumulated({"weight": torch.tensor([values])}, {}, 1, SETTINGS)


def test_the_weights_are_those_of_the_only_measure() -> None:
    memory = Memory({}, {"mas": measure(0.0, 1.0)})
    assert memory.weights["weight"].tolist() == [[0.0, 1.0]]


def test_weights_come_at_the_granularity_that_is_kept_or_asked_for() -> None:
    memory = Memory({}, {"mas": measure(0.0, 1.0)}, granularity="filter", axes={"weight": (0, 1)})
    assert memory.weights["weight"].tolist() == [[0.5]]
    assert memory.importance("mas", "parameter")["weight"].tolist() == [[0.0, 1.0]]


def test_freezing_is_given_the_newest_domains_importance_as_it_was_measured() -> None:
    """Clipping makes ties at 1, and ties would decide what is frozen: 5 and 9 are both 1 once they are scaled."""
    raw, scaled = {"weight": torch.tensor([[5.0, 9.0]])}, {"weight": torch.tensor([[1.0, 1.0]])}
    memory = Memory({"weight": torch.zeros(1, 2)}, {"mas": Accumulated(scaled, raw, 1, SETTINGS)})
    assert memory.past("mas").latest["weight"].tolist() == [[5.0, 9.0]]
    assert memory.past("mas").weights["weight"].tolist() == [[1.0, 1.0]]


def test_without_a_measure_or_with_several_one_has_to_be_named() -> None:
    with pytest.raises(MethodError, match=r"holds 0 measures of importance \(none\); name one"):
        _ = Memory({}, {}).weights
    both = Memory({}, {"mas": measure(0.0), "mas-logits": measure(1.0)})
    with pytest.raises(MethodError, match=r"holds 2 measures of importance \(mas, mas-logits\); name one"):
        _ = both.weights
    assert both.importance("mas-logits")["weight"].tolist() == [[1.0]]


def test_a_measure_that_was_not_taken_is_named_with_those_that_were() -> None:
    with pytest.raises(MethodError, match="holds no importance 'fisher', only: mas. It has to be measured where"):
        Memory({}, {"mas": measure(0.0)}).importance("fisher")
    with pytest.raises(MethodError, match="only: none"):
        Memory({}, {}).importance("mas")


def test_the_first_domain_is_kept_as_it_is() -> None:
    raw, scaled = {"w": torch.tensor([9.0])}, {"w": torch.tensor([1.0])}
    first = accumulated(None, raw, scaled, SETTINGS, 2, {}, {})
    assert (first.weights, first.latest, first.domains, first.settings) == (scaled, raw, 1, SETTINGS)


def test_later_domains_are_averaged_and_the_latest_raw_values_kept() -> None:
    """1, 0 and 0.5 have the mean 0.5."""
    memory = None
    for raw, scaled in ((9.0, 1.0), (4.0, 0.0), (7.0, 0.5)):
        omega = {"w": torch.tensor([scaled])}
        memory = accumulated(memory, {"w": torch.tensor([raw])}, omega, SETTINGS, 1, omega, omega)
    assert memory.domains == 3
    assert memory.weights["w"].item() == pytest.approx(0.5)
    assert memory.latest["w"].item() == 7.0


def test_domains_that_were_measured_otherwise_do_not_mix() -> None:
    past = accumulated(None, {}, {}, SETTINGS, 1, {}, {})
    with pytest.raises(ReleaseError, match=r"measured as \{.*'softmax'.*\}, this update measures \{.*'logits'.*\}"):
        accumulated(past, {}, {}, {**SETTINGS, "output": "logits"}, 1, {}, {})


def test_domains_of_which_other_parameters_were_measured_do_not_mix() -> None:
    """A parameter without its past would be averaged with nothing, or lose its protection without a word."""
    past = accumulated(None, {}, {"a": torch.ones(1), "b": torch.ones(1)}, SETTINGS, 1, {}, {})
    with pytest.raises(ReleaseError, match=r"these differ: \['b', 'c'\]. Freeze the same"):
        accumulated(past, {}, {"a": torch.ones(1), "c": torch.ones(1)}, SETTINGS, 1, {}, {})
