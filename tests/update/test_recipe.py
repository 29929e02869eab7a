from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from perdure.update import Recipe, paper_a, paper_b, recipe_for
from reference.domains import contract


def rates(recipe: Recipe) -> list[float]:
    return [recipe.rate(epoch) for epoch in range(recipe.epochs)]


def test_paper_a_halves_every_four_epochs_on_the_first_domain() -> None:
    recipe = paper_a("base")
    assert rates(recipe) == [0.1] * 4 + [0.05] * 4 + [0.025] * 4
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay, recipe.batch_size) == ("sgd", 0.95, 0.0, 5)
    assert (recipe.patience, recipe.augmentation, recipe.clip_norm) == (None, False, None)


def test_paper_a_keeps_the_last_rate_on_later_domains() -> None:
    assert rates(paper_a("update")) == [0.025] * 12


def test_paper_b_is_adam_at_one_rate_with_early_stopping_and_augmentation() -> None:
    recipe = paper_b()
    assert set(rates(recipe)) == {1e-6}
    assert (recipe.optimizer, recipe.batch_size, recipe.patience, recipe.augmentation) == ("adam", 32, 20, True)


def test_the_default_of_segmentation_halves_twice_on_later_domains_too() -> None:
    assert rates(recipe_for(contract(), "base")) == rates(paper_a("base"))
    assert rates(recipe_for(contract(), "update")) == [0.025] * 4 + [0.0125] * 4 + [0.00625] * 4


def test_the_default_of_classification_is_adam_with_early_stopping() -> None:
    recipe = recipe_for(contract("classification"), "base")
    assert (recipe.optimizer, recipe.learning_rate, recipe.patience, recipe.augmentation) == ("adam", 2e-4, 8, True)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_original_statistics_take_a_tenth_of_the_rate_and_clip_in_updates_only(task: str) -> None:
    target, original = (recipe_for(contract(task), "update", policy) for policy in ("target", "original"))
    assert original.learning_rate == pytest.approx(target.learning_rate / 10)
    assert original.clip_norm == 1.0
    assert recipe_for(contract(task), "base", "original") == recipe_for(contract(task), "base", "target")


@pytest.mark.parametrize("policy", ["target", "original"])
def test_the_papers_presets_are_as_printed_whatever_task_and_policy(policy) -> None:
    for task in ("segmentation", "classification"):
        assert recipe_for(contract(task), "base", policy, "paper-a") == paper_a("base")
        assert recipe_for(contract(task), "update", policy, "paper-a") == paper_a("update")
        assert recipe_for(contract(task), "update", policy, "paper-b") == paper_b()


@given(
    epochs=st.integers(1, 40),
    milestones=st.lists(st.floats(0.01, 0.99), max_size=4),
    decay=st.floats(0.1, 1.0),
)
def test_the_rate_starts_as_said_and_falls_at_each_milestone(epochs: int, milestones: list[float], decay) -> None:
    recipe = Recipe(learning_rate=0.1, epochs=epochs, milestones=tuple(milestones), decay=decay)
    found = rates(recipe)
    assert found[0] == 0.1
    assert all(later <= earlier for earlier, later in pairwise(found))
    assert found[-1] >= 0.1 * decay ** len(milestones) * (1 - 1e-9)


def test_a_run_of_one_epoch_has_the_rate_it_was_given() -> None:
    assert rates(Recipe(epochs=1, learning_rate=0.1)) == [0.1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "sdg"},
        {"learning_rate": 0},
        {"momentum": 1},
        {"epochs": 0},
        {"batch_size": 0},
        {"decay": 0},
        {"milestones": (4, 8)},
        {"patience": -1},
        {"clip_norm": 0},
        {"importance_samples": 0},
        {"seed": 2**32},
        {"learning_rat": 0.1},
    ],
    ids=str,
)
def test_a_number_outside_its_range_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Recipe(**wrong)


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_optimizer_has_the_numbers_and_what_trains(name: str, kind: type) -> None:
    model = nn.Linear(2, 3)
    model.bias.requires_grad_(False)
    recipe = Recipe(optimizer=name, learning_rate=0.3, momentum=0.7, weight_decay=0.01)
    optimizer = recipe.make_optimizer(model)
    (group,) = optimizer.param_groups
    assert type(optimizer) is kind
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.01)
    assert group.get("momentum", 0.7) == 0.7
    assert [id(p) for p in group["params"]] == [id(model.weight)]
    assert not optimizer.state


def test_no_patience_is_said_as_0_where_there_is_no_word_for_none() -> None:
    assert Recipe(patience=0) == Recipe(patience=None)
