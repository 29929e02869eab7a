"""The gradient of each sample of a batch, from one pass of the batch through the network.

The plain way takes each sample through the network by itself, so that the machine works on small pieces and every
weight is read anew. Here a whole batch goes forward and back at once, with all parameters frozen, so that no gradient
of a batch is made; each known layer keeps its input, and when the gradient of its output arrives, the gradient of each
sample follows from the two (`layers`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from perdure.importance.layers import RULES, Gradient, is_known


class OutOfReach(Exception):  # noqa: N818 - a finding, which never leaves `importance`
    """The gradient of each sample cannot be had from one pass; take each by itself."""


class OnePass:
    """A network whose known layers say what each sample gives their parameters. Made by `one_pass`."""

    def __init__(self, owners: Mapping[nn.Module, Mapping[str, str]], parameters: Mapping[str, nn.Parameter]) -> None:
        self._owners = owners
        self._parameters = parameters
        self.largest = 1
        """Bytes of the largest input or output of a layer so far, for each sample."""
        self._root = torch.zeros((), requires_grad=True)
        self._samples = 0
        self._uses: Counter[str] = Counter()
        self._several: dict[str, Tensor] = {}
        self._receive: Callable[[str, Gradient], None] | None = None

    def forward(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """The output, from which `gradients` may be asked for until the next call.

        Raises:
            OutOfReach: a layer takes or gives something else than one thing a sample.
        """
        self._uses.clear()
        self._samples = len(inputs)
        return cast("Tensor", model(inputs))

    def gradients(self, value: Tensor, receive: Callable[[str, Gradient], None], more: bool) -> None:
        """Takes the sum of one value a sample back through the network.

        Args:
            value: the sum.
            receive: called once for each parameter that the value depends on, with its name and the gradients by
                sample.
            more: whether the same output will be asked again.

        Raises:
            OutOfReach: a layer's input was overwritten after its use.
        """
        self._several, self._receive = {}, receive
        if not value.requires_grad:
            return
        torch.autograd.grad(value, self._root, retain_graph=more, allow_unused=True)
        for name, total in self._several.items():
            receive(name, partial(_cut, total))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Freezes the parameters and listens to the layers."""
        handles = [layer.register_forward_hook(self._keep) for layer in self._owners]
        for parameter in self._parameters.values():
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self._parameters.values():
                parameter.requires_grad_(True)
            for handle in handles:
                handle.remove()

    def _keep(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        if len(args) != 1 or not all(isinstance(one, Tensor) and self._is_by_sample(one) for one in (args[0], output)):
            raise OutOfReach
        names = self._owners[layer]
        self._uses.update(names.values())
        if not output.requires_grad:
            output = _Root.apply(output, self._root)  # type: ignore[no-untyped-call]
        x = args[0]
        self.largest = max(self.largest, x.nbytes // len(x), output.nbytes // len(output))
        output.register_hook(partial(self._arrived, layer, x.detach(), x._version))
        return output

    def _is_by_sample(self, tensor: Tensor) -> bool:
        return tensor.ndim > 0 and len(tensor) == self._samples > 0

    def _arrived(self, layer: nn.Module, x: Tensor, version: int, g: Tensor) -> None:
        if x._version != version:
            raise OutOfReach
        receive = self._receive
        assert receive is not None
        # under autocast a layer takes its input in the type of its output
        found = RULES[type(layer)](layer, x.to(g), g)
        for own, name in self._owners[layer].items():
            if self._uses[name] == 1:
                receive(name, found[own])
                continue
            # the gradients of all uses come before the absolute value
            gradient = found[own](0, len(g))
            self._several[name] = self._several[name] + gradient if name in self._several else gradient


class _Root(torch.autograd.Function):
    """The same tensor, as the first one that has a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, root: Tensor) -> Tensor:
        # the very tensor, so that a layer behind may write into it
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        return g, g.new_zeros(())


def _cut(total: Tensor, first: int, last: int) -> Tensor:
    return total[first:last]


def one_pass(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> OnePass | None:
    """A pass over a network, or None where a trainable parameter belongs to no known layer.

    Args:
        model: in evaluation mode.
        parameters: those that train, by name.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    owners: dict[nn.Module, dict[str, str]] = {}
    found: set[str] = set()
    for layer in model.modules():
        own = {key: names[id(p)] for key, p in layer.named_parameters(recurse=False) if id(p) in names}
        if own and not is_known(layer):
            return None
        if own:
            owners[layer] = own
            found.update(own.values())
    return OnePass(owners, parameters) if found == parameters.keys() else None
