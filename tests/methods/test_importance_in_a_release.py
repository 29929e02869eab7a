"""Which importance a method finds in a release, and what it says if there is none."""

from __future__ import annotations

import pytest
import torch

from perdure.errors import MethodError
from perdure.importance import MAS, SI, Fisher, Importance
from perdure.methods import Method, built_in, ewc_bn, l2_sp, mas_lr, method_named, words_for
from perdure.release import Release
from perdure.update import Recipe, train, update
from reference.domains import SEGMENTER, TinyDomain, Together

RECIPE = Recipe(epochs=2, batch_size=4, learning_rate=0.02, clip_norm=1.0)
ALL = (MAS(), Fisher(), SI())


def base(*measures: Importance) -> Release:
    return train(SEGMENTER, TinyDomain(), trusted=["reference"], recipe=RECIPE, measures=measures)


@pytest.fixture(scope="module")
def whole() -> Release:
    return base(*ALL)


@pytest.mark.parametrize("name", sorted(built_in()))
def test_every_method_makes_an_update_that_carries_all_importance_on(whole: Release, name: str) -> None:
    method = method_named(name)
    new, old = TinyDomain("site-b", contrast=0.6), TinyDomain()
    together = Together(old, new) if method.data in ("cumulative", "replay") else None
    release = update(whole, new, method=method, recipe=RECIPE, joint_with=together, allow_patient_data=True)
    assert release.identity.method == method.record()
    assert {measure.key for measure in ALL} <= set(release.memory.measures)
    # what training gathers has nothing to say of a domain that nothing trained on
    learnt = {measure.key: 1 if name == "no-update" and measure.is_gathered else 2 for measure in ALL}
    assert {key: release.memory.measures[key].domains for key in learnt} == learnt
    moved = any(
        not torch.equal(value, whole.model.state_dict()[key]) for key, value in release.model.state_dict().items()
    )
    assert moved == (name != "no-update")


def test_where_nothing_trains_importance_that_training_gathers_stays_as_it_was(whole: Release) -> None:
    release = update(whole, TinyDomain("site-b"), method=method_named("no-update"), recipe=RECIPE)
    before, after = whole.memory.measures["si"], release.memory.measures["si"]
    for name, omega in before.weights.items():
        assert bool(omega.any())
        assert torch.equal(after.weights[name], omega)
        assert torch.equal(after.latest[name], before.latest[name])
    assert (after.domains, after.samples) == (before.domains, before.samples)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (method_named("si"), "si"),
        (mas_lr(recipe="authors"), "mas-authors"),
        (ewc_bn(recipe="authors"), "fisher:labels=dataset"),
        (method_named("mas"), "mas"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_release_without_it_is_refused_with_the_words_to_train_with(method: Method, words: str) -> None:
    other = Fisher() if words == "mas" else MAS()
    with pytest.raises(MethodError, match=f"carries only: {other.key}.*train or adopt there with --measure {words},"):
        update(base(other), TinyDomain("site-b"), method=method, recipe=RECIPE)
    assert method.importance is not None
    assert words_for(method.importance) == words


def test_importance_that_needs_no_data_joins_the_memory_at_the_update() -> None:
    before = base(MAS())
    release = update(before, TinyDomain("site-b"), method=l2_sp(), recipe=RECIPE)
    assert set(before.memory.measures) == {"mas"}
    assert set(release.memory.measures) == {"mas", "uniform"}
    assert all(bool((value == 1).all()) for value in release.memory.importance("uniform").values())


def test_a_pull_of_the_same_force_on_all_keeps_the_network_near_where_it_was() -> None:
    before = base(MAS())

    def distance(method: Method) -> float:
        after = update(before, TinyDomain("site-b", contrast=0.3), method=method, recipe=RECIPE)
        old = dict(before.model.named_parameters())
        moves = [(new - old[name]).detach().square().sum() for name, new in after.model.named_parameters()]
        return float(torch.stack(moves).sum())

    assert 0 < distance(l2_sp(1e3)) < 0.1 * distance(l2_sp(0.0))
