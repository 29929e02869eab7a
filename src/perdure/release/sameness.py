"""Do two releases predict a domain with the very same numbers?"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from perdure.release.identity import Identity
from perdure.release.release import MEMORY, WEIGHTS, norms_in, read_identity, read_tensors


def predicts_alike(one: Path, other: Path, domain: str) -> bool:
    """Whether network, input contract and every tensor that a domain is predicted with are the same, bit for bit.

    Where they are, no image of that domain can be predicted otherwise than before: nothing is left to infer from
    subjects. Of a release with one batch norm a domain the set of this domain counts. How many batches a batch norm has
    seen counts for nothing.

    Args:
        one: a release folder.
        other: another one.
        domain: where the images are from.

    Raises:
        ReleaseError: if a file of either is not what was written.
    """
    first, second = read_identity(one), read_identity(other)
    if first.network != second.network or first.contract != second.contract:
        return False
    before, after = _used(one, first, domain), _used(other, second, domain)
    # releases without any tensor show nothing
    same = before.keys() == after.keys() and all(_is_same(before[name], after[name]) for name in before)
    return bool(before) and same


def _used(folder: Path, identity: Identity, domain: str) -> dict[str, Tensor]:
    """The tensors of a network as it predicts a domain, by name."""
    own = norms_in(read_tensors(folder / MEMORY), identity, folder / MEMORY).get(domain, {})
    used = {**read_tensors(folder / WEIGHTS), **own}
    return {name: tensor for name, tensor in used.items() if not name.endswith("num_batches_tracked")}


def _is_same(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    bits = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return torch.equal(*bits)
