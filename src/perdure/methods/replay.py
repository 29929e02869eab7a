"""Replay."""

from __future__ import annotations

from perdure.methods.method import Method
from perdure.regularization import Unrestrained
from perdure.types import Statistics


def replay(batch_norm: Statistics = "target") -> Method:
    """Trains on the new domain and a few cases of earlier ones.

    **It needs patient data to be kept**, and is refused unless that is allowed (`--allow-patient-data`).

    Source: Rebuffi et al. 2017 and Chaudhry et al. 2019 for small memories; here whole cases, drawn by seed.

    Args:
        batch_norm: see `Method`.
    """
    return Method(
        name="replay",
        source="chaudhry2019tiny",
        summary="trains on a few kept cases of earlier domains too (STORES PATIENT DATA; refused unless allowed)",
        regularizer=Unrestrained(),
        data="replay",
        batch_norm=batch_norm,
    )
