"""What an update did: to the weights, to the statistics, to the scores on earlier domains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure.evaluation.evaluate import evaluate
from perdure.evaluation.scores import mean_scores
from perdure.models import batch_norms, statistics, swapped_statistics
from perdure.types import Value

if TYPE_CHECKING:
    from torch import Tensor

    from perdure.data import FolderDomain
    from perdure.release import Release
    from perdure.types import ParamDict, Split
    from perdure.update.run_folder import Epoch


class Share(Value):
    """How much of one epoch was the restraint's; None where it was not recorded, or the form has no such thing.

    Args:
        epoch: counted from 1.
        in_loss: of what the penalty costs and the task's loss together.
        in_gradient: of the lengths of both gradients together, in the last step; for a form that acts on the step, of
            the step's length and that of its change.
        step_share: length of the last step taken over that of the step that the optimizer computed.
    """

    epoch: int
    in_loss: float | None
    in_gradient: float | None
    step_share: float | None


class Movement(Value):
    r"""How far one layer moved from its anchor θ*.

    Args:
        layer: its name.
        parameters: how many it has.
        importance: the mean of Ω over them; None where it carries none.
        in_importance: :math:`\sum_i \Omega_i (\theta_i - \theta_i^*)^2`; None as above.
        distance: :math:`|\theta - \theta^*|`.
        relative: that over :math:`|\theta^*|`; None where the anchor is 0.
    """

    layer: str
    parameters: int
    importance: float | None
    in_importance: float | None
    distance: float
    relative: float | None


class Drift(Value):
    r"""How far the statistics of one batch norm moved, as means over channels.

    Args:
        layer: its name.
        shift: :math:`|\mu - \mu_0| / \sigma_0`, from the parent's.
        log_variance_ratio: :math:`|\ln(\sigma^2 / \sigma_0^2)|`, from the parent's.
        shift_from_original: the same from the original domain's; None where the memory has none.
        log_variance_ratio_from_original: likewise.
    """

    layer: str
    shift: float
    log_variance_ratio: float
    shift_from_original: float | None = None
    log_variance_ratio_from_original: float | None = None


class Forgetting(Value):
    """What an update took from the score on one earlier domain, and where it sits; negative where it gave.

    Args:
        domain: its name.
        metric: what was scored.
        parent: the parent's score.
        candidate: the candidate's.
        with_parent_statistics: the candidate's with the parent's batch-norm statistics put back.
    """

    domain: str
    metric: str
    parent: float | None
    candidate: float | None
    with_parent_statistics: float | None

    @property
    def total(self) -> float | None:
        """All of it: `in_weights` + `in_statistics`."""
        return _difference(self.parent, self.candidate)

    @property
    def in_weights(self) -> float | None:
        """What stays lost when the parent's statistics are put back."""
        return _difference(self.parent, self.with_parent_statistics)

    @property
    def in_statistics(self) -> float | None:
        """What comes back with the parent's statistics."""
        return _difference(self.with_parent_statistics, self.candidate)


def shares(epochs: Sequence[Epoch]) -> tuple[Share, ...]:
    """The restraint's share of each epoch."""
    return tuple(Share(epoch=e.epoch, in_loss=_in_loss(e), in_gradient=_in_gradient(e), step_share=e.step_share)
                 for e in epochs)  # fmt: skip


def _in_loss(epoch: Epoch) -> float | None:
    cost = epoch.penalty or epoch.restraint
    if cost is None or (cost == 0 and epoch.step_change):  # a form that acts on the step without a cost
        return None
    return cost / (cost + epoch.loss) if cost + epoch.loss > 0 else 0.0


def _in_gradient(epoch: Epoch) -> float | None:
    if epoch.restraint_gradient is not None and epoch.task_gradient is not None:
        both = epoch.restraint_gradient + epoch.task_gradient
        return epoch.restraint_gradient / both if both > 0 else 0.0
    return None if epoch.step_change is None else epoch.step_change / (1 + epoch.step_change)


def importance_in_use(parent: Release, method: Mapping[str, Any]) -> tuple[str | None, ParamDict]:
    """The importance that a method went by, at its granularity; of one that has none the first in the memory.

    Args:
        parent: the release that was updated.
        method: its record, see `perdure.methods.Method.record`.

    Returns:
        The key of the measure and its weights; None and nothing where the memory is empty.
    """
    measures = parent.memory.measures
    used = [key for key, measure in measures.items() if dict(measure.settings) == method.get("importance")]
    key = next(iter([*used, *measures]), None)
    return key, {} if key is None else parent.memory.importance(key, method.get("granularity"))


def movement(parent: Release, candidate: Release, weights: Mapping[str, Tensor]) -> tuple[Movement, ...]:
    """How far each layer moved, in the order of the network."""
    after = dict(candidate.model.named_parameters())
    layers: dict[str, dict[str, Tensor]] = {}
    for name, anchor in parent.model.named_parameters():
        layers.setdefault(name.rpartition(".")[0] or name, {})[name] = anchor.detach().double()
    return tuple(
        _movement(layer, anchors, {name: after[name].detach().double() for name in anchors}, weights)
        for layer, anchors in layers.items()
    )


