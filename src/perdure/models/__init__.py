"""What architectures; what does a model's batch norm do in an update?"""

from __future__ import annotations

from perdure.models.batch_norm import (
    batch_norms,
    check,
    evaluation_mode,
    load_statistics,
    statistics,
    swapped_statistics,
    training_mode,
)
from perdure.models.engine import Engine, OpenVino
from perdure.models.exportable import exportable
from perdure.models.factory import build, networks
from perdure.models.head import Trainable, has_dropout, head, trainable_parameters, training_only
from perdure.models.interpolation import interpolated
from perdure.models.kernels import fast_kernels, make_fast
from perdure.models.nnunet import size_multiple
from perdure.models.per_domain import batch_norm_state, load_batch_norm_state
from perdure.models.quicknat import QuickNAT
from perdure.models.recalibration import recalibrate
from perdure.models.resnet import resnet50
from perdure.models.spec import NetworkSpec, describe
from perdure.models.synchronized import synchronized_batch_norm
from perdure.models.weights import Loaded, load_weights, read_weights

__all__ = [
    "Engine",
    "Loaded",
    "NetworkSpec",
    "OpenVino",
    "QuickNAT",
    "Trainable",
    "batch_norm_state",
    "batch_norms",
    "build",
    "check",
    "describe",
    "evaluation_mode",
    "exportable",
    "fast_kernels",
    "has_dropout",
    "head",
    "interpolated",
    "load_batch_norm_state",
    "load_statistics",
    "load_weights",
    "make_fast",
    "networks",
    "read_weights",
    "recalibrate",
    "resnet50",
    "size_multiple",
    "statistics",
    "swapped_statistics",
    "synchronized_batch_norm",
    "trainable_parameters",
    "training_mode",
    "training_only",
]
