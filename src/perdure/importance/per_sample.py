"""Means over samples of a function of each sample's own gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch import Tensor

from perdure.errors import MethodError
from perdure.importance.one_pass import OnePass, OutOfReach, one_pass
from perdure.models import evaluation_mode, fast_kernels
from perdure.types import Precision

if TYPE_CHECKING:
    from torch import nn

    from perdure.importance.layers import Gradient
    from perdure.types import Batches, ParamDict, SumOverProcesses

ALIKE = 0.01
"""Two ways to measure are alike when each parameter's importance differs by at most this share of it, on average: ties
of max pools and ReLUs may fall otherwise in a batch, and a layer that was misunderstood is far off."""

HALF_ALIKE = 0.05
"""The same for half precision, as a share of the mean importance of a parameter's values."""

NOISE = 1e-5
"""As a share of the most important parameter's importance: below it lies what is zero but for rounding."""

AT_ONCE = 2**18
"""The most elements of gradients of several samples that are held together: small parameters save calls."""

BYTES_TOGETHER = 2**24
"""On a processor no more samples go together than have layers of so many bytes: the memory of larger ones comes anew
from the system at each use, which cost more than going together saved."""

IN_PLACE: Mapping[object, Callable[[Tensor], Tensor]] = MappingProxyType(
    {torch.abs: torch.Tensor.abs_, torch.square: torch.Tensor.square_}
)
"""Without new memory, which costs more than the transform where a parameter is large."""


def checked(batches: Batches) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The input and the target, where there is one, of each batch.

    Raises:
        MethodError: if `batches` is one tensor, whose first axis would be taken for that of the batches, or a batch is
            neither input nor (input, target).
    """
    if isinstance(batches, Tensor):
        raise MethodError(f"`batches` must be an iterable of batches; got one tensor, {tuple(batches.shape)}: use [x].")
    for batch in batches:
        inputs, *others = batch if isinstance(batch, tuple | list) else (batch,)
        if not isinstance(inputs, Tensor):
            raise MethodError(f"A batch must be an input or (input, target), tensors both; got {type(batch).__name__}.")
        yield inputs, others[0] if others else None


class Term(NamedTuple):
    """One differentiable scalar of each sample `(batch,)`, and how much it counts: one number, or `(batch,)`."""

    value: Tensor
    weight: float | Tensor = 1.0


Terms: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Iterable[Term]]
"""From input, output `(batch, classes, *spatial)` and target to the terms of each sample, which depend on it alone."""


def mean_over_samples(
    model: nn.Module,
    batches: Batches,
    objective: Callable[[Tensor, Tensor | None], Tensor],
    transform: Callable[[Tensor], Tensor],
    sum_over_processes: SumOverProcesses,
    precision: Precision = "32-true",
) -> ParamDict:
    r"""The mean over samples of a transformed per-sample gradient, of one scalar a sample.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} t\!\left(\frac{\partial\, o(F(x_n; \theta), y_n)}{\partial \theta}\right)

    Args:
        model: see `mean_over_terms`.
        batches: see `Importance.estimate`.
        objective: from output `(batch, classes, *spatial)` and target to one scalar a sample `(batch,)`, o above.
        transform: t above, elementwise, for example `torch.abs` or `torch.square`.
        sum_over_processes: see `Importance.estimate`.
        precision: see `mean_over_terms`.

    Returns:
        See `mean_over_terms`.
    """

    def terms(_: Tensor, output: Tensor, target: Tensor | None) -> list[Term]:
        return [Term(objective(output, target))]

    return mean_over_terms(model, batches, terms, transform, sum_over_processes, precision)


def mean_over_terms(
    model: nn.Module,
    batches: Batches,
    terms: Terms,
    transform: Callable[[Tensor], Tensor],
    sum_over_processes: SumOverProcesses,
    precision: Precision = "32-true",
) -> ParamDict:
    r"""The mean over samples of a weighted sum of transformed gradients.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} \sum_k w_{nk}\;
              t\!\left(\frac{\partial\, o_k(F(x_n; \theta), y_n)}{\partial \theta}\right)

    The transform t is applied to each sample's gradient, never to that of a batch: the mean of |g| is not |mean of g|.
    Sums are kept in float64, so that order and batch size do not matter; a caller's autocast is off.

    Args:
        model: measured in evaluation mode.
        batches: see `Importance.estimate`.
        terms: the o and w above.
        transform: t above, elementwise, for example `torch.abs` or `torch.square`.
        sum_over_processes: see `Importance.estimate`.
        precision: `32-true`, or `bf16-mixed`: half precision, where one pass can be had and two samples give in it what
            they give in single precision, see `HALF_ALIKE`; elsewhere single precision.

    Returns:
        Parameter name to tensor, in the parameter's dtype, but at least in float32.

    Raises:
        MethodError: if there is no sample, no trainable parameter, an output that is not one tensor, or a gradient that
            is not finite.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not parameters:
        raise MethodError("The model has no trainable parameter: set requires_grad on what importance is asked for.")
    device = next(iter(parameters.values())).device
    sums = _Sums(model, parameters, terms, transform, in_half=precision == "bf16-mixed")
    with evaluation_mode(model), fast_kernels(model), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        for inputs, target in checked(batches):
            sums.add(inputs.to(device), None if target is None else target.to(device))
    count = sum_over_processes(torch.tensor(float(sums.count), dtype=torch.float64, device=device))
    if count.item() == 0:
        raise MethodError("Importance needs at least one sample; the batches were empty.")
    means = {name: sum_over_processes(total) / count for name, total in sums.totals.items()}
    if broken := [name for name, mean in means.items() if not bool(mean.isfinite().all())]:
        raise MethodError(
            f"Importance of {broken[:5]} is not finite: the weights or a sample hold NaN or infinity, or the output "
            "overflows. Measure a model that gives finite outputs."
        )
    return {name: mean.to(torch.promote_types(parameters[name].dtype, torch.float32)) for name, mean in means.items()}


