"""All that is carried instead of old data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perdure.errors import MethodError, ReleaseError
from perdure.importance import aggregate, running_mean

if TYPE_CHECKING:
    from torch import Tensor

    from perdure.types import Granularity, ParamDict


@dataclass(frozen=True)
class Accumulated:
    """One measure of importance over all domains so far.

    Args:
        weights: the mean over domains of the scaled importance, parameter name to tensor.
        latest: the raw importance of the newest domain (ranks are lost by clipping, and freezing needs them).
        domains: over how many domains.
        settings: the measure and its scaling, as plain JSON values. Domains measured otherwise do not mix.
    """

    weights: ParamDict
    latest: ParamDict
    domains: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Memory:
    """What a model remembers of the domains it has learnt: no image, and nothing with a sample axis.

    Args:
        anchor: the parameters as they were when the newest domain had been learnt, by name.
        measures: importance by its key ("mas").
        statistics: the batch-norm statistics of the original domain, by buffer name.
        granularity: the level at which weights are kept.
        axes: where each weight has its output channel, see `perdure.importance.filter_axes`.
    """

    anchor: ParamDict
    measures: Mapping[str, Accumulated]
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    granularity: Granularity = "parameter"
    axes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def weights(self) -> ParamDict:
        """The scaled importance of its only measure, at its granularity.

        Raises:
            MethodError: if it holds no measure or several; then ask `importance(key)`.
        """
        if len(self.measures) != 1:
            raise MethodError(
                f"This memory holds {len(self.measures)} measures of importance "
                f"({', '.join(self.measures) or 'none'}); name one: memory.importance(key)."
            )
        return self.importance(next(iter(self.measures)))

    def importance(self, key: str, granularity: Granularity | None = None) -> ParamDict:
        """The scaled importance of one measure, averaged to a granularity (default: as it is kept).

        Raises:
            MethodError: if the measure was not taken.
        """
        if key not in self.measures:
            raise MethodError(
                f"The memory holds no importance {key!r}, only: {', '.join(self.measures) or 'none'}. It has to be "
                "measured where the old data are: train or adopt with this measure there."
            )
        return aggregate(self.measures[key].weights, granularity or self.granularity, self.axes)


def accumulated(
    past: Accumulated | None, raw: ParamDict, scaled: ParamDict, settings: Mapping[str, Any]
) -> Accumulated:
    """A measure with one more domain in it.

    Raises:
        ReleaseError: if the earlier domains were measured with other settings, or other parameters.
    """
    if past is None:
        return Accumulated(scaled, raw, 1, settings)
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
    domains = past.domains + 1
    return Accumulated(running_mean(past.weights, scaled, domains), raw, domains, settings)
