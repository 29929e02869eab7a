"""What every form of restraint has in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from perdure.types import one_process

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from perdure.types import SumOverProcesses


class OnDemand(Mapping[str, "Tensor"]):
    """Tensors by name, each made when it is first asked for: what no form of restraint reads takes no memory.

    Args:
        names: of the tensors.
        make: one of them.
        keep: whether a tensor that was made is kept, or made anew each time.
    """

    def __init__(self, names: Iterable[str], make: Callable[[str], Tensor], *, keep: bool = True) -> None:
        self._made: dict[str, Tensor | None] = dict.fromkeys(names)
        self._make = make
        self._keep = keep

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of that name."""
        found = self._made[name]
        if found is None:
            found = self._make(name)
            if self._keep:
                self._made[name] = found
        return found

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._made)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._made)


@dataclass(frozen=True)
class Past:
    """What a regularizer may hold on to: parameter name to tensor, broadcastable to the parameter.

    Args:
        weights: the mean over domains of the scaled importance, at the method's granularity.
        anchor: the parameters before the update.
        latest: the raw importance of the newest domain, not clipped.
        frozen: what earlier updates froze, True where a parameter may not move any more.
        curvature: the sum over domains of the scaled importance, for quadratics around several anchors.
        centre: where the sum of those quadratics is smallest, as a distance from the anchor; 0 where there is no entry.
        offset: what the sum of those quadratics is there.
        measured: how importance was measured and scaled, as plain JSON values.
        teacher: the model before the update, in evaluation mode.
        report: what a form has to say of the steps it changed; it writes here while it constrains.
        sum_over_processes: adds a tensor up over all processes that share a batch; gradients pass through.
    """

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    anchor: Mapping[str, Tensor] = field(default_factory=dict)
    latest: Mapping[str, Tensor] = field(default_factory=dict)
    frozen: Mapping[str, Tensor] = field(default_factory=dict)
    curvature: Mapping[str, Tensor] = field(default_factory=dict)
    centre: Mapping[str, Tensor] = field(default_factory=dict)
    offset: float = 0.0
    measured: Mapping[str, Any] = field(default_factory=dict)
    teacher: nn.Module | None = None
    report: dict[str, float] = field(default_factory=dict)
    sum_over_processes: SumOverProcesses = one_process


class Regularizer:
    """A restraint on training: a term of the loss, a change of the optimizer's step, or both.

    The defaults restrain nothing; a form overrides what it needs.
    """

    name: ClassVar[str]
    """What the form is called in settings."""
    needs_importance: ClassVar[bool] = True
    """Whether it can do nothing without importance weights."""
    needs_unit_range: ClassVar[bool] = False
    """Whether weights mean something to it in [0, 1] alone, so that raw importance will not do."""
    needs_teacher: ClassVar[bool] = False
    """Whether it needs the model before the update."""

    def settings(self) -> dict[str, Any]:
        """The form as plain JSON values, from which `form_from` makes it again."""
        plain: dict[str, Any] = json.loads(json.dumps({"form": self.name, **asdict(self)}))  # type: ignore[call-overload]
        return plain

    def penalty(
        self, model: nn.Module, past: Past, inputs: Tensor | None = None, output: Tensor | None = None
    ) -> Tensor:
        """The term that is added to the loss: a scalar of at least 0, and 0 where the model stands at the anchor.

        Args:
            model: the model in training.
            past: what it holds on to.
            inputs: of this step, `(batch, channels, *spatial)`; only forms that look at outputs need it.
            output: of this step.
        """
        return torch.zeros((), device=next(model.parameters()).device)

    def value(self, model: nn.Module, past: Past) -> float:
        """What the restraint costs where the model stands, for records; 0 for forms without a cost."""
        return 0.0

    def check(self, model: nn.Module, optimizer: Optimizer, past: Past) -> None:
        """Passes if the form can be applied and training can be stable.

        Args:
            model: see `constrain`.
            optimizer: see `constrain`.
            past: what it holds on to.

        Raises:
            MethodError: if it cannot, with the numbers and what helps.
        """

    @contextmanager
    def constrain(self, model: nn.Module, optimizer: Optimizer, past: Past) -> Iterator[None]:
        """Changes what the optimizer's steps do, for as long as the context lasts.

        Args:
            model: the model in training, not wrapped.
            optimizer: the optimizer whose `step` moves the model, not wrapped.
            past: what it holds on to.
        """
        yield

    def frozen(self, past: Past) -> Mapping[str, Tensor]:
        """What may not move in this update or any later one, to be carried in the memory."""
        return past.frozen
