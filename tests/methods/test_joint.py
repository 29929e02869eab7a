from __future__ import annotations

from perdure.methods import finetune, joint


def test_it_is_fine_tuning_on_all_domains_so_far() -> None:
    method = joint()
    assert method.data == "cumulative"
    assert (method.importance, method.regularizer) == (finetune().importance, finetune().regularizer)
