"""What an update does unless told otherwise."""

from __future__ import annotations

from torch import nn

from perdure.methods.dsbn import dsbn
from perdure.methods.mas_lr import mas_lr
from perdure.methods.method import Method
from perdure.models import batch_norms


def default_method(model: nn.Module) -> Method:
    """`dsbn`, which takes nothing from earlier domains; `mas-lr` for a network without batch norm.

    The first was chosen on validation cases of real sequences, see docs/decisions/0020-the-default-of-an-update.md; the
    second was not compared with others on such networks.
    """
    return dsbn() if batch_norms(model) else mas_lr()
