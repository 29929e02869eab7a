"""A domain in memory, for what takes a `perdure.types.Domain` but shall not read a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from perdure.types import Batch, Contract, Counts, Split


@dataclass(frozen=True)
class Site:
    """Training samples alone.

    Args:
        contract: what they follow.
        inputs: `(samples, channels, *spatial)`.
        target: class indices.
        name: of the domain.
    """

    contract: Contract
    inputs: Tensor
    target: Tensor
    name: str = "site"

    @property
    def counts(self) -> Counts:
        """As many subjects as samples."""
        number = {"train": len(self.inputs)}
        return Counts(subjects=number, cases=number, samples=number)

    @property
    def hashes(self) -> Mapping[str, str]:
        """One for all."""
        return {self.name: "0" * 64}

    def batches(self, split: Split, batch_size: int, **_: Any) -> Iterator[Batch]:
        """In order."""
        if split == "train":
            yield from zip(self.inputs.split(batch_size), self.target.split(batch_size), strict=True)

    def steps(self, split: Split, batch_size: int) -> int:
        """How many batches there are."""
        return len(self.inputs) // batch_size if split == "train" else 0
