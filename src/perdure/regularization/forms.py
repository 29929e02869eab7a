"""The forms by name, and back from settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perdure.errors import MethodError
from perdure.regularization.base import Regularizer
from perdure.regularization.distillation import Distillation
from perdure.regularization.freezing import Freezing
from perdure.regularization.learning_rate import LearningRate
from perdure.regularization.surrogate_loss import SurrogateLoss
from perdure.regularization.unrestrained import Unrestrained

FORMS: dict[str, type[Regularizer]] = {
    kind.name: kind for kind in (Unrestrained, SurrogateLoss, LearningRate, Freezing, Distillation)
}


def form_from(settings: Mapping[str, Any], kinds: Mapping[str, type[Regularizer]] = FORMS) -> Regularizer:
    """The regularizer with these settings.

    Args:
        settings: `form` is the name; the others are its fields. What is left out has its default.
        kinds: the forms by name.

    Raises:
        MethodError: if there is no such form or setting.
    """
    given = dict(settings)
    name = given.pop("form", None)
    if not isinstance(name, str) or name not in kinds:
        raise MethodError(f"There is no regularizer {name!r}. Regularizers: {', '.join(kinds)}.")
    try:
        return kinds[name](**given)
    except TypeError as error:
        raise MethodError(f"Regularizer {name!r}: {error}.") from error
