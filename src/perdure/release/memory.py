"""All that is carried instead of old data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from perdure.errors import MethodError, ReleaseError, check_choice
from perdure.importance import accumulate, aggregate
from perdure.regularization import OnDemand, Past
from perdure.types import Granularity

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perdure.types import ParamDict


@dataclass(frozen=True)
class Accumulated:
    """One measure of importance over all domains so far.

    Args:
        weights: the scaled importance of all domains so far (their mean, unless settings say otherwise), parameter
            name to tensor.
        latest: the raw importance of the newest domain (ranks are lost by clipping, and freezing needs them).
        domains: over how many domains.
        samples: on how many samples it was measured.
        subjects: of how many training subjects those are, in the domain where they are fewest; None where nobody said.
        centre: where the sum of the domains' quadratics, each around its own anchor, is smallest: its distance from the
            memory's anchor, because in float32 a small distance is exact and the place is not. Empty for one domain,
            whose centre is its anchor.
        offset: what that sum is there.
        settings: the measure and its scaling, as plain JSON values. Domains measured otherwise do not mix.
    """

    weights: ParamDict
    latest: ParamDict
    domains: int
    settings: Mapping[str, Any]
    samples: int = 0
    subjects: int | None = None
    centre: Mapping[str, Tensor] = field(default_factory=dict)
    offset: float = 0.0

    @property
    def curvature(self) -> Mapping[str, Tensor]:
        """The sum over domains of the scaled importance; empty where domains were not averaged or added."""
        how = self.settings.get("accumulation", "mean")
        if how == "mean" and self.domains > 1:
            return OnDemand(self.weights, lambda name: self.domains * self.weights[name], keep=False)
        return self.weights if how in ("mean", "sum") else {}

    def moved(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Accumulated:
        """The same quadratics, seen from another anchor.

        Args:
            before: the anchor that `centre` is counted from.
            after: the anchor that it shall be counted from.
        """
        distances = self._distances(before, after)
        if not self.centre and not any(bool(distance.any()) for distance in distances.values()):
            return self
        return replace(self, centre={name: distance.to(after[name]) for name, distance in distances.items()})

    def _distances(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> ParamDict:
        """From an anchor to the centre, in float64, on that anchor's device."""
        distances = {}
        for name in self.curvature:
            distance = before[name].to(after[name].device).double() - after[name].double()
            distances[name] = distance + self.centre[name].to(distance) if name in self.centre else distance
        return distances


@dataclass(frozen=True)
class Memory:
    """What a model remembers of the domains it has learnt: no image, and nothing with a sample axis.

    Args:
        anchor: the parameters as they were when the newest domain had been learnt, by name.
        measures: importance by its key ("mas").
        statistics: the batch-norm statistics of the original domain, by buffer name.
        frozen: what was frozen for good, True where a parameter may not move any more.
        norms: by domain, the batch norm (γ, β and statistics) that it is predicted with; empty unless an update kept
            one set a domain.
        granularity: the level at which weights are kept.
        axes: where each weight has its output channel, see `perdure.importance.filter_axes`.
    """

    anchor: ParamDict
    measures: Mapping[str, Accumulated]
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    frozen: Mapping[str, Tensor] = field(default_factory=dict)
    norms: Mapping[str, ParamDict] = field(default_factory=dict)
    granularity: Granularity = "parameter"
    axes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def weights(self) -> ParamDict:
        """The scaled importance of its only measure, at its granularity.

        Raises:
            MethodError: if it holds no measure or several; then ask `importance(key)`.
        """
        return self.importance(self.only_key())

    def only_key(self) -> str:
        """The key of its only measure.

        Raises:
            MethodError: if it holds no measure or several.
        """
        if len(self.measures) != 1:
            raise MethodError(
                f"This memory holds {len(self.measures)} measures of importance "
                f"({', '.join(self.measures) or 'none'}); name one: memory.importance(key)."
            )
        return next(iter(self.measures))

    def importance(self, key: str, granularity: Granularity | None = None) -> ParamDict:
        """The scaled importance of one measure, averaged to a granularity (default: as it is kept).

        Raises:
            MethodError: if the measure was not taken.
        """
        return aggregate(self._measure(key).weights, granularity or self.granularity, self.axes)

    def _measure(self, key: str) -> Accumulated:
        if key not in self.measures:
            raise MethodError(
                f"The memory holds no importance {key!r}, only: {', '.join(self.measures) or 'none'}. It has to be "
                "measured where the old data are: train or adopt with this measure there."
            )
        return self.measures[key]

    def past(self, key: str | None, granularity: Granularity | None = None, teacher: nn.Module | None = None) -> Past:
        """What a regularizer holds on to.

        Args:
            key: of the measure in use; None where importance is not used.
            granularity: to which weights and the latest importance are averaged; default: as they are kept.
                Quadratics around several anchors stay as they are kept.
            teacher: the model before the update, for forms that look at outputs.

        Raises:
            MethodError: if the measure was not taken.
        """
        if key is None:
            return Past(anchor=self.anchor, frozen=self.frozen, teacher=teacher)
        measure, level = self._measure(key), granularity or self.granularity
        check_choice("granularity", level, Granularity)

        def averaged(values: Mapping[str, Tensor], *, keep: bool) -> OnDemand:
            return OnDemand(values, lambda name: aggregate({name: values[name]}, level, self.axes)[name], keep=keep)

        return Past(
            weights=averaged(measure.weights, keep=True),
            anchor=self.anchor,
            # only ranked, once
            latest=averaged(measure.latest, keep=False),
            frozen=self.frozen,
            curvature=measure.curvature,
            centre=measure.centre,
            offset=measure.offset,
            measured=measure.settings,
            teacher=teacher,
        )


