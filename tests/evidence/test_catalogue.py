from __future__ import annotations

import json
from importlib.metadata import EntryPoint

import pytest
from rich.console import Console, RenderableType

from perdure.evidence.catalogue import methods_record, methods_table, networks_table
from perdure.methods import built_in
from perdure.models import networks


def printed(table: RenderableType) -> str:
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_every_method_is_listed_with_what_it_does() -> None:
    text = printed(methods_table())
    for name, factory in built_in().items():
        assert f"{name} " in text
        assert factory().summary in text
        assert methods_record()[name] == {"by": "perdure", **factory().record()}
    json.dumps(methods_record(), allow_nan=False)


def test_a_method_of_another_package_is_listed_by_where_it_is_and_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs [x]", "no_such_package.module:theirs", "perdure.methods")
    monkeypatch.setattr("perdure.methods.registry.entry_points", lambda group: [point])
    assert methods_record()["theirs [x]"] == {"by": "no_such_package.module:theirs"}
    line = next(line for line in printed(methods_table()).splitlines() if "theirs [x]" in line)
    assert "of another package" in line
    assert "no_such_package.module:theirs" in line


def test_every_kind_of_network_is_listed() -> None:
    text = printed(networks_table())
    assert all(name in text and line in text for name, line in networks().items())
