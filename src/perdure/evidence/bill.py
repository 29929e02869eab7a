"""What is installed here, is it what made a release, and is it what was pinned? A bill of materials, without a network.

In the form of CycloneDX 1.6, which scanners for known weaknesses read (`pip-audit`, `grype`, Dependency-Track): they
need the network that Perdure does not use, so that somebody can run them on the bill wherever there is one.
"""

from __future__ import annotations

import json
import platform
import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from perdure.errors import ConfigurationError, Problem
from perdure.types import Value

_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*==\s*(?P<version>[A-Za-z0-9.+!_-]+)\s*(;.*|#.*)?")
_LONGEST_LICENCE = 100  # characters; some distributions put the whole text there


class Difference(Value):
    """One library that is installed in another version than it should be.

    Args:
        name: of the library.
        expected: the version that made the release, or that is pinned.
        installed: the version here; None where it is not installed.
    """

    name: str
    expected: str
    installed: str | None


class Bill(Value):
    """What a report says of its bill of materials.

    Args:
        components: how many distributions are on it.
        sha256: of the file.
        release: libraries that made the release in another version than is installed.
        pins: libraries that are installed in another version than is pinned; None where no pins were given.
    """

    components: int
    sha256: str
    release: tuple[Difference, ...]
    pins: tuple[Difference, ...] | None = None


def installed() -> dict[str, Distribution]:
    """Every installed distribution by its normalised name; of several with one name the one that Python imports."""
    found: dict[str, Distribution] = {}
    for one in distributions():
        found.setdefault(normalised(one.metadata["Name"]), one)
    return dict(sorted(found.items()))


def normalised(name: str) -> str:
    """A name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def bill_of_materials(created: datetime) -> bytes:
    """The bill as CycloneDX JSON; the same for the same installation but for its time.

    Args:
        created: when it was made, UTC.
    """
    components = [
        {
            "type": "platform",
            "bom-ref": "python",
            "name": platform.python_implementation().lower(),
            "version": platform.python_version(),
        },
        *(_component(name, one) for name, one in installed().items()),
    ]
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components, sort_keys=True))
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{number}",
        "version": 1,
        "metadata": {"timestamp": created.isoformat()},
        "components": components,
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def differences(expected: Mapping[str, str]) -> tuple[Difference, ...]:
    """Which of these versions are not those that are installed.

    Args:
        expected: version by library; `python` is the interpreter.
    """
    found = {name: one.version for name, one in installed().items()} | {"python": platform.python_version()}
    return tuple(
        Difference(name=name, expected=version, installed=found.get(normalised(name)))
        for name, version in expected.items()
        # "2.13.0+cpu" is a build of 2.13.0
        if found.get(normalised(name), "").partition("+")[0] != version.partition("+")[0]
    )


def pinned(path: Path) -> dict[str, str]:
    """The versions that a constraints or requirements file pins with `==`; other lines say nothing of a version.

    Raises:
        ConfigurationError: if the file cannot be read, or pins nothing.
    """
    allowed = "name a file with lines `name==version`, as `pip freeze` writes them"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            str(Problem(str(path), "file", f"none that can be read ({error})", allowed))
        ) from error
    pins = {pin["name"]: pin["version"] for line in lines if (pin := _PIN.fullmatch(line.strip()))}
    if not pins:
        raise ConfigurationError(str(Problem(str(path), "lines", "none that pins a version", allowed)))
    return pins


def _component(name: str, one: Distribution) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": name,
        "name": one.metadata["Name"],
        "version": one.version,
        "purl": f"pkg:pypi/{name}@{one.version.replace('+', '%2B')}",
    }
    expressions, texts = (one.metadata.get_all(key) or [""] for key in ("License-Expression", "License"))
    text = str(texts[0]).strip()
    if expressions[0]:
        component["licenses"] = [{"expression": expressions[0]}]
    elif text and len(text) <= _LONGEST_LICENCE and "\n" not in text:
        component["licenses"] = [{"license": {"name": text}}]
    return component