def accumulated(
    past: Accumulated | None,
    raw: ParamDict,
    scaled: ParamDict,
    settings: Mapping[str, Any],
    samples: int,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    subjects: int | None = None,
) -> Accumulated:
    r"""A measure with one more domain in it.

    The quadratics around each domain's own anchor merge exactly. With H and c of the domains before, and Ω and θ* of
    the newest,

    .. math:: H' = H + \Omega, \quad c' = \frac{H c + \Omega \theta^*}{H'}, \quad
              o' = o + \sum_i \frac{H_i \Omega_i}{H'_i}\,(c_i - \theta_i^*)^2

    Args:
        past: the measure over the domains before.
        raw: the newest domain's importance.
        scaled: the same, scaled.
        settings: how it was measured.
        samples: on how many samples.
        before: the anchor from which the past's centre is counted.
        after: the newest anchor.
        subjects: of how many subjects the samples are; None where nobody knows.

    Raises:
        ReleaseError: if the earlier domains were measured with other settings, or other parameters.
    """
    if past is None:
        return Accumulated(scaled, raw, 1, settings, samples, subjects)
    if dict(past.settings) != dict(settings):
        raise ReleaseError(
            f"The release's importance was measured as {dict(past.settings)}, this update measures {dict(settings)}; "
            "the two do not mix. Use the release's settings."
        )
    if other := sorted(past.weights.keys() ^ scaled.keys()):
        raise ReleaseError(
            f"Importance was measured for other parameters before; these differ: {other[:5]}. Freeze the same "
            "parameters (requires_grad) in every domain."
        )
    how, domains = settings.get("accumulation", "mean"), past.domains + 1
    weights = accumulate(past.weights, scaled, how, domains=domains, past_samples=past.samples, new_samples=samples)
    centre, offset = _merged(past, scaled, before, after)
    fewest = None if past.subjects is None or subjects is None else min(past.subjects, subjects)
    return Accumulated(weights, raw, domains, settings, past.samples + samples, fewest, centre, offset)


def _merged(
    past: Accumulated, omega: ParamDict, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> tuple[ParamDict, float]:
    """How far the new centre is from the newest anchor, c' - θ* = (1 - Ω / H') (c - θ*), and the new offset."""
    merged, offset, distances = {}, past.offset, past._distances(before, after)
    for name, bend in past.curvature.items():
        distance = distances[name]
        H, new = bend.to(distance), omega[name].to(distance)
        # where nothing is of importance any place is as good: the newest anchor
        share = torch.where(H + new > 0, new / (H + new), 1.0)
        merged[name] = ((1 - share) * distance).to(after[name])
        offset += float((H * share * distance.square()).sum())
    return merged, offset
