"""The measures by name, and back from the settings that a memory keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perdure.errors import MethodError
from perdure.importance.base import Importance
from perdure.importance.fisher import Fisher
from perdure.importance.mas import MAS
from perdure.importance.path_integral import SI
from perdure.importance.scaling import Scaling
from perdure.importance.uniform import Uniform

MEASURES: dict[str, type[Importance]] = {kind.name: kind for kind in (MAS, Fisher, SI, Uniform)}


def measure_from(settings: Mapping[str, Any], kinds: Mapping[str, type[Importance]] = MEASURES) -> Importance:
    """The measure with these settings, as `Importance.settings` gave them or as a person wrote them.

    Args:
        settings: `measure` is the name; the others are its fields, `scaling` a table of its own. What is left out has
            its default.
        kinds: the measures by name.

    Raises:
        MethodError: if there is no such measure or setting.
    """
    given = dict(settings)
    name = given.pop("measure", None)
    if not isinstance(name, str) or name not in kinds:
        raise MethodError(f"There is no importance measure {name!r}. Measures: {', '.join(kinds)}.")
    try:
        if isinstance(scaling := given.get("scaling"), Mapping):
            given["scaling"] = Scaling(**_tuples(scaling))
        return kinds[name](**_tuples(given))
    except TypeError as error:
        raise MethodError(f"Importance measure {name!r}: {error}.") from error


def _tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    # JSON and TOML have lists alone, and settings are tuples, because they do not change
    return {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
