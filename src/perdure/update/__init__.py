"""Train one deployed model on one new domain.

The room has the name of its main function, and `perdure.update` has to be both: the module can be called.
"""

import sys
from types import ModuleType
from typing import Any

from perdure.update.consolidation import consolidate
from perdure.update.interpolation import interpolated_release
from perdure.update.losses import ClassificationLoss, SegmentationLoss
from perdure.update.machine import Machine
from perdure.update.recipe import Recipe, paper_a, paper_b, recipe_for
from perdure.update.retention import Retained, retain
from perdure.update.train import adopt, check_old_data, train, update

__all__ = [
    "ClassificationLoss",
    "Machine",
    "Recipe",
    "Retained",
    "SegmentationLoss",
    "adopt",
    "check_old_data",
    "consolidate",
    "interpolated_release",
    "paper_a",
    "paper_b",
    "recipe_for",
    "retain",
    "train",
    "update",
]


class _Room(ModuleType):
    def __call__(self, *args: Any, **settings: Any) -> Any:
        return update(*args, **settings)


sys.modules[__name__].__class__ = _Room
