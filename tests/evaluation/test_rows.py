from __future__ import annotations

import numpy as np
import polars as pl

from perdure.evaluation.rows import SCHEMA, classification_rows, domain_rows, segmentation_rows
from perdure.evaluation.surface import SurfaceDistances


def test_a_segmented_case_has_a_row_for_each_structure_and_null_where_there_is_no_score() -> None:
    rows = segmentation_rows("r", "d", "s", "c", ["background", "a", "b"], np.array([1.0, np.nan, 0.25]))
    assert dict(rows.schema) == SCHEMA
    assert rows["structure"].to_list() == ["background", "a", "b"]
    assert rows["value"].to_list() == [1.0, None, 0.25]
    assert rows.select("release", "domain", "subject", "case", "metric").unique().rows() == [
        ("r", "d", "s", "c", "dice")
    ]


def test_distances_of_a_segmented_case_follow_its_dice() -> None:
    distances = SurfaceDistances(hd95=np.array([np.nan, 2.5]), assd=np.array([np.nan, 0.5]))
    rows = segmentation_rows("r", "d", "s", "c", ["background", "a"], np.array([1.0, 0.25]), distances)
    assert dict(rows.schema) == SCHEMA
    assert rows.select("metric", "structure", "value").rows() == [
        ("dice", "background", 1.0),
        ("dice", "a", 0.25),
        ("hd95", "background", None),
        ("hd95", "a", 2.5),
        ("assd", "background", None),
        ("assd", "a", 0.5),
    ]


def test_a_classified_case_has_its_probabilities_and_both_classes() -> None:
    rows = classification_rows("r", "d", "s", "c", ["no", "yes"], np.array([0.25, 0.75], np.float32), truth=0)
    assert dict(rows.schema) == SCHEMA
    assert rows.select("metric", "structure", "value").rows() == [
        ("probability", "no", 0.25),
        ("probability", "yes", 0.75),
        ("prediction", None, 1.0),
        ("truth", None, 0.0),
    ]


def test_scores_of_a_domain_name_no_case() -> None:
    rows = domain_rows("r", "d", {"kappa": np.nan, "accuracy": 0.5})
    assert dict(rows.schema) == SCHEMA
    assert rows.select("metric", "value").rows() == [("kappa", None), ("accuracy", 0.5)]
    assert rows.select(pl.col("subject", "case", "structure").is_null().all()).row(0) == (True, True, True)
