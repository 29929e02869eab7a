"""The diagonal of the Fisher information."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from perdure.errors import MethodError, check_choice
from perdure.importance.base import RAW, Importance
from perdure.importance.likelihood import LIKELIHOODS, LikelihoodName
from perdure.importance.per_sample import Term, mean_over_terms
from perdure.importance.scaling import Scaling
from perdure.types import Precision, one_process

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perdure.types import Batches, ParamDict, SumOverProcesses

Labels: TypeAlias = Literal["sampled", "dataset", "expected"]


@dataclass(frozen=True)
class Fisher(Importance):
    r"""How sharply the log-likelihood of the output bends with each parameter.

    .. math:: F_i = \frac{1}{N} \sum_{n=1}^{N} \mathbb{E}_{y}
              \left[\left(\frac{\partial \log p_\theta(y \mid x_n)}{\partial \theta_i}\right)^2\right]

    The mean is over samples, one gradient a sample: the square of a batch's mean gradient is another, smaller number.
    For a segmentation, log p of a sample is the sum over its pixels; with labels of the dataset, over those that are
    not ignored.

    Source: Kirkpatrick et al. 2017; Gupta et al. 2020, section 2.3.

    Open in the paper, decided here: labels are drawn from the model (the definition of the Fisher information), once
    a sample; evaluation mode; training samples of the old domain. Each sample's draw depends on `seed` and on the
    sample itself, so that neither order nor batch size nor the number of processes changes the result.

    Args:
        labels: `sampled` draws y from the model's own output; `dataset` takes the true labels (the empirical Fisher,
            which many implementations use); `expected` weighs every class by its probability, exactly, for
            classifications of at most 16 classes and regressions of at most 16 values.
        likelihood: `categorical` for classifications and segmentations; `gaussian` for regressions, of variance 1.
        seed: of the draws, from 0 to 2**32 - 1.
        precision: see `MAS`.
    """

    labels: Labels = "sampled"
    seed: int = 0
    likelihood: LikelihoodName = field(default="categorical", kw_only=True)
    scaling: Scaling = field(default=RAW, kw_only=True)
    precision: Precision = field(default="32-true", kw_only=True)

    name = "fisher"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("labels", self.labels, Labels)
        check_choice("likelihood", self.likelihood, LikelihoodName)
        check_choice("precision", self.precision, Precision)
        if not 0 <= self.seed < 2**32:
            raise MethodError(f"`seed` must be a whole number from 0 to 2**32 - 1; got {self.seed}.")

    def estimate(  # noqa: D102
        self,
        model: nn.Module,
        batches: Batches,
        *,
        sum_over_processes: SumOverProcesses = one_process,
        watched: Mapping[str, Any] | None = None,
    ) -> ParamDict:
        return mean_over_terms(model, batches, self._terms, torch.square, sum_over_processes, self.precision)

    def _terms(self, inputs: Tensor, output: Tensor, target: Tensor | None) -> Iterator[Term]:
        likelihood = LIKELIHOODS[self.likelihood]
        if self.labels == "expected":
            yield from likelihood.expected(output)
            return
        if self.labels == "sampled":
            target = likelihood.drawn(output, [self._generator(one) for one in inputs])
        if target is None:
            raise MethodError('Fisher(labels="dataset") needs batches of (input, target); got inputs alone.')
        yield Term(likelihood.log_p(output, target))

    def _generator(self, inputs: Tensor) -> torch.Generator:
        """Of the draws of one sample."""
        # bytes, because numpy knows no bfloat16; the seed joins them, because torch's generator heeds 32 bits alone
        content = inputs.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return torch.Generator().manual_seed(zlib.crc32(content, self.seed))
