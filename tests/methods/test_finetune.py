from __future__ import annotations

import pytest

from perdure.methods import finetune
from perdure.regularization import Unrestrained


@pytest.mark.parametrize("batch_norm", ["target", "original"])
def test_nothing_is_measured_or_restrained(batch_norm) -> None:
    method = finetune(batch_norm)
    assert method.importance is None
    assert method.regularizer == Unrestrained()
    assert (method.batch_norm, method.data) == (batch_norm, "target")
