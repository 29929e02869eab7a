"""What number is it? Scores of cases, the train-test matrix, and its measures."""

from perdure.evaluation.classification import accuracy, auc, classification_scores, kappa, linear_kappa
from perdure.evaluation.confusion import confusion
from perdure.evaluation.dice import dice
from perdure.evaluation.evaluate import evaluate
from perdure.evaluation.matrix import Loss, SubjectScores, TrainTestMatrix, train_test_matrix
from perdure.evaluation.prediction import Predictor
from perdure.evaluation.prediction_files import Predicted, predict_files
from perdure.evaluation.rows import METRICS, SCHEMA, classification_rows, domain_rows, segmentation_rows
from perdure.evaluation.scores import Header, ScoredRelease, Scores, mean_scores, union
from perdure.evaluation.summary import LITERATURE, MEASURES, Definition, Measure, Summary, summary

__all__ = [
    "LITERATURE",
    "MEASURES",
    "METRICS",
    "SCHEMA",
    "Definition",
    "Header",
    "Loss",
    "Measure",
    "Predicted",
    "Predictor",
    "ScoredRelease",
    "Scores",
    "SubjectScores",
    "Summary",
    "TrainTestMatrix",
    "accuracy",
    "auc",
    "classification_rows",
    "classification_scores",
    "confusion",
    "dice",
    "domain_rows",
    "evaluate",
    "kappa",
    "linear_kappa",
    "mean_scores",
    "predict_files",
    "segmentation_rows",
    "summary",
    "train_test_matrix",
    "union",
]
