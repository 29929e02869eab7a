"""How a network is written down, so that it can be built again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, JsonValue

from perdure.types import Value

if TYPE_CHECKING:
    from torch import nn


class NetworkSpec(Value):
    """The name of a network and what it is called with.

    Args:
        factory: `quicknat`, `resnet50`, `monai:NAME`, `nnunet:NAME` or `package.module:factory`.
        arguments: keyword arguments of the factory. Input channels, classes and spatial dimensions may be left out:
            `build` takes them from the data.
    """

    factory: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)


def describe(model: nn.Module) -> NetworkSpec | None:
    """The spec of a network that exists already.

    `QuickNAT`, and whatever `build` made, carry theirs as `network_spec`; a network of yours may do the same. Of any
    other network only the class is known, not what it was called with: the spec then names the class, and the caller
    has to see whether `build` gives the same parameters.

    Returns:
        The spec; None for a class that cannot be imported by name (defined in a function or in a script).
    """
    spec = getattr(model, "network_spec", None)
    if isinstance(spec, NetworkSpec):
        return spec
    kind = type(model)
    if "<locals>" in kind.__qualname__ or kind.__module__ == "__main__":
        return None
    return NetworkSpec(factory=f"{kind.__module__}:{kind.__qualname__}")
