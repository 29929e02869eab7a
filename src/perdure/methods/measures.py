"""Which importance a release shall carry, in the words of the command line."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from perdure.errors import MethodError
from perdure.importance import MEASURES, Importance, measure_from
from perdure.methods.authors import mas_importance
from perdure.methods.composition import composed

AUTHORS = "mas-authors"


def measure_named(words: str) -> Importance:
    """A measure of importance as the command line says it.

    Args:
        words: a measure (`mas`, `fisher`, `si`, `uniform`), with its own settings after a colon if need be
            (`fisher:labels=dataset,seed=1`); `mas-authors`, what the authors' recipe of the MAS methods needs; or a
            file that composes a method (`mine.toml`), whose importance is meant.

    Raises:
        MethodError: if there is no such measure or setting, or the file's method measures nothing.
    """
    if words.endswith(".toml"):
        importance = composed(words).importance
        if importance is None:
            raise MethodError(f"{words}: its method measures no importance; it has no table [importance].")
        return importance
    if words == AUTHORS:
        return mas_importance("authors")
    name, _, settings = words.partition(":")
    if name not in MEASURES:
        allowed = ", ".join([*MEASURES, AUTHORS])
        raise MethodError(f"There is no importance measure {name!r}. Measures: {allowed}, or a method's FILE.toml.")
    given: dict[str, Any] = {"measure": name}
    for setting in filter(None, settings.split(",")):
        key, separator, value = setting.partition("=")
        if not separator or key in given:
            raise MethodError(f"{words!r}: found {setting!r}; write NAME:setting=value,setting=value, each once.")
        given[key] = _value(value)
    return measure_from(given)


def words_for(measure: Importance) -> str:
    """What `measure_named` takes for a measure; for one that only a file can say, `FILE.toml` of its method."""
    if measure == mas_importance("authors"):
        return AUTHORS
    kind = type(measure)
    usual = kind()
    values = {field.name: getattr(measure, field.name) for field in fields(measure)}
    own = {name: value for name, value in values.items() if value != getattr(usual, name)}
    if MEASURES.get(measure.name) is not kind or "scaling" in own:
        return "FILE.toml (the file that composes the method)"
    settings = ",".join(f"{name}={value}" for name, value in own.items())
    return f"{measure.name}:{settings}" if settings else measure.name


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