def _movement(
    layer: str, anchors: Mapping[str, Tensor], after: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> Movement:
    squares = {name: (after[name] - anchor).square() for name, anchor in anchors.items()}
    omega = {name: weights[name].double().expand_as(square) for name, square in squares.items() if name in weights}
    distance = math.sqrt(sum(float(square.sum()) for square in squares.values()))
    length = math.sqrt(sum(float(anchor.square().sum()) for anchor in anchors.values()))
    numbers = sum(value.numel() for value in omega.values())
    return Movement(
        layer=layer,
        parameters=sum(anchor.numel() for anchor in anchors.values()),
        importance=sum(float(value.sum()) for value in omega.values()) / numbers if omega else None,
        in_importance=sum(float((value * squares[name]).sum()) for name, value in omega.items()) if omega else None,
        distance=distance,
        relative=distance / length if length else None,
    )


def selectivity(moved: Sequence[Movement]) -> float | None:
    r"""The mean importance of what moved, :math:`\sum \Omega d^2 / \sum d^2` over layers that carry importance.

    The lower it is beside the mean importance of all parameters, the more the restraint chose what moves.
    """
    carrying = [one for one in moved if one.in_importance is not None]
    whole = sum(one.distance**2 for one in carrying)
    return sum(one.in_importance or 0.0 for one in carrying) / whole if whole else None


def relative_movement(moved: Sequence[Movement]) -> float | None:
    """How far the whole network moved, over the length of its anchor; None where nothing is known of it."""
    length = sum((one.distance / one.relative) ** 2 for one in moved if one.relative)
    distance = math.sqrt(sum(one.distance**2 for one in moved))
    return distance / math.sqrt(length) if length else 0.0 if moved else None


def drift(parent: Release, candidate: Release) -> tuple[Drift, ...]:
    """How far the statistics of each batch norm moved, in the order of the network."""
    before, after, original = statistics(parent.model), statistics(candidate.model), parent.memory.statistics
    found = []
    for layer, norm in batch_norms(candidate.model).items():
        mean, variance = (f"{layer}.{buffer}" if layer else buffer for buffer in ("running_mean", "running_var"))
        if mean not in after:
            continue
        now = after[mean].double(), after[variance].double()
        shift, ratio = _from(before[mean].double(), before[variance].double(), *now, norm.eps)
        first: tuple[float, float] | tuple[None, None] = (None, None)
        if mean in original:
            first = _from(original[mean].double(), original[variance].double(), *now, norm.eps)
        found.append(
            Drift(
                layer=layer or type(norm).__name__,
                shift=shift,
                log_variance_ratio=ratio,
                shift_from_original=first[0],
                log_variance_ratio_from_original=first[1],
            )
        )
    return tuple(found)


def _from(mean0: Tensor, variance0: Tensor, mean: Tensor, variance: Tensor, eps: float) -> tuple[float, float]:
    # eps as the layer itself adds it: a channel that is always 0 has no deviation of its own
    shift = (mean - mean0).abs() / (variance0 + eps).sqrt()
    ratio = ((variance + eps) / (variance0 + eps)).log().abs()
    return float(shift.mean()), float(ratio.mean())


def forgetting(
    parent: Release,
    candidate: Release,
    domains: Sequence[FolderDomain],
    split: Split = "val",
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Forgetting, ...]:
    """What the update took from each earlier domain, and how much of it comes back with the parent's statistics.

    Args:
        parent: the release that was updated.
        candidate: what the update made of it.
        domains: those that the parent had learnt, prepared with its input contract.
        split: which split.
        device: where the networks run.
        progress: told how many cases of how many are done.
    """
    old = statistics(parent.model)
    mixed = replace(candidate, identity=candidate.identity.model_copy(update={"id": f"{candidate.id} and statistics"}))
    cases = sum(row.split == split for domain in domains for row in domain.rows.values())
    metric = "dice" if parent.contract.task == "segmentation" else "kappa"
    found: dict[tuple[str, str], float | None] = {}
    for place, release in enumerate((parent, candidate, mixed)):
        own = statistics(release.model)
        with swapped_statistics(release.model, old if release is mixed else own):
            told = partial(_tell, progress, place * cases, 3 * cases)
            scores = evaluate([release], domains, split, device=device, progress=told)
        found |= mean_scores(scores, metric)
    return tuple(
        Forgetting(
            domain=domain.name,
            metric=metric,
            parent=found[parent.id, domain.name],
            candidate=found[candidate.id, domain.name],
            with_parent_statistics=found[mixed.id, domain.name],
        )
        for domain in domains
    )


def _tell(progress: Callable[[int, int], None], before: int, whole: int, done: int, _: int) -> None:
    progress(before + done, whole)


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
