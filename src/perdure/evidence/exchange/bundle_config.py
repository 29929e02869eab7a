"""A MONAI bundle's configuration as data: references are followed, expressions are not evaluated.

MONAI gives every text that begins with `$` to Python's `eval`, and imports whatever stands under `_target_`. Here such
a text is a value that nobody knows, and a `_target_` is a name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.errors import NetworkError
from perdure.evidence.exchange.adoptable import read_object

NAMES = ("inference", "evaluate", "train")
"""Files that may say what the network is, the best first."""
_SUFFIXES = (".json", ".yaml", ".yml")
_DEEPEST, _MOST = 32, 100_000


@dataclass(frozen=True)
class Unknown:
    """A value that only MONAI could tell, by evaluating it.

    Args:
        text: as it stands there.
    """

    text: str


@dataclass(frozen=True)
class BundleConfig:
    """One configuration file.

    Args:
        path: of the file.
        content: all of it.
    """

    path: Path
    content: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """What stands under a key at the top, with references followed; None where there is no such key."""
        return self.resolved(self.content[name]) if name in self.content else None

    def resolved(self, value: Any) -> Any:
        """A value with what it refers to in its place, and `Unknown` for what would be evaluated.

        Raises:
            NetworkError: if references lead in circles, or to more than any network needs.
        """
        return self._resolved(value, 0, iter(range(_MOST)))

    def _resolved(self, value: Any, depth: int, budget: Iterator[int]) -> Any:
        if depth > _DEEPEST or next(budget, None) is None:
            raise NetworkError(f"{self.path}: references lead in circles, or to more than {_MOST} values.")
        if isinstance(value, Mapping):
            return {key: self._resolved(one, depth + 1, budget) for key, one in value.items()}
        if isinstance(value, list):
            return [self._resolved(one, depth + 1, budget) for one in value]
        if not isinstance(value, str) or not value.startswith(("$", "@", "%")):
            return value
        found: Any = self.content
        for part in value[1:].replace("#", "::").split("::") if value.startswith("@") else ("",):
            if isinstance(found, Mapping) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            else:
                return Unknown(value)
        return self._resolved(found, depth + 1, budget)


def read_config(folder: Path) -> BundleConfig:
    """The configuration of a bundle that says what its network is.

    Raises:
        NetworkError: if there is none, or it cannot be read.
    """
    for name in NAMES:
        for suffix in _SUFFIXES:
            path = folder / "configs" / f"{name}{suffix}"
            if path.is_file():
                return BundleConfig(path, read_object(path) if suffix == ".json" else _yaml(path))
    names = ", ".join(f"{name}.json" for name in NAMES)
    raise NetworkError(f"{folder / 'configs'}: found none of {names} (or .yaml); name the folder of a MONAI bundle.")


def _yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise NetworkError(f"{path}: needs PyYAML to be read (pip install PyYAML), or write it as JSON.") from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise NetworkError(f"{path}: no readable YAML ({error}); copy it again.") from error
    if not isinstance(content, dict):
        raise NetworkError(f"{path}: found {type(content).__name__}; it must hold a table.")
    return content


def transforms(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The transforms of a resolved `Compose` in order: the last part of each name, and its settings.

    Of what is no such thing, as an expression, the name is its text.
    """
    if isinstance(value, Mapping) and "transforms" in value:
        yield from transforms(value["transforms"])
    elif isinstance(value, list):
        for one in value:
            yield from transforms(one)
    elif isinstance(value, Mapping) and isinstance(value.get("_target_"), str):
        yield value["_target_"].rpartition(".")[2], value
    elif value is not None:
        yield (value.text if isinstance(value, Unknown) else repr(value)), {}
