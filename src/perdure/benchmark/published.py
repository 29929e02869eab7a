"""The numbers that Özgün et al. 2020 published, to stand beside ours."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One row of Table 1: each measure with what stands behind ± there, the s.d. over structures.

    Args:
        title: what the paper calls the row.
        values: by the key of the measure, its value and that deviation.
    """

    title: str
    values: dict[str, tuple[float, float]]


COLUMNS = (
    "continual_learning_score",
    "remembering",
    "positive_backward_transfer",
    "transfer_learning",
    "forward_transfer",
)
"""The measures in the order of the paper's columns."""


def _row(title: str, *pairs: tuple[float, float]) -> Published:
    return Published(title, dict(zip(COLUMNS, pairs, strict=True)))


TABLE_1: dict[str, Published] = {
    "finetune": _row("Fine-tuning", (0.716, 0.138), (0.903, 0.054), (0.010, 0.016), (0.770, 0.118), (0.605, 0.174)),
    "joint": _row("Joint training", (0.783, 0.108), (0.997, 0.003), (0.029, 0.024), (0.776, 0.114), (0.650, 0.161)),
    "mas": _row("MAS", (0.742, 0.129), (0.929, 0.045), (0.007, 0.011), (0.783, 0.112), (0.625, 0.166)),
    "mas-fix": _row("MAS-Fix", (0.755, 0.130), (0.954, 0.036), (0.010, 0.014), (0.781, 0.116), (0.634, 0.166)),
    "mas-lr": _row("MAS-LR", (0.756, 0.128), (0.960, 0.032), (0.012, 0.016), (0.778, 0.117), (0.637, 0.164)),
    "l2": _row("Regularization ℓ2", (0.726, 0.135), (0.913, 0.054), (0.011, 0.012), (0.778, 0.108), (0.614, 0.185)),
    "dropout": _row("Dropout", (0.744, 0.146), (0.931, 0.055), (0.007, 0.008), (0.786, 0.121), (0.690, 0.169)),
    "mas-lr-dropout": _row(
        "MAS-LR-Dropout", (0.761, 0.132), (0.965, 0.026), (0.009, 0.008), (0.778, 0.124), (0.693, 0.170)
    ),
}
"""Table 1 of Özgün et al. 2020 by the name of the method, in its order."""
