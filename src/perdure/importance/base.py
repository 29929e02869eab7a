"""What every measure of importance has in common."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from perdure.errors import MethodError, check_choice
from perdure.importance.accumulation import Accumulation
from perdure.importance.scaling import AUTHORS, Scaling
from perdure.types import one_process

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from perdure.types import Batches, ParamDict, SumOverProcesses

RAW = Scaling(outliers="keep", range="raw")
"""Importance as it was measured."""


@dataclass(frozen=True, kw_only=True)
class Importance(ABC):
    """A measure of how much each parameter matters to what a model has learnt.

    A measure reads: it leaves every parameter, buffer, gradient and mode as it found them. It is a frozen dataclass,
    whose fields are its settings.

    Args:
        scaling: how raw importance becomes weights.
        accumulation: how the importance of a new domain joins that of the domains before.
    """

    scaling: Scaling = field(default_factory=Scaling)
    accumulation: Accumulation = "mean"

    name: ClassVar[str]
    """What the measure is called, for example `mas`."""
    needs_data: ClassVar[bool] = True
    """Whether it can be taken only where the domain's data are; one that needs none may join a memory later."""

    is_gathered: ClassVar[bool] = False
    """Whether it is gathered while a model trains, so that it cannot be taken afterwards."""

    def __post_init__(self) -> None:
        check_choice("accumulation", self.accumulation, Accumulation)
        if not isinstance(self.scaling, Scaling):
            raise MethodError(f"`scaling` must be a table of settings; got {self.scaling!r}.")
        if self.accumulation == "samples" and (self.is_gathered or not self.needs_data):
            raise MethodError(
                f'accumulation="samples" weighs domains by the samples that are measured, and {self.name} reads none. '
                'Use accumulation="mean".'
            )

    @property
    def variant(self) -> str:
        """What its own settings add to its name; empty for the defaults."""
        usual = self._defaults()
        own = {name: getattr(self, name) for name in usual if name not in ("scaling", "accumulation")}
        return "-".join(_said(name, value) for name, value in own.items() if value != usual[name])

    @property
    def key(self) -> str:
        """The name under which a memory keeps it, different for settings that give different numbers."""
        usual = self._defaults()
        parts = [self.name, self.variant]
        if self.scaling != usual["scaling"]:
            parts.append("authors" if self.scaling == AUTHORS else _digest(self.scaling))
        if self.accumulation != usual["accumulation"]:
            parts.append(self.accumulation)
        return "-".join(part for part in parts if part)

    def _defaults(self) -> dict[str, Any]:
        return {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(self)}

    def settings(self) -> dict[str, Any]:
        """The measure as plain JSON values, from which `measure_from` makes it again."""
        plain: dict[str, Any] = json.loads(json.dumps({"measure": self.name, **asdict(self)}))
        # releases that knew no other have no word for it
        return {name: value for name, value in plain.items() if (name, value) != ("precision", "32-true")}

    @contextmanager
    def watching(self, model: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> Iterator[None]:
        """Gathers what a measure needs while the model trains; most need nothing.

        Args:
            model: the model in training, not wrapped.
            optimizer: the one that moves it, not wrapped.
            state: where it is gathered; saved with each checkpoint, and given back when training goes on.
        """
        yield

    @abstractmethod
    def estimate(
        self,
        model: nn.Module,
        batches: Batches,
        *,
        sum_over_processes: SumOverProcesses = one_process,
        watched: Mapping[str, Any] | None = None,
    ) -> ParamDict:
        """The raw importance of every trainable parameter.

        Args:
            model: the model after it has learnt the domain.
            batches: iterable of (input, target) or of inputs, input `(batch, channels, *spatial)`. Neither the batch
                size nor the order changes the result.
            sum_over_processes: adds a tensor up over all processes that hold a share of the samples.
            watched: what `watching` gathered, for measures that need it.

        Returns:
            Parameter name to a non-negative tensor of the parameter's shape.

        Raises:
            MethodError: if there is no sample, no trainable parameter, or a gradient that is not finite.
        """


def _said(name: str, value: object) -> str:
    """A setting in a key: a word as it is, a number after the setting's name."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, int | float):
        return name + str(value).removesuffix(".0")
    return name + _digest(value)


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:8]
