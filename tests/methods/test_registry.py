from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from perdure.errors import MethodError
from perdure.methods import Method, built_in, finetune, joint, mas_lr, method_named, registered, registry
from perdure.regularization import Unrestrained


def theirs(strength: float = 1.0) -> Method:
    return Method(f"theirs-{strength}", "somebody", "does nothing", Unrestrained())


@pytest.fixture
def _third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package's entry points: one that works, and some that do not."""
    module = ModuleType("their_package")
    module.theirs = theirs
    module.number = lambda: 3
    monkeypatch.setitem(sys.modules, "their_package", module)
    points = [
        EntryPoint(name, value, "perdure.methods")
        for name, value in {
            "theirs": "their_package:theirs",
            "lost": "no_such_package_at_all:method",
            "renamed": "their_package:gone",
            "number": "their_package:number",
            "mas-lr": "their_package:theirs",
        }.items()
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: [point for point in points if point.group == group])


def test_ours_are_found_by_their_published_names() -> None:
    assert {"finetune": finetune, "joint": joint, "mas-lr": mas_lr}.items() <= built_in().items()
    assert all(method_named(name) == make() for name, make in built_in().items())
    assert all(make().name == name for name, make in built_in().items())


def test_settings_are_passed_on() -> None:
    assert method_named("mas-lr", granularity="kernel", batch_norm="original") == mas_lr("kernel", "original")


@pytest.mark.usefixtures("_third_party")
def test_an_unknown_name_lists_all_names_in_order() -> None:
    with pytest.raises(MethodError) as error:
        method_named("mas_lr")
    names = ", ".join(sorted({*built_in(), "lost", "number", "renamed", "theirs"}))
    assert str(error.value).startswith(f"There is no method 'mas_lr'. Methods: {names};")


@pytest.mark.parametrize(
    ("name", "settings", "found"),
    [("finetune", {"granularity": "filter"}, r"\['granularity'\]"), ("mas-lr", {"lamda": 1}, r"\['lamda'\]")],
)
def test_a_setting_that_a_method_does_not_have_is_named(name: str, settings: dict[str, object], found: str) -> None:
    with pytest.raises(MethodError, match=f"Method '{name}' does not take these settings: {found}"):
        method_named(name, **settings)


@pytest.mark.parametrize("name", sorted(set(built_in()) - {"bn-only", "dsbn", "no-update"}))
def test_what_trains_may_be_said_of_every_method_that_does_not_fix_it(name: str) -> None:
    for which in ("head", "all"):
        assert method_named(name, trainable=which) == replace(method_named(name), trainable=which)


@pytest.mark.parametrize(
    ("name", "fixed"), [("bn-only", "batch-norm"), ("dsbn", "batch-norm"), ("no-update", "nothing")]
)
def test_what_trains_cannot_be_said_of_a_method_that_fixes_it(name: str, fixed: str) -> None:
    with pytest.raises(MethodError, match=rf"Method '{name}' itself says what trains \({fixed}\)"):
        method_named(name, trainable="head")


@pytest.mark.usefixtures("_third_party")
def test_what_trains_may_be_said_of_another_package_s_method() -> None:
    assert method_named("theirs", strength=2.5, trainable="head").trainable == "head"


def test_a_value_that_a_setting_does_not_have_is_named() -> None:
    with pytest.raises(MethodError, match="`batch_norm` must be one of 'target', 'original', .*; got 'both'"):
        method_named("mas-lr", batch_norm="both")


@pytest.mark.usefixtures("_third_party")
def test_a_method_of_another_package_is_found_with_its_settings() -> None:
    assert method_named("theirs", strength=2.5).name == "theirs-2.5"


@pytest.mark.usefixtures("_third_party")
def test_ours_come_before_those_of_the_same_name() -> None:
    assert method_named("mas-lr") == mas_lr()


@pytest.mark.usefixtures("_third_party")
def test_listing_imports_none_of_their_code() -> None:
    assert registered()["lost"] == "no_such_package_at_all:method"


@pytest.mark.usefixtures("_third_party")
@pytest.mark.parametrize("name", ["lost", "renamed"])
def test_a_method_that_cannot_be_loaded_says_from_where(name: str) -> None:
    place = {"lost": "no_such_package_at_all:method", "renamed": "their_package:gone"}[name]
    with pytest.raises(MethodError, match=f"Method '{name}' cannot be loaded from '{place}'"):
        method_named(name)


@pytest.mark.usefixtures("_third_party")
def test_what_another_package_gives_must_be_a_method() -> None:
    with pytest.raises(MethodError, match="must return a Method; it returned int"):
        method_named("number")
