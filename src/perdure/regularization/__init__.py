"""What does importance do to a step? One file a form."""

from perdure.regularization.base import Regularizer
from perdure.regularization.learning_rate import LearningRate
from perdure.regularization.steps import scaled_steps
from perdure.regularization.unrestrained import Unrestrained

__all__ = ["LearningRate", "Regularizer", "Unrestrained", "scaled_steps"]
