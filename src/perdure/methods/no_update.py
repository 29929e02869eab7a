"""No update."""

from __future__ import annotations

from perdure.methods.method import Method
from perdure.regularization import Unrestrained


def no_update() -> Method:
    """Leaves the release as it is, and adds the new domain to what its memory knows: the control for every method.

    Where domains are alike it can have a higher CL score than most methods; a method is worth something only if it
    gains on the new domain over this one.
    """
    return Method(
        name="no-update",
        source="control",
        summary="changes nothing (the control that every method has to beat on the new domain)",
        regularizer=Unrestrained(),
        data="none",
    )
