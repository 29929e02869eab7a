"""A TOML file can say all that the options can."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from perdure.errors import ConfigurationError, Problem


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes the values of a configuration file the defaults of a command's options; the command line wins.

    Keys are the names of the options, without dashes in front and with `-` or `_` inside. An option that may be
    repeated takes a list, or one value.

    Raises:
        ConfigurationError: if the file cannot be read, or says something that is no option, or of another type than the
            option; all mistakes at once.
    """
    if path is None:
        return None
    options = {name: p for p in context.command.params for name in _names(p.opts) if name not in ("config", "help")}
    hints = get_type_hints(context.command.callback, include_extras=True)
    problems: list[Problem] = []
    defaults: dict[str, Any] = {}
    for key, value in _content(path).items():
        option = options.get(key.replace("_", "-"))
        if option is None or option.name is None:
            allowed = f"no option of `{context.command_path}`; allowed are {', '.join(sorted(options))}"
            problems.append(Problem(str(path), key, repr(value), allowed))
        elif option.name in defaults:
            problems.append(Problem(str(path), key, "the same option twice", "say it once"))
        else:
            defaults[option.name], mistakes = _checked(hints[option.name], value)
            problems += [Problem(str(path), key, repr(value), mistake) for mistake in mistakes]
    if problems:
        raise ConfigurationError("\n".join(map(str, problems)))
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}.") from error


def _checked(hint: Any, value: Any) -> tuple[Any, list[str]]:
    """The value for an option, and what is wrong with it; TOML says numbers and booleans by itself, so "3" is no 3."""
    from pydantic import Field, TypeAdapter, ValidationError

    kind, option = get_args(hint)
    if not isinstance(value, list) and any(get_origin(part) is list for part in (kind, *get_args(kind))):
        value = [value]
    ranged: Any = Annotated[kind, Field(ge=option.min, le=option.max)]
    try:
        return TypeAdapter(ranged).validate_json(json.dumps(value, default=str), strict=True), []
    except ValidationError as error:
        return None, [details["msg"] for details in error.errors()]


def _names(opts: list[str]) -> list[str]:
    return [option.lstrip("-") for option in opts if option.startswith("--")]
