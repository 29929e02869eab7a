"""How much does each parameter matter? One file a measure, pure functions for what follows it."""

from perdure.importance.accumulation import Accumulation, accumulate, running_mean
from perdure.importance.base import RAW, Importance
from perdure.importance.fisher import Fisher
from perdure.importance.mas import MAS
from perdure.importance.measures import MEASURES, measure_from
from perdure.importance.path_integral import SI
from perdure.importance.scaling import (
    AUTHORS,
    Scaling,
    aggregate,
    clip_outliers,
    filter_axes,
    logarithm,
    unit_range,
)
from perdure.importance.uniform import Uniform

__all__ = [
    "AUTHORS",
    "MAS",
    "MEASURES",
    "RAW",
    "SI",
    "Accumulation",
    "Fisher",
    "Importance",
    "Scaling",
    "Uniform",
    "accumulate",
    "aggregate",
    "clip_outliers",
    "filter_axes",
    "logarithm",
    "measure_from",
    "running_mean",
    "unit_range",
]
