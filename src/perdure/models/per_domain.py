r"""What of a network belongs to one domain: all of its batch norm.

.. math:: y = \gamma_d \, \frac{x - \mu_d}{\sqrt{\sigma_d^2 + \epsilon}} + \beta_d

Every domain d has a set of its own; all other weights are shared. Whoever predicts must say which domain an image comes
from. Where nothing but batch norm trains, as in the paper, the set of an earlier domain gives its old outputs bit for
bit. Where shared weights train too, it does not: they are no longer those that the set was made with.

Source: Karani et al. 2018, "A Lifelong Learning Approach to Brain MR Segmentation Across Scanners and Protocols".
Decided here: the set of a new domain starts from that of the parent.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from perdure.models.batch_norm import AFFINE, BUFFERS, tensors_of, write
from perdure.types import ParamDict


def batch_norm_state(model: nn.Module) -> ParamDict:
    r"""Copies of :math:`\gamma`, :math:`\beta` and running statistics of every batch norm, by full name."""
    return {name: tensor.detach().clone() for name, tensor in tensors_of(model, AFFINE + BUFFERS).items()}


def load_batch_norm_state(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Writes one domain's set, as `batch_norm_state` returned it, into a network.

    Raises:
        BatchNormError: unless names and shapes are exactly those of the network; nothing is written then.
    """
    write(tensors_of(model, AFFINE + BUFFERS), values, "values")
