"""All that the rules of the doctor look at, and the form of what they find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from perdure.evaluation.examination import Drift, Forgetting, Movement, Share
from perdure.types import Value

if TYPE_CHECKING:
    from torch import Tensor

    from perdure.update.run_folder import Epoch

Kind: TypeAlias = Literal["problem", "note"]


class Finding(Value):
    """What one rule has to say.

    Args:
        rule: its name, as in docs/doctor.md.
        kind: `problem` asks for a change; `note` is worth knowing.
        sentence: what is so, in plain words.
        advice: what to do.
        numbers: that it rests on.
    """

    rule: str
    kind: Kind
    sentence: str
    advice: str
    numbers: dict[str, float]


class Control(Value):
    """The candidate beside the control of the same mean learning rate.

    Args:
        name: of the control.
        selectivity: the mean importance of what moved in the candidate; see `selectivity`.
        control_selectivity: the same of the control.
        lost: the mean of what the candidate forgot of earlier domains; None where nothing was scored.
        control_lost: the same of the control.
    """

    name: str
    selectivity: float | None
    control_selectivity: float | None
    lost: float | None = None
    control_lost: float | None = None


@dataclass(frozen=True)
class Examined:
    """All that the rules look at.

    Args:
        method: its record, see `perdure.methods.Method.record`.
        recipe: its settings by name.
        epochs: of the log.
        shares: the restraint's share of each.
        is_finished: whether there is a release.
        weights: the importance that the method went by, averaged to its granularity.
        sizes: how many values each parameter has.
        movement: by layer.
        drift: by batch norm.
        has_batch_norm: whether the network has any; None where it is not known.
        forgetting: by earlier domain.
        frozen_share: of all parameters, held for good; None where nothing is.
        report: what the form had to say of its steps, see `perdure.regularization.Past.report`; empty where nothing.
        control: the candidate beside it.
    """

    method: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    epochs: Sequence[Epoch] = ()
    shares: Sequence[Share] = ()
    is_finished: bool = True
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    movement: Sequence[Movement] = ()
    drift: Sequence[Drift] = ()
    has_batch_norm: bool | None = None
    forgetting: Sequence[Forgetting] = ()
    frozen_share: float | None = None
    report: Mapping[str, float | None] = field(default_factory=dict)
    control: Control | None = None

    @property
    def form(self) -> Mapping[str, Any]:
        """The settings of the regularizer."""
        return self.method.get("regularizer") or {"form": "unrestrained"}

    @property
    def is_restrained(self) -> bool:
        """Whether something holds the update back."""
        return bool(self.form["form"] != "unrestrained")

    @property
    def importance(self) -> Mapping[str, Any]:
        """The settings of the measure that the restraint goes by; empty where it goes by none."""
        goes_by_it = self.form["form"] not in ("unrestrained", "distillation", "freezing")
        return (self.method.get("importance") or {}) if goes_by_it else {}

    def mean(self, of: Callable[[Tensor], Tensor]) -> float:
        """The mean over all parameters that carry importance of something of it."""
        whole = sum(self.sizes[name] for name in self.weights)
        parts = [float(of(value.double()).double().mean()) * self.sizes[name] for name, value in self.weights.items()]
        return sum(parts) / whole


class Told(NamedTuple):
    """A finding without the name of its rule."""

    kind: Kind
    sentence: str
    advice: str
    numbers: dict[str, float]


def given(**numbers: float | None) -> dict[str, float]:
    """The numbers that are known."""
    return {name: number for name, number in numbers.items() if number is not None}
