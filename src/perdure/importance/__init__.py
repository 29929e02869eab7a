"""How much does each parameter matter? One file a measure, pure functions for what follows it."""

from perdure.importance.accumulation import running_mean
from perdure.importance.base import Importance
from perdure.importance.mas import MAS
from perdure.importance.scaling import Scaling, aggregate, clip_outliers, filter_axes, unit_range

__all__ = [
    "MAS",
    "Importance",
    "Scaling",
    "aggregate",
    "clip_outliers",
    "filter_axes",
    "running_mean",
    "unit_range",
]
