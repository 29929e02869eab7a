from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from perdure.importance import MAS, SI, Fisher, Importance, Scaling, Uniform
from perdure.testing import IMPORTANCE, check_importance, tiny_domain, tiny_network
from perdure.testing.claims import everything
from perdure.testing.compat import SignedMinMaxMAS

OURS = [
    MAS(), MAS("logits"), MAS("sigmoid", scaling=Scaling(scope="layer"), accumulation="max"), Fisher(), Fisher(seed=7),
    Fisher("dataset"), Fisher("expected"), SI(), SI(0.5), Uniform(), SignedMinMaxMAS(),
]  # fmt: skip


@pytest.mark.parametrize("measure", OURS, ids=lambda measure: measure.key)
def test_every_measure_of_ours_keeps_every_claim(measure: Importance) -> None:
    check_importance(measure)


@pytest.mark.parametrize("measure", [MAS(), Fisher(), Fisher("dataset")], ids=lambda measure: measure.key)
def test_a_network_of_one_s_own(measure: Importance) -> None:
    model = tiny_network("segmentation")
    before = everything(model)
    check_importance(measure, model, *tiny_domain(task="segmentation").samples("train"))
    assert everything(model) == before


@dataclass(frozen=True)
class Broken(Importance):
    """The measure that others below break in one way each."""

    name = "broken"

    def estimate(self, model, batches, *, sum_over_processes=lambda value: value, watched=None):
        return Fisher("dataset").estimate(model, batches, sum_over_processes=sum_over_processes)


@dataclass(frozen=True)
class Forgetful(Broken):
    factor: float = 1.0

    def settings(self):
        return {"measure": self.name}


@dataclass(frozen=True)
class Negative(Broken):
    def estimate(self, model, batches, **options):
        return {name: -value for name, value in super().estimate(model, batches, **options).items()}


@dataclass(frozen=True)
class Endless(Broken):
    def estimate(self, model, batches, **options):
        return {name: value / 0 for name, value in super().estimate(model, batches, **options).items()}


@dataclass(frozen=True)
class Flat(Broken):
    def estimate(self, model, batches, **options):
        return {name: value.flatten() for name, value in super().estimate(model, batches, **options).items()}


@dataclass(frozen=True)
class OfAll(Broken):
    def estimate(self, model, batches, **options):
        return {name: torch.ones_like(parameter) for name, parameter in model.named_parameters()}


@dataclass(frozen=True)
class Evaluating(Broken):
    def estimate(self, model, batches, **options):
        return super().estimate(model.eval(), batches, **options)


@dataclass(frozen=True)
class Aliased(Broken):
    def estimate(self, model, batches, **options):
        return {name: parameter.data.abs_() for name, parameter in model.named_parameters() if parameter.requires_grad}


@dataclass(frozen=True)
class WithGradients(Broken):
    def estimate(self, model, batches, **options):
        (inputs, target), *_ = batches
        nn.functional.cross_entropy(model(inputs), target).backward()
        return super().estimate(model, batches, **options)


@dataclass(frozen=True)
class Drawing(Broken):
    def estimate(self, model, batches, **options):
        with torch.random.fork_rng():
            omega = super().estimate(model, batches, **options)
            return {name: value * torch.rand(()) for name, value in omega.items()}


@dataclass(frozen=True)
class OfTheFirst(Broken):
    def estimate(self, model, batches, **options):
        return super().estimate(model, [next(iter(batches))], **options)


@dataclass(frozen=True)
class Alone(Broken):
    def estimate(self, model, batches, *, sum_over_processes=None, watched=None):
        return super().estimate(model, batches)


@dataclass(frozen=True)
class Meddling(SI):
    def watching(self, model, optimizer, state):
        with torch.no_grad():
            next(model.parameters()).mul_(1.01)
        return super().watching(model, optimizer, state)


@dataclass(frozen=True)
class Starting(SI):
    """Starts anew where it should go on."""

    def watching(self, model, optimizer, state):
        state.clear()
        return super().watching(model, optimizer, state)


@pytest.mark.parametrize(
    ("measure", "claim"),
    [
        (Forgetful(factor=2.0), "its settings are plain JSON"),
        (Negative(), "finite and at least 0.*has the value -"),
        (Endless(), "finite and at least 0.*is not finite"),
        (Flat(), "an importance of its shape"),
        (OfAll(), "frozen parameters have none"),
        (Evaluating(), "leaves parameters, buffers, gradients, modes.*mode of"),
        (Aliased(), "leaves parameters, buffers, gradients, modes"),
        (WithGradients(), "leaves parameters, buffers, gradients, modes.*gradient of"),
        (Drawing(), "measuring twice gives the same bits"),
        (OfTheFirst(), "neither batch size nor order"),
        (Alone(), "processes that share the samples"),
        (Meddling(), "watching changes no step"),
        (Starting(), "survives a checkpoint"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Importance) else "",
)
def test_each_claim_is_broken_by_what_breaks_it(measure: Importance, claim: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s)^Importance '.*' breaks the claim '.*{claim}"):
        check_importance(measure)


def test_a_claim_can_be_left_out_by_its_sentence_only() -> None:
    check_importance(Alone(), without=["processes that share the samples measure what one does"])
    with pytest.raises(ValueError, match="These are no claims: \\['processes'\\]"):
        check_importance(Alone(), without=["processes"])


def test_there_is_a_test_above_for_every_claim() -> None:
    assert len(list(IMPORTANCE)) == 9


def test_a_model_of_one_s_own_needs_samples() -> None:
    with pytest.raises(TypeError, match="needs `inputs` and `target`"):
        check_importance(MAS(), tiny_network())
