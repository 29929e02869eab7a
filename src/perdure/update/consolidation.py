"""What a model has learnt becomes memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from perdure.errors import MethodError
from perdure.importance import MAS, Importance, aggregate, filter_axes
from perdure.models.batch_norm import statistics
from perdure.release import Memory
from perdure.release.memory import accumulated
from perdure.update.processes import sum_over_processes

if TYPE_CHECKING:
    from torch import nn

    from perdure.types import Batches, Granularity


def consolidate(
    model: nn.Module,
    batches: Batches,
    importance: Importance | None = None,
    granularity: Granularity = "parameter",
    *,
    previous: Memory | None = None,
    watched: Mapping[str, Any] | None = None,
    subjects: int | None = None,
) -> Memory:
    """Measures what matters to what a model has just learnt, while that domain's data are still there.

    Args:
        model: any torch model, after training on the domain.
        batches: iterable of (input, target) or of inputs: the domain's training samples, without augmentation. It is
            read once.
        importance: the measure with its scaling; MAS, clipped and scaled to [0, 1], if left out.
        granularity: whether weights are kept for each parameter, kernel or filter.
        previous: the memory of the domains before; this one's importance joins it.
        watched: what a measure gathered while the model trained, see `Importance.watching`. Empty, because nothing
            trained: the importance of the domains before stays as it was.
        subjects: of how many subjects the batches are, for the record; None where nobody counted.

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
    axes = filter_axes(model)
    counted = _Counted(batches)
    raw = importance.estimate(model, counted, sum_over_processes=sum_over_processes, watched=watched)
    scaled = aggregate(importance.scaling(raw, axes), granularity, axes)
    anchor = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    before = {} if previous is None else previous.anchor
    samples = int(sum_over_processes(torch.tensor(float(counted.samples), device=next(model.parameters()).device)))
    measures = {} if previous is None else {key: one.moved(before, anchor) for key, one in previous.measures.items()}
    # where nothing trained nothing was gathered, and a domain of zeros would only thin out those before
    if past is None or not importance.is_gathered or watched != {}:
        settings = importance.settings()
        measures[importance.key] = accumulated(past, raw, scaled, settings, samples, before, anchor, subjects)
    return Memory(
        anchor=anchor,
        measures=measures,
        statistics=statistics(model) if previous is None else previous.statistics,
        frozen={} if previous is None else previous.frozen,
        granularity=granularity,
        axes=axes,
    )


class _Counted:
    """The same batches, counting their samples as they are read."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.samples = 0

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.batches, Tensor):
            raise MethodError(
                f"`batches` must be an iterable of batches; got one tensor, {tuple(self.batches.shape)}: use [x]."
            )
        for batch in self.batches:
            self.samples += len(batch[0] if isinstance(batch, tuple | list) else batch)
            yield batch
