r"""Batch-norm statistics estimated anew, with the final weights.

.. math::
    \mu = \frac{1}{n} \sum_b n_b \mu_b, \qquad
    \sigma^2 = \frac{1}{n - 1} \sum_b n_b \left( \sigma_b^2 + (\mu_b - \mu)^2 \right), \qquad n = \sum_b n_b

:math:`n_b` values of one channel (samples times pixels) in batch b have the mean :math:`\mu_b` and the variance
:math:`\sigma_b^2`: these are mean and variance of all values together, whatever the sizes of the batches. While a
network trains, the running statistics are a fading average over weights that are gone by the end.

Source: Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", where it is called precise batch norm. As there, every
batch is normalised by its own statistics on its way through the network. So those of the first batch norm are exact;
those of a later one depend on which samples share a batch.
Deviation: the variance is divided by n - 1, as torch divides that of one batch; batches count by their size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from perdure.errors import BatchNormError
from perdure.models.batch_norm import batch_norms, check, evaluation_mode, load_statistics, statistics
from perdure.models.synchronized import Sum, synchronized_batch_norm
from perdure.types import Batches, ParamDict


def recalibrate(model: nn.Module, batches: Batches, sum_over_processes: Sum | None = None) -> None:
    """Replaces the running statistics of every batch norm by those of the batches.

    Everything else of the network is as in evaluation mode (dropout off), and unchanged afterwards, bit for bit. A
    batch norm that no value reaches keeps its statistics: a prediction does not use it either. The counter of batches
    starts again. Autocast is off.

    Args:
        model: any network; one without batch norm stays as it is.
        batches: inputs, or (input, target), once each. Neither labels nor gradients are used.
        sum_over_processes: for several processes, the sum that `synchronized_batch_norm` takes. Each gives its shard of
            the same batches.

    Raises:
        BatchNormError: if batch norm keeps no statistics or is out of reach, if there is no batch, if one is too small,
            or if the statistics are not finite; those of the network are unchanged then.
    """
    if isinstance(batches, Tensor):
        raise BatchNormError(
            f"`batches` must be an iterable of batches; got one tensor, {tuple(batches.shape)}: use [x]."
        )
    check(model, "recalibrated")
    own = statistics(model)
    if not own:
        return
    device = next(iter(own.values())).device
    seen = 0
    with _batch_statistics(model, sum_over_processes) as pools, torch.autocast(device.type, enabled=False):
        for batch in batches:
            model((batch if isinstance(batch, Tensor) else batch[0]).to(device))
            seen += 1
    if seen == 0:
        raise BatchNormError("Batch-norm statistics need at least one batch; there was none.")
    new = dict(own)
    for pool in pools:
        new |= pool.statistics(seen, sum_over_processes)
    if broken := sorted(name for name, value in new.items() if not bool(value.isfinite().all())):
        raise BatchNormError(
            f"Batch-norm statistics {broken[:5]} are not finite: the weights or a sample hold NaN or infinity, or a "
            "layer overflows. Nothing was changed."
        )
    load_statistics(model, {name: new[name] for name in own})


@contextmanager
def _batch_statistics(model: nn.Module, sum_over_processes: Sum | None) -> Iterator[list[_Pool]]:
    """Evaluation mode, but each batch norm uses statistics of the batch; what reaches it is pooled.

    The running statistics move inside, and are back at the end.
    """
    norms = batch_norms(model)
    own = statistics(model)
    together = nullcontext() if sum_over_processes is None else synchronized_batch_norm(model, sum_over_processes)
    with evaluation_mode(model), torch.no_grad(), together:
        pools = []
        handles = []
        try:
            for name, norm in norms.items():
                norm.training = True
                prefix = f"{name}." if name else ""
                pools.append(_Pool(prefix, own[f"{prefix}running_mean"], is_alone=sum_over_processes is None))
                handles.append(norm.register_forward_pre_hook(pools[-1]))
            yield pools
        finally:
            for handle in handles:
                handle.remove()
            load_statistics(model, own)


class _Pool:
    """A forward pre-hook: number, mean and summed centred squares, a channel, of all values that it sees."""

    def __init__(self, prefix: str, running_mean: Tensor, is_alone: bool) -> None:
        self.prefix = prefix
        self.is_alone = is_alone
        self.count = 0
        self.mean = torch.zeros_like(running_mean, dtype=torch.float64)
        self.squares = torch.zeros_like(self.mean)

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        count = x.numel() // x.shape[1]
        if self.is_alone and count <= 1:
            raise BatchNormError(
                f"Batch norm '{self.prefix.rstrip('.')}' needs more than one value a channel in each batch; "
                f"got {count} (input {tuple(x.shape)}). Use larger batches or images."
            )
        if count == 0:
            return
        values = x if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(values, [d for d in range(x.ndim) if d != 1], correction=0)
        # joined to what there is, not E[x^2] - E[x]^2, which cancels where the mean is large
        shift = mean.double() - self.mean
        total = self.count + count
        self.squares += count * variance.double() + shift.square() * (self.count * count / total)
        self.mean += shift * (count / total)
        self.count = total

    def statistics(self, batches: int, sum_over_processes: Sum | None) -> ParamDict:
        """Its values under the names of the buffers; nothing if it saw none."""
        count, mean, squares = self.count, self.mean, self.squares
        if sum_over_processes is not None:
            total = sum_over_processes(torch.cat((count * mean, mean.new_tensor([count]))))
            count = round(total[-1].item())
            mean = total[:-1] / max(count, 1)
            squares = sum_over_processes(squares + self.count * (self.mean - mean).square())
        if count == 0:
            return {}
        return {
            f"{self.prefix}running_mean": mean,
            f"{self.prefix}running_var": squares / (count - 1),
            f"{self.prefix}num_batches_tracked": torch.tensor(batches),
        }
