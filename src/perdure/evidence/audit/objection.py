"""One thing in a release that the audit does not let pass."""

from __future__ import annotations

from typing import Literal, TypeAlias

from perdure.types import Value

Kind: TypeAlias = Literal[
    "file", "bytes", "integrity", "key", "form", "text", "unicode", "few subjects", "hash", "network", "tensor",
    "sample axis", "image", "buffer", "values",
]  # fmt: skip
"""What sort of thing it is; docs/audit.md has a line on each."""

WEIGHTS, MEMORY, IDENTITY = "weights.safetensors", "memory.safetensors", "release.json"


class Objection(Value):
    """One thing in a release that the audit does not let pass.

    Args:
        kind: what sort of thing.
        file: the file of the release that holds it.
        field: where in it: a tensor, a key, a range of bytes.
        found: what stands there. Text that may name a patient is masked, because the audit itself is passed on.
        why: why it matters.
        what_to_do: how to get rid of it.
        is_accepted: whether a person has said that it may stay.
    """

    kind: Kind
    file: str
    field: str
    found: str
    why: str
    what_to_do: str
    is_accepted: bool = False

    @property
    def place(self) -> str:
        """What `--accept` takes: the file and the field."""
        return f"{self.file}:{self.field}"
