"""Any importance with any regularizer and any batch-norm policy, from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from perdure.errors import MethodError
from perdure.importance import measure_from
from perdure.methods.method import Method
from perdure.regularization import form_from

PARTS = ("importance", "regularizer")
TEXTS = ("name", "source", "summary")
KINDS: dict[str, tuple[type, str]] = {
    **dict.fromkeys(PARTS, (dict, "a table")),
    **dict.fromkeys(TEXTS, (str, "a text")),
    "needs_dropout": (bool, "true or false"),
}
"""What TOML may say for the fields that `Method` does not check itself."""


def composed(path: Path | str) -> Method:
    """The method that a TOML file describes.

    Args:
        path: the file. `name`, and tables `[importance]` (`measure = "mas"`, and its settings) and `[regularizer]`
            (`form = "learning-rate"`, and its settings); any other field of `Method` beside them, but for `by`, which
            becomes the file.

    Raises:
        MethodError: naming the file, the field, what was found and what is allowed.

    Example:
        name = "fisher-lr"
        granularity = "filter"
        batch_norm = "original"
        [importance]
        measure = "fisher"
        [importance.scaling]
        outliers = "clip"
        range = "unit"
        [regularizer]
        form = "learning-rate"
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MethodError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise MethodError(f"{path}: is not TOML: {error}.") from error
    try:
        return method_of(content, path.name)
    except MethodError as error:
        raise MethodError(f"{path}: {error}") from error


def method_of(content: Mapping[str, Any], file: str) -> Method:
    """The method that a table describes; see `composed`.

    Raises:
        MethodError: naming the field, what was found and what is allowed.
    """
    allowed = [field.name for field in fields(Method) if field.name != "by"]
    if unknown := sorted(content.keys() - set(allowed)):
        raise MethodError(f"{', '.join(unknown)}: no field of a method; allowed are: {', '.join(allowed)}.")
    if "regularizer" not in content:
        raise MethodError('regularizer: missing; add a table [regularizer] with form = "...".')
    defaults = {"name": Path(file).stem, "source": "composed", "summary": "composed by a file"}
    settings = {**defaults, **content, "by": f"file {file}"}
    for name, (kind, article) in KINDS.items():
        if name in settings and not isinstance(settings[name], kind):
            raise MethodError(f"{name}: found {settings[name]!r}; it must be {article}.")
    if "importance" in settings:
        settings["importance"] = measure_from(settings["importance"])
    return Method(**{**settings, "regularizer": form_from(settings["regularizer"])})


def adjusted(method: Method, file: str, settings: Mapping[str, Any]) -> Method:
    """A composed method with other values for some of its plain fields.

    Raises:
        MethodError: if a setting is no such field, and so stands in the file.
    """
    allowed = [field.name for field in fields(Method) if field.name not in (*PARTS, *TEXTS, "by", "recipe")]
    if unknown := sorted(settings.keys() - set(allowed)):
        raise MethodError(
            f"{file}: {', '.join(unknown)}: no setting beside a file; write it there, under [importance] or "
            f"[regularizer]. Allowed beside it are: {', '.join(allowed)}."
        )
    return replace(method, **settings)
