from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from perdure.evaluation import (
    Header,
    ScoredRelease,
    Scores,
    SurfaceDistances,
    domain_rows,
    segmentation_rows,
    train_test_matrix,
)
from perdure.evidence.scores_text import matrix_record, scores_record, scores_renderables, story_renderables

NAN = float("nan")
# releases x domains x subjects x structures; the second subject of d1 has no s2
DICE = [
    [[[0.9, 0.7], [0.8, NAN]], [[0.2, 0.4], [0.4, 0.4]]],
    [[[0.5, 0.7], [0.4, NAN]], [[0.8, 0.6], [0.6, 0.6]]],
]


def header(task: str, releases: int, domains: Sequence[str], structures: Sequence[str]) -> Header:
    line = [
        ScoredRelease(
            id=f"id{i}", name=f"[b]release {i}", domain=domains[min(i, 1)], parent=f"id{i - 1}" if i else None
        )
        for i in range(releases)
    ]
    return Header(
        task=task, split="test", releases=tuple(line), domains=tuple(domains), structures=tuple(structures),
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def dice_scores(values: object) -> Scores:
    """Of Dice `(releases, domains, subjects, structures)`, two cases a subject that agree."""
    values = np.asarray(values, float)
    head = header("segmentation", len(values), ["d1", "d2"], ["background", "s1", "s2"])
    rows = [
        segmentation_rows(
            f"id{i}", f"d{j + 1}", f"p{s}", f"p{s}-{case}", head.structures, np.array([0.99, *values[i, j, s]])
        )
        for i, j, s in np.ndindex(values.shape[:3])
        for case in range(2)
    ]
    return Scores(head, pl.concat(rows))


def kappa_scores(values: object) -> Scores:
    """Of kappa `(releases, domains)`; accuracy is .5 and AUC is missing."""
    values = np.asarray(values, float)
    rows = [
        domain_rows(f"id{i}", f"d{j + 1}", {"kappa": float(values[i, j]), "accuracy": 0.5, "auc": NAN})
        for i, j in np.ndindex(values.shape)
    ]
    return Scores(header("classification", len(values), ["d1", "d2"], ["no", "yes"]), pl.concat(rows))


def printed(scores: Scores) -> str:
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        for renderable in scores_renderables(scores):
            console.print(renderable)
    return capture.get()


def test_means_are_those_of_the_matrix_background_left_out() -> None:
    """d1 by release 0: s1 is .85, s2 .7 (of one subject), so .775 and not the mean of the three numbers (.8)."""
    scores = dice_scores(DICE)
    record = scores_record(scores)
    found = {(row["release"], row["domain"]): row["value"] for row in record["scores"]}
    assert found == {
        ("id0", "d1"): pytest.approx(0.775),
        ("id0", "d2"): pytest.approx(0.35),
        ("id1", "d1"): pytest.approx(0.575),
        ("id1", "d2"): pytest.approx(0.65),
    }
    mean = train_test_matrix(scores, "dice").mean
    np.testing.assert_allclose([found[f"id{i}", f"d{j + 1}"] for i in (0, 1) for j in (0, 1)], mean.ravel())


def test_the_record_is_json_with_names_matrix_and_measures() -> None:
    record = json.loads(json.dumps(scores_record(dice_scores(DICE)), allow_nan=False))
    assert record["split"] == "test"
    assert record["scores"][0] == {
        "release": "id0", "name": "[b]release 0", "domain": "d1", "metric": "dice", "value": pytest.approx(0.775)
    }  # fmt: skip
    matrix = record["matrices"]["[b]release 1"]
    assert matrix["domains"] == ["d1", "d2"]
    assert matrix["R"][1] == [pytest.approx(0.575), pytest.approx(0.65)]
    assert matrix["measures"]["worst_domain"]["loss"] == pytest.approx(0.2)
    assert record["no_matrix"] == {}


def test_what_could_not_be_scored_is_null_in_json() -> None:
    values = np.array(DICE)
    values[:, 1] = NAN
    record = json.loads(json.dumps(scores_record(dice_scores(values)), allow_nan=False))
    assert [row["value"] for row in record["scores"] if row["domain"] == "d2"] == [None, None]
    assert [line[1] for line in record["matrices"]["[b]release 1"]["R"]] == [None, None]
    assert matrix_record(train_test_matrix(dice_scores(values), "dice"))["R"][0][1] is None


def test_a_lineage_is_shown_as_matrix_sentences_and_measures() -> None:
    text = printed(dice_scores(DICE))
    assert "0.575 −0.200" in text
    assert "d1 lost 0.200 Dice: 0.775 right after it was learnt, 0.575 now; most in s1 (−0.400)." in text
    assert text.index("no update") < text.rindex("[b]release 1")
    assert "REM" in text


def test_a_single_release_is_shown_without_a_matrix_and_with_the_reason() -> None:
    scores = dice_scores(DICE[:1])
    text = printed(scores)
    assert "Dice on the test split" in text
    assert "0.775" in text
    assert "0.350" in text
    assert "No train-test matrix of [b]release 0: it has no parent" in text
    assert scores_record(scores)["matrices"] == {}
    assert list(scores_record(scores)["no_matrix"]) == ["[b]release 0"]


def test_an_update_whose_parent_was_not_scored_is_shown_without_a_matrix_and_with_the_reason() -> None:
    scores = dice_scores(DICE)
    rows = scores.table.filter(pl.col("release") == "id1")
    alone = Scores(scores.header.model_copy(update={"releases": scores.header.releases[1:]}), rows)
    text = printed(alone)
    assert "No train-test matrix of [b]release 1: " in text
    assert "was updated from 'id0', which was not scored" in " ".join(text.split())
    assert "0.650" in text


def test_two_methods_from_one_base_have_a_matrix_each_and_share_the_row_of_no_update() -> None:
    scores = dice_scores([*DICE, DICE[1]])
    base, first, second = scores.header.releases
    for name in ("release x", first.name):
        twin = second.model_copy(update={"parent": "id0", "domain": "d2", "name": name})
        both = Scores(scores.header.model_copy(update={"releases": (base, first, twin)}), scores.table)
        matrices = scores_record(both)["matrices"]
        assert [matrix["domains"] for matrix in matrices.values()] == [["d1", "d2"]] * 2
        assert printed(both).count("no update") == 1
    # the second time they had one name
    assert list(matrices) == ["[b]release 1 (id1)", "[b]release 1 (id2)"]


def test_classification_shows_kappa_accuracy_and_auc_and_the_matrix_of_kappa() -> None:
    scores = kappa_scores([[0.9, 0.1], [0.3, 0.8]])
    text = printed(scores)
    for title in ("kappa on the test split", "accuracy on the test split", "AUC on the test split"):
        assert title in text
    assert "0.300 −0.600" in text
    assert "d1 lost 0.600 kappa" in text
    record = json.loads(json.dumps(scores_record(scores), allow_nan=False))
    last = [row for row in record["scores"] if (row["release"], row["domain"]) == ("id1", "d1")]
    assert {row["metric"]: row["value"] for row in last} == {"kappa": 0.3, "accuracy": 0.5, "auc": None}
    assert record["matrices"]["[b]release 1"]["metric"] == "kappa"


def test_distances_are_shown_with_their_unit_after_all_else_and_those_that_have_none_are_counted() -> None:
    """Of release 0 on d1: s1 is 2 and 4 mm, s2 is missed by both subjects."""
    scores = dice_scores(np.array(DICE) * [[[[1, 0]]], [[[1, 1]]]])
    distances = [
        segmentation_rows(*place, scores.header.structures, np.zeros(3), SurfaceDistances(far, far / 2))
        for place, far in (
            (("id0", "d1", "p0", "p0-0"), np.array([NAN, 2, NAN])),
            (("id0", "d1", "p1", "p1-0"), np.array([NAN, 4, NAN])),
            (("id1", "d1", "p0", "p0-0"), np.array([NAN, 1, 3])),
        )
    ]
    rows = pl.concat(distances).filter(pl.col("metric") != "dice")
    header = scores.header.model_copy(update={"unit": "mm"})
    text = printed(Scores(header, pl.concat([scores.table, rows])))
    assert text.index("worst structure") < text.index("HD95 in mm on the test split") < text.index("ASSD in mm")
    assert "3.000 (1)" in text
    assert "1.500 (1)" in text
    assert "Smaller is better. In brackets: structures of cases" in text
    record = json.loads(json.dumps(scores_record(Scores(header, pl.concat([scores.table, rows]))), allow_nan=False))
    assert [row for row in record["scores"] if row["metric"] == "hd95"] == [
        {"release": "id0", "name": "[b]release 0", "domain": "d1", "metric": "hd95", "value": 3.0, "unit": "mm",
         "one_sided": 1},
        {"release": "id1", "name": "[b]release 1", "domain": "d1", "metric": "hd95", "value": 2.0, "unit": "mm",
         "one_sided": 0},
    ]  # fmt: skip
    assert set(record["matrices"]["[b]release 1"]["measures"]["domains"]) == {"d1", "d2"}
    assert "HD95" not in printed(scores)
    without = scores_record(scores)
    assert {row["metric"] for row in without["scores"]} == {"dice"}
    assert all(set(row) == {"release", "name", "domain", "metric", "value"} for row in without["scores"])


def test_several_methods_stand_one_after_the_other_and_share_one_table_of_measures() -> None:
    matrix = train_test_matrix(dice_scores(DICE), "dice")
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        for renderable in story_renderables({"finetune": matrix, "mas-lr": matrix}):
            console.print(renderable)
    text = capture.get()
    first, second = (text.index(f"{method}: Dice on each domain") for method in ("finetune", "mas-lr"))
    assert first < second < text.index("no update")
    assert text.count("no update") == 1
