"""What architectures; what does a model's batch norm do in an update?"""

from __future__ import annotations

from perdure.models.batch_norm import (
    batch_norms,
    check,
    evaluation_mode,
    load_statistics,
    statistics,
    training_mode,
)
from perdure.models.factory import build, networks
from perdure.models.head import Trainable, head, trainable_parameters
from perdure.models.quicknat import QuickNAT
from perdure.models.resnet import resnet50
from perdure.models.spec import NetworkSpec, describe
from perdure.models.synchronized import synchronized_batch_norm
from perdure.models.weights import Loaded, load_weights, read_weights

__all__ = [
    "Loaded",
    "NetworkSpec",
    "QuickNAT",
    "Trainable",
    "batch_norms",
    "build",
    "check",
    "describe",
    "evaluation_mode",
    "head",
    "load_statistics",
    "load_weights",
    "networks",
    "read_weights",
    "resnet50",
    "statistics",
    "synchronized_batch_norm",
    "trainable_parameters",
    "training_mode",
]