class _Sums:
    """Sums over samples: from one pass of each batch where that gives the same, else sample by sample."""

    def __init__(
        self,
        model: nn.Module,
        parameters: dict[str, nn.Parameter],
        terms: Terms,
        transform: Callable[[Tensor], Tensor],
        *,
        in_half: bool,
    ) -> None:
        self.model = model
        self.parameters = parameters
        self.terms = terms
        self.transform = transform
        self.totals = self._zeros()
        self.count = 0
        self._pass = one_pass(model, parameters)
        self._is_tried = False
        self._in_half = in_half

    def add(self, inputs: Tensor, target: Tensor | None) -> None:
        """Adds the samples of a batch."""
        start = 0
        if self._pass is not None and not self._is_tried and len(inputs) > 1:
            start = 2
            self._try(self._pass, inputs[:2], None if target is None else target[:2])
        if self._pass is None or len(inputs) == 1:
            self._one_by_one(self.totals, inputs[start:], None if target is None else target[start:])
        else:
            for part in self._parts(self._pass, start, inputs):
                own = inputs[part], None if target is None else target[part]
                if self._pass is None or not self._together(self._pass, self.totals, *own):
                    self._pass = None
                    self._one_by_one(self.totals, *own)
        self.count += len(inputs)

    def _parts(self, together: OnePass, start: int, inputs: Tensor) -> Iterator[slice]:
        """Which samples of a batch go together, the first of them left out."""
        step = max(1, BYTES_TOGETHER // together.largest) if inputs.device.type == "cpu" else len(inputs)
        for first in range(start, len(inputs), step):
            yield slice(first, first + step)

    def _try(self, together: OnePass, inputs: Tensor, target: Tensor | None) -> None:
        """Counts two samples in both ways; where these differ, samples of this network go one by one."""
        self._is_tried = True
        plain = self._zeros()
        self._one_by_one(plain, inputs, target)
        for name, total in plain.items():
            self.totals[name] += total
        try:
            if self._in_half:
                self._in_half = self._is_like(plain, together, inputs, target, HALF_ALIKE)
            if not self._in_half and not self._is_like(plain, together, inputs, target, ALIKE):
                self._pass = None
        # what autograd raises where a layer's output may not be marked
        except (OutOfReach, RuntimeError):
            self._pass = None

    def _is_like(
        self, plain: ParamDict, together: OnePass, inputs: Tensor, target: Tensor | None, share: float
    ) -> bool:
        fast = self._zeros()
        if not self._together(together, fast, inputs, target):
            return False
        floor = max(float(total.mean()) for total in plain.values()) * NOISE
        return all(
            float(fast[name].sub_(total).abs_().mean()) <= max(float(total.mean()) * share, floor)
            for name, total in plain.items()
        )

    def _one_by_one(self, totals: ParamDict, inputs: Tensor, target: Tensor | None) -> None:
        transform = IN_PLACE.get(self.transform, self.transform)
        for index in range(len(inputs)):
            x, y = inputs[index : index + 1], None if target is None else target[index : index + 1]
            every = list(self.terms(x, _one_tensor(self.model(x)), y))
            for place, (value, weight) in enumerate(every, 1):
                scale = weight.reshape(()) if isinstance(weight, Tensor) else weight
                gradients = torch.autograd.grad(
                    value.sum(), list(self.parameters.values()), retain_graph=place < len(every), allow_unused=True
                )
                for total, gradient in zip(totals.values(), gradients, strict=True):
                    if gradient is not None:
                        # float64 before the transform: the square of a small gradient would be 0 in its own type
                        own = transform(gradient.to(torch.float64, copy=True))
                        total += own if isinstance(scale, float) and scale == 1 else scale * own

    def _together(self, together: OnePass, totals: ParamDict, inputs: Tensor, target: Tensor | None) -> bool:
        """Adds samples from one pass; False, and nothing added, where one pass is out of reach of these."""
        with together.watched():
            try:
                with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._in_half):
                    output = _one_tensor(together.forward(self.model, inputs))
            except OutOfReach:
                return False
            output = output.float() if self._in_half else output
            every = list(self.terms(inputs, output, target))
            for place, (value, weight) in enumerate(every, 1):

                def receive(name: str, gradient: Gradient, weight: float | Tensor = weight) -> None:
                    _add_up(totals[name], gradient, len(inputs), weight, self.transform)

                together.gradients(value.sum(), receive, place < len(every))
        return True

    def _zeros(self) -> ParamDict:
        return {name: torch.zeros_like(p, dtype=torch.float64) for name, p in self.parameters.items()}


