"""What the output of a network says about its target: the p(y | x) of the Fisher information."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import torch
from torch.nn import functional

from perdure.errors import MethodError
from perdure.importance.per_sample import Term
from perdure.types import IGNORED

if TYPE_CHECKING:
    from torch import Generator, Tensor

FEW_OUTPUTS = 16
"""Up to so many classes, or outputs, the expectation over the target is taken exactly."""


class Likelihood(Protocol):
    """p(y | x) of each sample of a batch, given the network's output for it, `(batch, classes, *spatial)`."""

    def log_p(self, output: Tensor, target: Tensor) -> Tensor:
        """The logarithm of p of each sample `(batch,)`, up to a constant: summed over its pixels."""
        ...

    def drawn(self, output: Tensor, generators: Sequence[Generator]) -> Tensor:
        """A target drawn from p for each sample, by a generator of its own, the same on every device."""
        ...

    def expected(self, output: Tensor) -> Iterator[Term]:
        """Terms whose weighted squared gradients add up to the expectation over y.

        Raises:
            MethodError: if the output has too many entries for that.
        """
        ...


class Categorical:
    """One of the classes at every pixel, with the probabilities of the softmax. Targets are class indices."""

    def log_p(self, output: Tensor, target: Tensor) -> Tensor:  # noqa: D102
        loss = functional.nll_loss(output.log_softmax(dim=1), target, ignore_index=IGNORED, reduction="none")
        return -loss.reshape(len(output), -1).sum(dim=1)

    def drawn(self, output: Tensor, generators: Sequence[Generator]) -> Tensor:  # noqa: D102
        log_p = output.detach().log_softmax(dim=1)
        # the Gumbel trick on the processor, so that every device draws the same
        uniform = torch.stack([torch.rand(log_p.shape[1:], generator=g, dtype=torch.float64) for g in generators])
        uniform = uniform.clamp_min(1e-300)
        return (log_p.cpu().double() - (-uniform.log()).log()).argmax(dim=1).to(log_p.device)

    def expected(self, output: Tensor) -> Iterator[Term]:  # noqa: D102
        _check_few(output, "classifications of at most {} classes")
        log_p = output.log_softmax(dim=1)
        for label, probability in enumerate(log_p.detach().exp().unbind(dim=1)):
            yield Term(log_p[:, label], probability)


class Gaussian:
    r"""A regression: the output is the mean of a normal distribution of variance 1 in every entry.

    The score of entry k is :math:`(y_k - f_k)\, \partial f_k / \partial \theta`, so that the expectation of its square
    is :math:`\sum_k (\partial f_k / \partial \theta)^2`. For another variance divide by it.
    """

    def log_p(self, output: Tensor, target: Tensor) -> Tensor:  # noqa: D102
        if target.shape != output.shape:
            raise MethodError(
                f'Fisher(likelihood="gaussian") needs a target of the output\'s shape, {tuple(output.shape)}; got '
                f"{tuple(target.shape)}."
            )
        return -(target - output).square().reshape(len(output), -1).sum(dim=1) / 2

    def drawn(self, output: Tensor, generators: Sequence[Generator]) -> Tensor:  # noqa: D102
        noise = torch.stack([torch.randn(output.shape[1:], generator=g, dtype=torch.float64) for g in generators])
        return output.detach() + noise.to(output)

    def expected(self, output: Tensor) -> Iterator[Term]:  # noqa: D102
        _check_few(output, "regressions of at most {} values")
        for mean in output.unbind(dim=1):
            yield Term(mean)


LikelihoodName: TypeAlias = Literal["categorical", "gaussian"]

LIKELIHOODS: Mapping[str, Likelihood] = MappingProxyType({"categorical": Categorical(), "gaussian": Gaussian()})
"""Every likelihood by name."""


def _check_few(output: Tensor, what: str) -> None:
    if output.ndim != 2 or output.shape[1] > FEW_OUTPUTS:
        raise MethodError(
            f'Fisher(labels="expected") is for {what.format(FEW_OUTPUTS)}; this output has shape '
            f'{tuple(output.shape)}. Use "sampled".'
        )
