"""What does importance do to a step? One file a form."""

from perdure.regularization.base import OnDemand, Past, Regularizer
from perdure.regularization.distillation import Distillation
from perdure.regularization.forms import FORMS, form_from
from perdure.regularization.freezing import Freezing, frozen_said, updates_left
from perdure.regularization.learning_rate import LearningRate
from perdure.regularization.steps import masked_gradients, scaled_steps
from perdure.regularization.surrogate_loss import SurrogateLoss, strength_said
from perdure.regularization.unrestrained import Unrestrained

__all__ = [
    "FORMS",
    "Distillation",
    "Freezing",
    "LearningRate",
    "OnDemand",
    "Past",
    "Regularizer",
    "SurrogateLoss",
    "Unrestrained",
    "form_from",
    "frozen_said",
    "masked_gradients",
    "scaled_steps",
    "strength_said",
    "updates_left",
]
