from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console

import fakes
from perdure.evidence.release_text import identity_panel, identity_record
from perdure.methods import mas_fix, mas_lr
from perdure.models import NetworkSpec
from perdure.regularization import Freezing
from perdure.release import Ancestor, Identity
from perdure.release.identity import Measure
from perdure.types import Intensity
from perdure.update import Recipe


def epoch(number: int, loss: float, validation: float | None) -> dict[str, Any]:
    return {"epoch": number, "loss": loss, "validation_loss": validation}


def identity(**changes: Any) -> Identity:
    base = fakes.release(fakes.Threshold((0.5,)), fakes.volume_contract(), learnt=("site [a]", "site-b")).identity
    fields: dict[str, Any] = {
        "origin": "updated",
        "network": NetworkSpec(factory="quicknat", arguments={"filters": 8, "kernel_size": 3}),
        "lineage": (Ancestor(id="0123456789abcdef", name="base", domain="site [a]", method="trained"),),
        "method": mas_lr().record(),
        "recipe": Recipe(epochs=3, learning_rate=0.025, seed=7).model_dump(mode="json"),
        "training": {
            "epochs": [epoch(1, 2.0, 1.5), epoch(2, 1.0, 0.5), epoch(3, 0.5, 0.75)],
            "mean_step_share": 0.66,
            "fixed_share": 0.079,
        },
        "measures": {"mas": Measure(domains=2, samples=10, settings={})},
        "versions": {"torch": "2.13.0"},
    }
    return base.model_copy(update={**fields, **changes})


def printed(one: Identity) -> str:
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(identity_panel(one, "b"))
    return " ".join(capture.get().split())


@pytest.mark.parametrize(
    "fact",
    [
        "Release b",
        "updated 2026-01-01",
        "quicknat(filters=8, kernel_size=3)",
        "segmentation, 4 classes: background, core, left_cortex, right_cortex",
        "32 x 32 pixels, 1 channel(s), LIA, 2 x 2 x 2 mm, coronal slices, intensity robust",
        "mas-lr (granularity filter, batch norm target)",
        "3 epoch(s), sgd from 0.025, seed 7; kept epoch 3 with loss 0.5000 (validation 0.7500)",
        "mas, over 2 domain(s)",
        "mean of 1 - importance 0.660; 7.9% of parameters were held fast",
        "base (01234567) -> this one",
        "torch 2.13.0",
        "site [a]",
        "1/0/0",
    ],
)
def test_a_person_reads(fact: str) -> None:
    assert fact in printed(identity())


def test_with_early_stopping_the_epoch_that_was_kept_is_the_best_one() -> None:
    recipe = Recipe(patience=1).model_dump(mode="json")
    assert "3 epoch(s)" in printed(identity(recipe=recipe))
    assert "kept epoch 2 with loss 1.0000 (validation 0.5000)" in printed(identity(recipe=recipe))


def test_the_epoch_that_was_kept_is_told_where_losses_are_not() -> None:
    """Validation losses of a few patients stay out of a release; which epoch was the best does not."""
    epochs = [epoch(1, 0.9, None), epoch(2, 0.5, None), epoch(3, 0.4, None)]
    said = identity(recipe=Recipe(patience=1).model_dump(mode="json"), training={"epochs": epochs, "kept_epoch": 2})
    assert "kept epoch 2 with loss 0.5000" in printed(said)


def test_rates_without_losses_were_tried_and_not_told() -> None:
    rates = [{"rate": 1.0, "validation_loss": None}, {"rate": 0.1, "validation_loss": None}]
    said = printed(identity(training={"rates": rates, "epochs": [epoch(1, 0.9, None)]}))
    assert "x 1, x 0.1 (validation losses of so few subjects are not kept)" in said
    assert "diverged" not in said


def test_without_validation_cases_there_is_no_validation_loss() -> None:
    training = {"epochs": [epoch(1, 2.0, None)]}
    text = printed(identity(training=training, recipe=Recipe(patience=1).model_dump(mode="json")))
    assert "1 epoch(s), sgd from 0.1, seed 0; kept epoch 1 with loss 2.0000 importance" in text
    assert "restraint" not in text


def test_an_adopted_network_was_trained_elsewhere() -> None:
    text = printed(identity(origin="adopted", method={"name": "adopted"}, training={}, lineage=()))
    assert "training elsewhere" in text
    assert "method adopted" in text
    assert "lineage this one" in text


def test_pictures_have_no_spacing_and_many_structures_are_cut_short() -> None:
    many = fakes.structures(**{f"s{i}": i for i in range(12)})
    intensity = Intensity(scaling="format", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    text = printed(identity(contract=fakes.picture_contract(structures=many, intensity=intensity)))
    assert "12 classes: s0, s1, s2, s3, s4, s5, s6 and 5 more" in text
    assert "input 40 x 48 pixels, 3 channel(s), intensity format, mean 0.5, 0.4, 0.3, std 0.2, 0.2, 0.2 method" in text


def test_volumes_for_a_3_d_network_are_not_cut() -> None:
    contract = fakes.volume_contract(spatial_dims=3, view=None, size=(16, 16, 16))
    assert "16 x 16 x 16 pixels, 1 channel(s), LIA, 2 x 2 x 2 mm, whole volumes" in printed(identity(contract=contract))


def test_the_record_is_all_of_it_as_json() -> None:
    one = identity()
    assert Identity.model_validate(json.loads(json.dumps(identity_record(one), allow_nan=False))) == one


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (Freezing(0.25), "frozen 40% of the parameters are frozen for good; at 25% an update, 2 more leave something"),
        (
            Freezing(0.25, of="free"),
            "frozen 40% of the parameters are frozen for good; one more update makes that at most 55%",
        ),
    ],
)
def test_a_release_that_freezes_says_how_many_more_updates_fit(form: Freezing, said: str) -> None:
    method = {**mas_fix().record(), "regularizer": form.settings()}
    assert said in printed(identity(method=method, training={"frozen_share": 0.4}))
    assert "frozen" not in printed(identity(training={"frozen_share": 0.4}))


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            {"shortened_steps": 40, "strength": 12.34567},
            "auto: λ 12.35 in the last of 40 steps that were shortened, of 60",
        ),
        ({"shortened_steps": 60, "strength": None}, "auto: λ without bound in the last of 60 steps"),
        ({"shortened_steps": 0, "strength": 0.0}, "auto: the loss that is allowed was not reached in 60 steps"),
    ],
)
def test_a_strength_that_was_found_is_told(report: dict[str, float | None], said: str) -> None:
    training = {"report": {"steps": 60, "multiplier": 0.5, **report}}
    assert f"strength {said}" in printed(identity(training=training))
    assert "strength" not in printed(identity())
