from __future__ import annotations

from torch import nn

from perdure import QuickNAT
from perdure.methods import default_method, dsbn, mas_lr


def test_a_network_with_batch_norm_gets_one_a_domain_and_others_are_slowed_down() -> None:
    assert default_method(QuickNAT(classes=2, filters=2, kernel_size=3)) == dsbn()
    assert default_method(nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2))) == mas_lr()
