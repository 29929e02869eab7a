from __future__ import annotations

from pathlib import Path

import pytest

from command import Command
from perdure.methods import built_in
from perdure.models import networks


def test_methods_are_listed_for_people_and_machines(command: Command) -> None:
    text = command.succeeds("inspect", "methods").out
    record = command.succeeds("inspect", "methods", "--json").json
    assert set(built_in()) <= set(record)
    assert all(name in text for name in record)


def test_networks_are_listed_for_people_and_machines(command: Command) -> None:
    text = command.succeeds("inspect", "networks").out
    assert command.succeeds("inspect", "networks", "--json").json == networks()
    assert all(name in text for name in networks())


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_what_is_no_release_is_named(command: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    ended = command("inspect", tmp_path / name)
    assert ended.code == 1
    assert f"error: {tmp_path / name}" in ended.err