def _add_up(
    total: Tensor, gradient: Gradient, samples: int, weight: float | Tensor, transform: Callable[[Tensor], Tensor]
) -> None:
    """Adds the weighted sum over samples of a transformed gradient, a few samples at a time."""
    step = max(1, AT_ONCE // max(1, total.numel()))
    transform = IN_PLACE.get(transform, transform)
    batch: Tensor | None = None
    for first in range(0, samples, step):
        found = gradient(first, min(first + step, samples))
        # float64 where it costs next to nothing: the square of a small gradient would be 0 in its own type
        part = transform(
            found.double() if step > 1 or found.dtype not in (torch.float32, torch.bfloat16) else found.float()
        )
        if isinstance(weight, Tensor):
            part = part * weight[first : first + step].reshape(-1, *[1] * (part.ndim - 1)).to(part)
        elif weight != 1:
            part = part.double() * weight
        part = part.sum(dim=0) if len(part) > 1 else part[0]
        batch = part if batch is None else batch.add_(part)
    if batch is not None:
        total += batch


def _one_tensor(output: object) -> Tensor:
    if isinstance(output, Tensor):
        return output
    raise MethodError(
        f"Importance needs a network whose output in evaluation mode is one tensor; this one gives a "
        f"{type(output).__name__}. Wrap it in a module that returns the output used for prediction."
    )
