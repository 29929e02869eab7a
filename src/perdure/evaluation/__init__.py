"""What number is it? Scores of cases, the train-test matrix, and its measures."""

from perdure.evaluation.classification import accuracy, auc, classification_scores, kappa, linear_kappa
from perdure.evaluation.confusion import confusion
from perdure.evaluation.dice import dice
from perdure.evaluation.evaluate import evaluate
from perdure.evaluation.intervals import Interval, difference_over_subjects, interval_over_subjects
from perdure.evaluation.kappa_interval import accuracy_interval, kappa_interval
from perdure.evaluation.matrix import Loss, SubjectScores, TrainTestMatrix, train_test_matrix
from perdure.evaluation.prediction import Predictor
from perdure.evaluation.prediction_files import Predicted, predict_files
from perdure.evaluation.prediction_layout import Output
from perdure.evaluation.rows import DISTANCES, METRICS, SCHEMA, classification_rows, domain_rows, segmentation_rows
from perdure.evaluation.scores import Header, ScoredRelease, Scores, mean_scores, one_sided, union
from perdure.evaluation.significance import PairedTest, grade_error_test, holm, paired_test
from perdure.evaluation.spread import Spread, spread_over_seeds
from perdure.evaluation.summary import LITERATURE, MEASURES, Definition, Measure, Summary, summary
from perdure.evaluation.surface import SurfaceDistances, surface_distances
from perdure.evaluation.views import ViewAggregation

__all__ = [
    "DISTANCES",
    "LITERATURE",
    "MEASURES",
    "METRICS",
    "SCHEMA",
    "Definition",
    "Header",
    "Interval",
    "Loss",
    "Measure",
    "Output",
    "PairedTest",
    "Predicted",
    "Predictor",
    "ScoredRelease",
    "Scores",
    "Spread",
    "SubjectScores",
    "Summary",
    "SurfaceDistances",
    "TrainTestMatrix",
    "ViewAggregation",
    "accuracy",
    "accuracy_interval",
    "auc",
    "classification_rows",
    "classification_scores",
    "confusion",
    "dice",
    "difference_over_subjects",
    "domain_rows",
    "evaluate",
    "grade_error_test",
    "holm",
    "interval_over_subjects",
    "kappa",
    "kappa_interval",
    "linear_kappa",
    "mean_scores",
    "one_sided",
    "paired_test",
    "predict_files",
    "segmentation_rows",
    "spread_over_seeds",
    "summary",
    "surface_distances",
    "train_test_matrix",
    "union",
]
