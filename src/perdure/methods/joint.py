"""Joint training."""

from __future__ import annotations

from perdure.methods.method import Method
from perdure.regularization import Unrestrained
from perdure.types import Statistics


def joint(batch_norm: Statistics = "target") -> Method:
    """Trains on the new domain and all earlier ones together: the upper bound, for which the old data must be there.

    Source: Özgün et al. 2020, Table 1.

    Open in the paper, decided here: cumulative, stage d on domains 1 to d, going on from the parent release (a single
    joint model would have REM 1 and BWT+ 0 exactly; the table has .997 and .029).
    """
    return Method(
        name="joint",
        source="ozgun2020importance",
        summary="trains on all domains so far together (upper bound, needs the old data)",
        regularizer=Unrestrained(),
        batch_norm=batch_norm,
        data="cumulative",
    )
