"""A configuration file says what options say, and every mistake in it is named with its file and key."""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import typer

from command import Command
from perdure.cli.app import COMMANDS, app
from perdure.cli.requests import recipe_settings
from perdure.errors import ConfigurationError

EXAMPLES: dict[str, Any] = {"int": 7, "float": 0.5, "bool": True, "str": "word", "Path": Path("some/path")}


def values_of(name: str, arguments: list[str]) -> dict[str, Any]:
    """What a command would be called with."""
    command = typer.main.get_command(app).commands[name]
    return command.make_context(name, arguments).params


def written(path: Path, content: dict[str, Any]) -> Path:
    """TOML of plain values and lists, which it writes as JSON does."""
    lines = [f"{key} = {json.dumps(value, default=str)}" for key, value in content.items()]
    path.write_text("\n".join(lines))
    return path


def example(hint: Any) -> Any:
    """A value that an option takes, and not its default."""
    kind = get_args(hint)[0]
    if get_origin(kind) in (Union, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is Literal:
        return get_args(kind)[-1]
    if get_origin(kind) is list:
        return [EXAMPLES[get_args(kind)[0].__name__]] * 2
    return EXAMPLES[kind.__name__]


@pytest.mark.parametrize("name", [command.__name__ for command in COMMANDS if command.__name__ != "inspect"])
def test_every_option_of_every_command_can_be_said_in_the_file(tmp_path: Path, name: str) -> None:
    command = typer.main.get_command(app).commands[name]
    parameters = [p for p in command.params if p.opts[0].startswith("--") and p.name != "config"]
    hints = get_type_hints(command.callback, include_extras=True)
    arguments = [str(example(hints[p.name])) for p in command.params if p.param_type_name == "argument"]
    wanted = {p.name: example(hints[p.name]) for p in parameters}
    file = written(tmp_path / "c.toml", {p.opts[0].lstrip("-"): wanted[p.name] for p in parameters})
    found = values_of(name, [*arguments, "--config", str(file)])
    assert {key: list(found[key]) if isinstance(found[key], tuple) else found[key] for key in wanted} == wanted


def update(tmp_path: Path, toml: str, *arguments: str) -> dict[str, Any]:
    (tmp_path / "c.toml").write_text('release = "r"\ndata = "d"\ndomain = "b"\nout = "o"\n' + toml)
    return values_of("update", ["--config", str(tmp_path / "c.toml"), *arguments])


def test_the_command_line_wins(tmp_path: Path) -> None:
    toml = 'epochs = 3\naugment = true\njoint-with = ["a"]\nmethod = "joint"'
    found = update(tmp_path, toml, "--epochs", "5", "--no-augment", "--joint-with", "x", "--method", "finetune")
    assert (found["epochs"], found["augmentation"], list(found["joint_with"]), found["method"]) == (
        5, False, ["x"], "finetune"
    )  # fmt: skip


def test_what_the_file_does_not_say_keeps_its_default(tmp_path: Path) -> None:
    found = update(tmp_path, "epochs = 3")
    assert (found["epochs"], found["method"], found["batch_size"], found["as_json"]) == (3, None, None, False)


def test_underscores_and_dashes_are_the_same(tmp_path: Path) -> None:
    assert update(tmp_path, "batch_size = 3\nlearning-rate = 1")["batch_size"] == 3


def test_one_value_stands_for_a_list_of_one(tmp_path: Path) -> None:
    assert list(update(tmp_path, 'joint-with = "a"')["joint_with"]) == ["a"]


def test_a_whole_number_is_a_number_for_a_learning_rate(tmp_path: Path) -> None:
    assert update(tmp_path, "learning-rate = 1")["learning_rate"] == 1.0


@pytest.mark.parametrize(
    ("toml", "key", "found", "allowed"),
    [
        ('epochs = "3"', "epochs", "'3'", "valid integer"),
        ("epochs = 2.5", "epochs", "2.5", "valid integer"),
        ("epochs = true", "epochs", "True", "valid integer"),
        ("epochs = [1, 2]", "epochs", "[1, 2]", "valid integer"),
        ('learning-rate = "fast"', "learning-rate", "'fast'", "valid number"),
        ('augment = "yes"', "augment", "'yes'", "valid boolean"),
        ("augment = 1", "augment", "1", "valid boolean"),
        ("json = 0", "json", "0", "valid boolean"),
        ("method = 3", "method", "3", "valid string"),
        ('batch-norm = "theirs"', "batch-norm", "'theirs'", "Input should be 'target'"),
        ("joint-with = [1]", "joint-with", "[1]", "valid string"),
        ("cache = true", "cache", "True", "valid string"),
        ("devices = 0", "devices", "0", "greater than or equal to 1"),
        ("[epochs]\nfirst = 3", "epochs", "{'first': 3}", "valid integer"),
    ],
)
def test_a_value_of_another_type_or_range_names_file_key_value_and_what_is_allowed(
    tmp_path: Path, toml: str, key: str, found: str, allowed: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        update(tmp_path, toml)
    assert str(caught.value).startswith(f"{tmp_path / 'c.toml'}: {key}: found {found}; ")
    assert allowed in str(caught.value)


def test_an_unknown_key_names_file_key_and_all_that_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        update(tmp_path, "epoch = 3")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'c.toml'}: epoch: found 3; no option of `update`; allowed are ")
    names = message.partition("allowed are ")[2].split(", ")
    assert {"epochs", "method", "joint-with", "augment", "json"} <= set(names)
    assert names == sorted(names)
    assert not {"config", "help", "as-json", "no-augment"} & set(names)


def test_all_mistakes_come_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        update(tmp_path, 'epochs = "3"\nconfig = "x"\nbatch-size = 2\nbatch_size = 3')
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["epochs", "config", "batch_size"]
    assert "twice" in lines[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"epochs = ", "is not TOML"), (b"\xff", "is not TOML"), (None, "cannot be read: No such file")],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, command: Command, content: bytes | None, message: str
) -> None:
    file = tmp_path / "c.toml"
    if content is not None:
        file.write_bytes(content)
    ended = command("update", "--config", file)
    assert ended.code == 2
    assert f"error: {file}: {message}" in ended.err


def test_patience_can_be_taken_away_from_a_preset_that_has_it() -> None:
    assert recipe_settings(patience=0, epochs=3) == {"patience": None, "epochs": 3}
