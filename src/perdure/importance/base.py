"""What every measure of importance has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, get_args

from perdure.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perdure.types import Batches, ParamDict

SumOverProcesses: TypeAlias = "Callable[[Tensor], Tensor]"


def one_process(value: Tensor) -> Tensor:
    """The sum over all processes where there is only this one."""
    return value


def check_choice(argument: str, value: object, choices: object) -> None:
    """Passes if a value is one of a `Literal`; a misspelt word must not quietly mean something else.

    Raises:
        MethodError: naming the argument, the value and the choices.
    """
    if value not in get_args(choices):
        allowed = ", ".join(repr(choice) for choice in get_args(choices))
        raise MethodError(f"`{argument}` must be one of {allowed}; got {value!r}.")


class Importance(ABC):
    """A measure of how much each parameter matters to what a model has learnt.

    A measure reads: it leaves every parameter, buffer, gradient and mode as it found them. It is a frozen dataclass,
    whose fields are its settings.
    """

    @property
    @abstractmethod
    def key(self) -> str:
        """The name under which a memory keeps it, different for settings that give different numbers."""

    @abstractmethod
    def estimate(
        self, model: nn.Module, batches: Batches, *, sum_over_processes: SumOverProcesses = one_process
    ) -> ParamDict:
        """The raw importance of every trainable parameter.

        Args:
            model: the model after it has learnt the domain.
            batches: iterable of (input, target) or of inputs, input `(batch, channels, *spatial)`. Neither the batch
                size nor the order changes the result.
            sum_over_processes: adds a tensor up over all processes that hold a share of the samples.

        Returns:
            Parameter name to a non-negative tensor of the parameter's shape.

        Raises:
            MethodError: if there is no sample, no trainable parameter, or a gradient that is not finite.
        """
