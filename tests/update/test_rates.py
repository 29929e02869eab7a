from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from perdure.errors import DivergenceError, MethodError
from perdure.methods import Method, dsbn
from perdure.release import Release
from perdure.update import Recipe, update
from perdure.update.run_folder import RunFolder
from reference.domains import TinyDomain, state

NEW = TinyDomain("site-b", "segmentation", contrast=0.5)
RATES = (1.0, 0.01, 4.0)


def at(rate: float | tuple[float, ...]) -> Method:
    return replace(dsbn(), rate=rate)


def same(one: nn.Module, other: nn.Module) -> bool:
    return state(one) == state(other)


def last_validation_loss(release: Release) -> float:
    return release.identity.training["epochs"][-1]["validation_loss"]


def test_of_several_rates_the_one_with_the_lowest_validation_loss_is_the_release(base: Release, recipe: Recipe) -> None:
    alone = {rate: update(base, NEW, method=at(rate), recipe=recipe) for rate in RATES}
    best = min(alone, key=lambda rate: last_validation_loss(alone[rate]))
    assert best != RATES[0]  # or the choice would not show
    chosen = update(base, NEW, method=at(RATES), recipe=recipe)
    assert same(chosen.model, alone[best].model)
    assert chosen.identity.training["epochs"] == alone[best].identity.training["epochs"]
    assert chosen.identity.recipe["learning_rate"] == recipe.learning_rate * best
    tried = {trial["rate"]: trial["validation_loss"] for trial in chosen.identity.training["rates"]}
    assert tried == {rate: last_validation_loss(release) for rate, release in alone.items()}


def test_where_training_stops_early_the_best_epoch_of_each_rate_is_compared(base: Release) -> None:
    recipe = Recipe(learning_rate=0.05, epochs=8, batch_size=3, patience=2, milestones=())
    rates = (1.0, 60.0)
    chosen = update(base, NEW, method=at(rates), recipe=recipe).identity.training
    alone = [update(base, NEW, method=at(rate), recipe=recipe).identity.training["epochs"] for rate in rates]
    lowest = [min(epoch["validation_loss"] for epoch in epochs) for epochs in alone]
    assert [trial["validation_loss"] for trial in chosen["rates"]] == lowest
    assert lowest != [epochs[-1]["validation_loss"] for epochs in alone]


def test_without_validation_samples_the_first_rate_is_taken(base: Release, recipe: Recipe) -> None:
    few = replace(NEW, val=0)
    chosen = update(base, few, method=at(RATES), recipe=recipe)
    assert same(chosen.model, update(base, few, method=at(RATES[0]), recipe=recipe).model)
    assert chosen.identity.training["rates"] == [{"rate": RATES[0], "validation_loss": None}]


def test_a_rate_that_diverges_is_left_out_and_only_all_of_them_are_a_failure(base: Release, recipe: Recipe) -> None:
    chosen = update(base, NEW, method=at((1e30, 1.0)), recipe=recipe)
    assert same(chosen.model, update(base, NEW, method=at(1.0), recipe=recipe).model)
    assert chosen.identity.training["rates"][0] == {"rate": 1e30, "validation_loss": None}
    with pytest.raises(DivergenceError):
        update(base, NEW, method=at((1e30, 1e31)), recipe=recipe)


def test_an_interrupted_choice_goes_on_and_ends_with_the_same_bits(
    base: Release, recipe: Recipe, tmp_path: Path
) -> None:
    seen = []

    def killed(rank: int, epoch: int) -> None:
        seen.append(epoch)
        if len(seen) == 2 * recipe.epochs - 1:  # in the second rate
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        update(base, replace(NEW, watch=killed), method=at(RATES), recipe=recipe, out=out)
    resumed = update(base, NEW, method=at(RATES), recipe=recipe, out=out)
    whole = update(base, NEW, method=at(RATES), recipe=recipe)
    assert same(resumed.model, whole.model)
    assert resumed.identity.training == whole.identity.training
    # the log of the run is that of the rate that was kept, and no checkpoint is left
    assert [vars(epoch) for epoch in RunFolder.read(tmp_path / "out.run")[1]] == whole.identity.training["epochs"]
    assert not list(tmp_path.rglob("checkpoint.pt"))


@pytest.mark.parametrize("rate", [(), (1.0, 1.0), (1.0, -1.0), (1.0, True), [0.0], (1.0, "matched")])
def test_rates_that_cannot_be_tried_are_refused(rate: object) -> None:
    with pytest.raises(MethodError, match="`rate` must be above 0, several different such, or 'matched'"):
        at(rate)
