"""What every method and measure of ours writes into a release is what the audit makes again from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from inspect import signature
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.evidence.audit.parts import _measures, _method, _recipe
from perdure.importance import MEASURES
from perdure.methods import Method, measure_named, method_named
from perdure.methods.registry import built_in
from perdure.release.identity import Measure
from perdure.types import Counts
from perdure.update.recipe import Recipe, paper_a, paper_b


def of(**parts: Any) -> Any:
    """What the audit reads of an `Identity`, as it comes back from JSON."""
    counts = Counts(subjects={"train": 9}, cases={"train": 9}, samples={"train": 9})
    domain = SimpleNamespace(domain="a", counts=counts)
    fields = {"method": {}, "measures": {}, "recipe": {}, "origin": "updated", "domains": (domain,), **parts}
    return SimpleNamespace(**fields)


def written(method: Method) -> Any:
    return json.loads(json.dumps(method.record()))


@pytest.mark.parametrize("name", list(built_in()))
def test_every_method_is_made_again_from_its_record(name: str) -> None:
    factory: Callable[..., Method] = built_in()[name]
    settings: list[dict[str, Any]] = [{}]
    settings += [{"recipe": "authors"}] if "recipe" in signature(factory).parameters else []
    settings += [{"trainable": "head"}] if factory().trainable == "all" and factory().data != "none" else []
    settings += [{"strength": 10.0}] if "strength" in signature(factory).parameters else []
    for chosen in settings:
        assert list(_method(of(method=written(method_named(name, **chosen))))) == [], chosen


def test_a_method_that_a_file_composes_is_made_again(tmp_path: Any) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\ngranularity = "filter"\n[importance]\nmeasure = "fisher"\nlabels = "dataset"\n'
        '[importance.scaling]\noutliers = "clip"\nrange = "unit"\n[regularizer]\nform = "learning-rate"\n'
    )
    assert list(_method(of(method=written(method_named(str(file)))))) == []


@pytest.mark.parametrize(
    "change",
    [
        {"name": "nothing-of-ours"},
        {"rate": [[1.0, 2.0]]},
        {"regularizer": {"form": "theirs"}},
        {"regularizer": [1, 2]},
        {"importance": "mas"},
        {"granularity": [1] * 60},
        {"note": "x"},
        {"weight_decay": True},
        {"needs_dropout": [[1.0, 2.0]]},
        {"summary": ["Jane", "Doe"]},
        {"by": {"Jane": "Doe"}},
    ],
)
def test_anything_else_in_a_method_is_an_objection(change: dict[str, Any]) -> None:
    assert list(_method(of(method={**written(method_named("mas-lr")), **change})))


def test_a_base_release_names_its_origin_and_nothing_else() -> None:
    assert list(_method(of(method={"name": "trained"}, origin="trained"))) == []
    assert list(_method(of(method={"name": "Jane Doe"}, origin="trained")))


@pytest.mark.parametrize("name", [*MEASURES, "mas-authors", "fisher:labels=dataset,seed=123456789"])
def test_every_measure_is_made_again_from_its_settings(name: str) -> None:
    measure = measure_named(name)
    settings = json.loads(json.dumps(measure.settings()))
    kept = {measure.key: Measure(domains=1, samples=9, settings=settings)}
    assert list(_measures(of(measures=kept))) == []
    del settings["scaling"]["logarithmic"]  # as a release from before there was such a setting
    assert list(_measures(of(measures={measure.key: Measure(domains=1, samples=9, settings=settings)}))) == [] or (
        measure.scaling.logarithmic
    )
    image = [[0.5, 0.25], [0.125, 0.75]]
    for change in ({"x": 1}, {"scaling": [1, 2]}, {"scaling": {"logarithmic": image}}, {"accumulation": image}):
        assert list(_measures(of(measures={measure.key: Measure(domains=1, samples=9, settings=settings | change)})))


@pytest.mark.parametrize("recipe", [Recipe(), paper_a("update"), paper_b(), Recipe(patience=3, importance_samples=40)])
def test_every_recipe_is_one(recipe: Recipe) -> None:
    said = recipe.model_dump(mode="json")
    assert list(_recipe(of(recipe=said))) == []
    assert list(_recipe(of(recipe={**said, "epochs": "12"})))
    assert list(_recipe(of(recipe={**said, "momentum": [0.9]})))
