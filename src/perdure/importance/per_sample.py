"""Means over samples of a function of each sample's own gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch import Tensor

from perdure.errors import MethodError
from perdure.models import evaluation_mode

if TYPE_CHECKING:
    from torch import nn

    from perdure.types import Batches, ParamDict, SumOverProcesses


def samples(batches: Batches) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Each sample of the batches as a batch of one: its input, and its target where there is one.

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
        targets = others[0] if others else None
        for index in range(len(inputs)):
            yield inputs[index : index + 1], None if targets is None else targets[index : index + 1]


class Term(NamedTuple):
    """One differentiable scalar of one sample, and how much it counts."""

    value: Tensor
    weight: float | Tensor = 1.0


Terms: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Iterable[Term]]
"""From one sample's input, output `(1, classes, *spatial)` and target to its terms."""


def mean_over_samples(
    model: nn.Module,
    batches: Batches,
    objective: Callable[[Tensor, Tensor | None], Tensor],
    transform: Callable[[Tensor], Tensor],
    sum_over_processes: SumOverProcesses,
) -> ParamDict:
    r"""The mean over samples of a transformed per-sample gradient, of one scalar a sample.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} t\!\left(\frac{\partial\, o(F(x_n; \theta), y_n)}{\partial \theta}\right)

    Args:
        model: see `mean_over_terms`.
        batches: see `Importance.estimate`.
        objective: from output `(1, classes, *spatial)` and target to a scalar, o above.
        transform: t above, elementwise, for example `torch.abs` or `torch.square`.
        sum_over_processes: see `Importance.estimate`.

    Returns:
        See `mean_over_terms`.
    """
    return mean_over_terms(model, batches, lambda _, out, y: [Term(objective(out, y))], transform, sum_over_processes)


def mean_over_terms(
    model: nn.Module,
    batches: Batches,
    terms: Terms,
    transform: Callable[[Tensor], Tensor],
    sum_over_processes: SumOverProcesses,
) -> ParamDict:
    r"""The mean over samples of a weighted sum of transformed gradients.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} \sum_k w_{nk}\;
              t\!\left(\frac{\partial\, o_k(F(x_n; \theta), y_n)}{\partial \theta}\right)

    The transform t is applied to each sample's gradient, never to that of a batch: the mean of |g| is not |mean of g|.
    Sums are kept in float64, so that order and batch size do not matter; autocast is off.

    Args:
        model: measured in evaluation mode.
        batches: see `Importance.estimate`.
        terms: the o and w above.
        transform: t above, elementwise, for example `torch.abs` or `torch.square`.
        sum_over_processes: see `Importance.estimate`.

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
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    count = torch.zeros((), dtype=torch.float64, device=device)
    with evaluation_mode(model), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        for inputs, target in samples(batches):
            inputs = inputs.to(device)
            output = _one_tensor(model(inputs))
            every = list(terms(inputs, output, None if target is None else target.to(device)))
            for place, (value, weight) in enumerate(every, 1):
                gradients = torch.autograd.grad(
                    value, list(parameters.values()), retain_graph=place < len(every), allow_unused=True
                )
                for total, gradient in zip(sums.values(), gradients, strict=True):
                    if gradient is not None:
                        # float64 before the transform: the square of a small gradient would be 0 in its own type
                        total += weight * transform(gradient.double())
            count += 1
    count = sum_over_processes(count)
    if count.item() == 0:
        raise MethodError("Importance needs at least one sample; the batches were empty.")
    means = {name: sum_over_processes(total) / count for name, total in sums.items()}
    if broken := [name for name, mean in means.items() if not bool(mean.isfinite().all())]:
        raise MethodError(
            f"Importance of {broken[:5]} is not finite: the weights or a sample hold NaN or infinity, or the output "
            "overflows. Measure a model that gives finite outputs."
        )
    return {name: mean.to(torch.promote_types(parameters[name].dtype, torch.float32)) for name, mean in means.items()}


def _one_tensor(output: object) -> Tensor:
    if isinstance(output, Tensor):
        return output
    raise MethodError(
        f"Importance needs a network whose output in evaluation mode is one tensor; this one gives a "
        f"{type(output).__name__}. Wrap it in a module that returns the output used for prediction."
    )
