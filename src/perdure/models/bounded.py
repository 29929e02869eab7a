"""How much memory may a network take that somebody else describes?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@contextmanager
def bounded(most: float) -> Iterator[None]:
    """Lets tensors be made within the block until they have this many bytes together.

    A network of a hundred bytes of JSON can ask for any number of filters, or of layers. What is freed meanwhile
    counts too, so that there is no endless loop either.

    Args:
        most: bytes; infinite sets no bound.

    Raises:
        MemoryError: before the tensor is made that would exceed it.
    """
    if most == math.inf:
        yield
        return
    with _Bounded(most):
        yield


def bytes_for(weights: Mapping[str, Tensor]) -> int:
    """How many bytes building the network of these weights may take: theirs, and what initial values take meanwhile."""
    return 8 * sum(tensor.nbytes for tensor in weights.values()) + 2**24


class _Bounded(TorchFunctionMode):
    def __init__(self, most: float) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(
        self,
        function: Any,
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        # the size of a new tensor stands among the arguments; a float32 each is assumed
        named = named or {}
        self._take(4 * max(map(_asked_for, (arguments, *arguments, *named.values()))), take=False)
        made = function(*arguments, **named)
        if isinstance(made, Tensor) and not any(made is one for one in arguments):
            self._take(made.nbytes, take=True)
        return made

    def _take(self, size: float, *, take: bool) -> None:
        if size > self.left:
            raise MemoryError("it would take far more memory than its weights")
        self.left -= size * take


def _asked_for(argument: Any) -> float:
    if isinstance(argument, int) and not isinstance(argument, bool):
        return argument
    if isinstance(argument, list | tuple) and argument and all(isinstance(n, int) for n in argument):
        return math.prod(argument)
    return 0
