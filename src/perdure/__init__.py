"""Updates a deployed medical-imaging model without forgetting the domains it already serves."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure import data, evaluation, methods, models
    from perdure.importance import MAS
    from perdure.methods import Method
    from perdure.models import QuickNAT, evaluation_mode, training_mode
    from perdure.regularization import LearningRate
    from perdure.release import Memory, Release
    from perdure.update import Recipe, adopt, consolidate, retain
    from perdure.update.train import train, update

__version__ = version("perdure")

# name -> the room it lives in; imported when it is first asked for, so that `import perdure` and the command line
# stay quick
_ROOMS = {
    "MAS": "importance",
    "LearningRate": "regularization",
    "Memory": "release",
    "Method": "methods",
    "QuickNAT": "models",
    "Recipe": "update",
    "Release": "release",
    "adopt": "update",
    "consolidate": "update",
    "evaluation_mode": "models",
    "retain": "update",
    "train": "update",
    "training_mode": "models",
    "update": "update",
}
_MODULES = ("data", "evaluation", "methods", "models")

__all__ = [
    "MAS",
    "LearningRate",
    "Memory",
    "Method",
    "QuickNAT",
    "Recipe",
    "Release",
    "adopt",
    "consolidate",
    "data",
    "evaluation",
    "evaluation_mode",
    "methods",
    "models",
    "retain",
    "train",
    "training_mode",
    "update",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        room = import_module(f"perdure.{_ROOMS[name]}")
        value = room if name == "update" else getattr(room, name)
    elif name in _MODULES:
        value = import_module(f"perdure.{name}")
    else:
        raise AttributeError(f"module 'perdure' has no attribute {name!r}")
    globals()[name] = value
    return value
