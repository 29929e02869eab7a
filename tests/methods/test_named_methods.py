"""What holds for every method of ours: its card, its settings, its record."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import pytest

from perdure.importance import Fisher, Uniform
from perdure.methods import (
    Method,
    bn_only,
    built_in,
    dsbn,
    ewc,
    ewc_bn,
    ewc_online,
    finetune,
    finetune_low_lr,
    finetune_lr_matched,
    l2,
    l2_sp,
    lwf,
    mas,
    mas_fix,
    mas_fix_random,
    mas_lr,
    mas_lr_dropout,
    measure_named,
    method_named,
    no_update,
    replay,
    si,
    words_for,
)
from perdure.regularization import Distillation, Freezing, LearningRate, SurrogateLoss, Unrestrained

CARDS = Path(__file__).resolve().parents[2] / "docs" / "methods"
PAGES = {"README", "table"}
PARTS = ["What it does", "When not to use it", "Settings", "Deviations from the paper", "What we measured", "Source"]
NAMES = sorted(built_in())
PUBLISHED = {
    "bn-only", "dropout", "dsbn", "ewc", "ewc-bn", "ewc-online", "finetune", "finetune-low-lr", "finetune-lr-matched",
    "joint", "l2", "l2-sp", "lwf", "mas", "mas-fix", "mas-fix-random", "mas-lr", "mas-lr-dropout", "no-update",
    "replay", "si",
}  # fmt: skip


def text_of(name: str) -> str:
    return (CARDS / f"{name}.md").read_text(encoding="utf-8")


def settings_of(card: str) -> dict[str, Any]:
    """The settings table of a card: name to default."""
    part = card.split("\n## Settings\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| \S.*\|$", part, re.MULTILINE)
    assert len(rows) == sum(line.startswith("| `") for line in part.splitlines())
    return {name: ast.literal_eval(default) for name, default in rows}


def test_every_published_name_is_there() -> None:
    assert set(NAMES) >= PUBLISHED


def test_every_method_has_a_card_and_every_card_a_method() -> None:
    assert {path.stem for path in CARDS.glob("*.md")} - PAGES == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_has_its_parts_and_fits_a_page(name: str) -> None:
    card = text_of(name)
    assert card.startswith(f"# {name}\n\n")
    assert re.findall(r"^## (.+)$", card, re.MULTILINE) == PARTS
    assert len(card.splitlines()) <= 60


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_on_a_card_are_those_of_the_code(name: str) -> None:
    parameters = signature(built_in()[name]).parameters
    assert settings_of(text_of(name)) == {key: one.default for key, one in parameters.items()}
    assert all(one.default is not Parameter.empty for one in parameters.values())


@pytest.mark.parametrize("name", NAMES)
def test_what_was_measured_is_labelled_or_said_to_be_missing(name: str) -> None:
    measured = text_of(name).split("\n## What we measured\n")[1].split("\n## ")[0]
    label = "Small-scale reading: QuickNAT with 16 filters, four simulated domains, mean of two seeds."
    assert label in measured or "Not measured yet." in measured or "(../results/README.md)" in measured
    assert not (label in measured and "Not measured yet." in measured)
    if "a tenth of the rate" in measured or "EWC, λ" in measured:
        assert "Exploratory: chosen after test scores had been seen." in measured


def test_the_same_reading_has_the_same_numbers_on_every_card() -> None:
    rows: dict[str, set[str]] = {}
    for name in NAMES:
        for row, numbers in re.findall(r"^\| ([^|]+) \| (.+) \|$", text_of(name), re.MULTILINE):
            if not row.startswith(("setting", "---", "`")):
                rows.setdefault(row, set()).add(numbers)
    assert len(rows) > 10
    assert {row: numbers for row, numbers in rows.items() if len(numbers) > 1} == {}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_index_and_the_table_have_every_method(page: str) -> None:
    assert set(re.findall(r"\]\(([\w-]+)\.md\)", text_of(page))) - PAGES == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_index_says_what_importance_to_train_with(name: str) -> None:
    importance = built_in()[name]().importance
    needed = "none" if importance is None or not importance.needs_data else f"`{words_for(importance)}`"
    assert re.search(
        rf"^\| \[{name}\]\({name}\.md\) \|[^|]+\| {re.escape(needed)} \|$", text_of("README"), re.MULTILINE
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_method_says_its_name_and_that_it_is_ours(name: str) -> None:
    record = method_named(name).record()
    assert (record["name"], record["by"]) == (name, "perdure")


@pytest.mark.parametrize("name", [name for name in NAMES if "recipe" in signature(built_in()[name]).parameters])
def test_the_authors_recipe_is_recorded_and_differs(name: str) -> None:
    authors = method_named(name, recipe="authors")
    assert authors.record()["recipe"] == "authors"
    assert (authors.importance, authors.regularizer) != (method_named(name).importance, method_named(name).regularizer)
    assert authors.importance is not None
    assert f"--measure {words_for(authors.importance)}" in text_of(name)


MADE: list[tuple[Callable[[], Method], dict[str, Any]]] = [
    (no_update, {"data": "none"}),
    (lambda: finetune_low_lr(0.2), {"regularizer": Unrestrained(), "rate": 0.2}),
    (finetune_lr_matched, {"regularizer": Unrestrained(), "rate": "matched", "granularity": "filter"}),
    (replay, {"regularizer": Unrestrained(), "data": "replay"}),
    (lambda: l2(1e-3), {"regularizer": Unrestrained(), "weight_decay": 1e-3}),
    (l2_sp, {"importance": Uniform(), "regularizer": SurrogateLoss(1e-2, "half")}),
    (mas_lr_dropout, {"regularizer": LearningRate(), "needs_dropout": True, "granularity": "filter"}),
    (lambda: mas(1e4, "parameters"), {"regularizer": SurrogateLoss(1e4, "parameters"), "granularity": "parameter"}),
    (mas_fix, {"regularizer": Freezing(0.25), "granularity": "kernel"}),
    (lambda: mas_fix(recipe="authors"), {"regularizer": Freezing(0.25, hold="gradient", rank="average")}),
    (lambda: mas_lr(recipe="authors"), {"regularizer": LearningRate(floor=1e-7)}),
    (lambda: mas_fix_random(draw=7), {"regularizer": Freezing(0.25, random=7), "granularity": "kernel"}),
    (ewc, {"importance": Fisher(), "regularizer": SurrogateLoss(1.0, "half", anchors="each")}),
    (ewc_online, {"importance": Fisher(), "regularizer": SurrogateLoss(1.0, "half", anchors="latest")}),
    (lambda: ewc_bn(trainable="batch-norm"), {"batch_norm": "original", "trainable": "batch-norm"}),
    (lambda: ewc_bn(recipe="authors"), {"importance": Fisher("dataset"), "batch_norm": "original"}),
    (bn_only, {"regularizer": Unrestrained(), "trainable": "batch-norm", "batch_norm": "target"}),
    (
        dsbn,
        {
            "regularizer": Unrestrained(),
            "trainable": "batch-norm",
            "batch_norm": "per-domain",
            "rate": (16.0, 4.0, 64.0, 256.0),
        },
    ),
    (si, {"regularizer": SurrogateLoss(0.1, "none")}),
    (lambda: lwf(2.0, 4.0), {"regularizer": Distillation(2.0, 4.0), "importance": None}),
]


@pytest.mark.parametrize(("make", "fields"), MADE, ids=[str(number) for number in range(len(MADE))])
def test_a_method_is_made_of_its_published_parts(make: Callable[[], Method], fields: dict[str, Any]) -> None:
    method = make()
    assert {name: getattr(method, name) for name in fields} == fields


def test_matched_needs_the_importance_of_the_method_that_it_matches() -> None:
    assert finetune_lr_matched().importance == mas_lr().importance
    assert finetune_lr_matched().granularity == mas_lr().granularity


def test_controls_differ_from_their_method_in_one_thing() -> None:
    assert mas_fix_random().importance == mas_fix().importance
    assert finetune_low_lr(1.0).regularizer == finetune().regularizer


@pytest.mark.parametrize("name", NAMES)
def test_a_measure_s_words_mean_that_measure(name: str) -> None:
    for recipe in ("paper", "authors"):
        if recipe == "paper" or "recipe" in signature(built_in()[name]).parameters:
            importance = method_named(name, **({} if recipe == "paper" else {"recipe": recipe})).importance
            assert importance is None or measure_named(words_for(importance)) == importance
