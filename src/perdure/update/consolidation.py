"""What a model has learnt becomes memory."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from perdure.importance import MAS, Importance, Scaling, aggregate, filter_axes
from perdure.models.batch_norm import statistics
from perdure.release import Memory
from perdure.release.memory import accumulated
from perdure.update.processes import sum_over_processes

if TYPE_CHECKING:
    from torch import nn

    from perdure.types import Batches, Granularity


def settings_of(importance: Importance, scaling: Scaling) -> dict[str, Any]:
    """A measure and its scaling as plain JSON values."""
    measure: dict[str, Any] = asdict(importance)  # type: ignore[call-overload]  # measures are dataclasses
    # as a release gives them back: a tuple becomes a list
    settings: dict[str, Any] = json.loads(
        json.dumps({"measure": type(importance).__name__, **measure, "scaling": asdict(scaling)})
    )
    return settings


def consolidate(
    model: nn.Module,
    batches: Batches,
    importance: Importance | None = None,
    granularity: Granularity = "parameter",
    *,
    scaling: Scaling | None = None,
    previous: Memory | None = None,
) -> Memory:
    """Measures what matters to what a model has just learnt, while that domain's data are still there.

    Args:
        model: any torch model, after training on the domain.
        batches: iterable of (input, target) or of inputs: the domain's training samples, without augmentation. It is
            read once.
        importance: the measure; MAS if left out.
        granularity: whether weights are kept for each parameter, kernel or filter.
        scaling: how raw importance becomes weights; left out, as in `previous`, or clipped and scaled to [0, 1].
        previous: the memory of the domains before; this one's importance is averaged into it.

    Returns:
        The memory: the model's parameters as anchor, its importance, and the batch-norm statistics of the original
        domain.

    Raises:
        MethodError: if there are no samples or no trainable parameters, or importance is not finite.
        ReleaseError: if `previous` was measured with other settings, or of other parameters.

    Example:
        memory = perdure.consolidate(model, batches, importance=perdure.MAS(), granularity="filter")
    """
    importance = MAS() if importance is None else importance
    past = None if previous is None else previous.measures.get(importance.key)
    if scaling is None:
        scaling = Scaling() if past is None else Scaling(**past.settings["scaling"])
    axes = filter_axes(model)
    raw = importance.estimate(model, batches, sum_over_processes=sum_over_processes)
    scaled = aggregate(scaling(raw), granularity, axes)
    measure = accumulated(past, raw, scaled, settings_of(importance, scaling))
    others = {} if previous is None else dict(previous.measures)
    return Memory(
        anchor={name: parameter.detach().clone() for name, parameter in model.named_parameters()},
        measures={**others, importance.key: measure},
        statistics=statistics(model) if previous is None else previous.statistics,
        granularity=granularity,
        axes=axes,
    )
