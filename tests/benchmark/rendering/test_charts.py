from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import hypothesis.strategies as st
import pytest
from hypothesis import given

from perdure.benchmark.comparison import against
from perdure.benchmark.outcomes import SequenceOutcome, outcomes
from perdure.benchmark.rendering.charts import differences_chart, matrices_chart, strengths_chart, trade_off_chart
from perdure.benchmark.rendering.labels import Box, places
from perdure.benchmark.rendering.strengths import series_of
from records import choice, classification_rows, record, row, segmentation_rows

DOMAINS = ("a", "b")
CHARTS: dict[str, Callable[[SequenceOutcome], str]] = {
    "trade-off": trade_off_chart,
    "matrices": matrices_chart,
    "differences": lambda outcome: differences_chart(outcome, against(outcome, "finetune"), "finetune"),
    "strengths": lambda outcome: strengths_chart(outcome, series_of(outcome)),
}


@pytest.fixture(scope="module")
def outcome() -> SequenceOutcome:
    labels = {"finetune": 0.3, "no-update": 0.0, "joint": 0.0, "mas & <co>": 0.1}
    parts = [
        segmentation_rows(label, seed, [[0.8, 0.3], [0.8 - loss, 0.4 + loss]], DOMAINS)
        for label, loss in labels.items()
        for seed in (0, 1)
    ]
    rows = [row(label, label.split()[0], role="control" if label == "finetune" else "method") for label in labels]
    rows.append(row("broken", "mas"))
    failed = [("forward", "broken", seed, "failed", "") for seed in (0, 1)]
    choices = [choice("mas & <co>", {0: (0.5, 0.7), 1: (0.6, 0.6), 1e5: (0.8, 0.3)}, 1)]
    return outcomes(record(rows, parts, {"forward": DOMAINS}, failed=failed, choices=choices))[0]


@pytest.mark.parametrize("kind", CHARTS)
def test_a_chart_is_xml_and_the_same_to_the_byte(kind: str, outcome: SequenceOutcome) -> None:
    first, second = CHARTS[kind](outcome), CHARTS[kind](outcome)
    assert first == second
    assert ET.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own
    assert "<dc:date>" not in first


def test_charts_with_rows_that_are_told_the_domain_or_need_old_data_say_what_their_signs_mean() -> None:
    rows = [row("finetune"), row("default", "dsbn"), row("joint")]
    parts = [segmentation_rows(one.label, 0, [[0.8, 0.3], [0.7, 0.6]], DOMAINS) for one in rows]
    choices = [choice(label, {0: (0.5, 0.7), 1: (0.6, 0.6)}, 1) for label in ("default", "joint")]
    marked = outcomes(record(rows, parts, {"forward": DOMAINS}, seeds=(0,), choices=choices))[0]
    for kind in CHARTS:
        # text is drawn as outlines, with what it says in a comment
        said = re.findall("<!-- (.+?) -->", CHARTS[kind](marked))
        assert any(one.startswith("default†") for one in said)
        assert any(one.startswith("joint‡") for one in said)
        assert any("† told which domain an image is from" in one for one in said)
        assert any("‡ needs old data" in one for one in said)


def test_a_chart_can_be_made_of_a_grid_in_which_everything_failed() -> None:
    failed = [("forward", "mas", seed, "failed", "") for seed in (0, 1)]
    empty = outcomes(record([row("mas")], [], {"forward": DOMAINS}, failed=failed))[0]
    assert trade_off_chart(empty).startswith("<?xml")
    assert matrices_chart(empty).startswith("<?xml")


def test_rows_that_differ_in_strength_alone_make_one_series_in_rising_order() -> None:
    truth = {domain: [0, 0, 1, 1] for domain in DOMAINS}
    right, wrong = truth["a"], [0, 1, 1, 0]
    rows = [
        row("ewc 10", "ewc", set={"strength": 10.0}),
        row("ewc 1", "ewc", set={"strength": 1}),
        row("ewc 1, other", "ewc", set={"strength": 1, "batch_norm": "original"}),
        row("finetune"),
    ]
    parts = [
        classification_rows(
            one.label,
            0,
            {(0, "a"): right, (0, "b"): wrong, (1, "a"): right if "10" in one.label else wrong, (1, "b"): right},
            truth,
        )
        for one in rows
    ]
    found = record(rows, parts, {"forward": DOMAINS}, seeds=(0,), task="classification")
    (series,) = series_of(outcomes(found)[0])
    assert series.strengths == (1, 10)
    assert (series.old, series.new, series.before) == ((0, 1), (1, 1), (1, 0))
    assert (series.name, series.split) == ("ewc", "test")


def test_candidates_of_a_search_make_a_series_on_validation_cases(outcome: SequenceOutcome) -> None:
    (series,) = series_of(outcome)
    assert (series.strengths, series.old, series.new) == ((0, 1, 1e5), (0.5, 0.6, 0.8), (0.7, 0.6, 0.3))
    assert (series.before, series.split) == ((0.8, 0.3), "val")


def test_a_series_of_rows_that_are_told_the_domain_is_marked() -> None:
    rows = [row(f"dsbn {strength}", "dsbn", set={"strength": strength}) for strength in (1, 10)]
    parts = [segmentation_rows(one.label, 0, [[0.8, 0.3], [0.7, 0.6]], DOMAINS) for one in rows]
    (series,) = series_of(outcomes(record(rows, parts, {"forward": DOMAINS}, seeds=(0,)))[0])
    assert (series.name, series.rows) == ("dsbn†", ("dsbn 1", "dsbn 10"))


@given(st.lists(st.tuples(st.floats(0, 600), st.floats(0, 400)), min_size=1, max_size=20))
def test_names_of_points_neither_overlap_nor_cover_a_point(points: list[tuple[float, float]]) -> None:
    found = places(points, [(60.0, 12.0)] * len(points), Box(-100, -100, 700, 500))
    for place, one in enumerate(found):
        assert not any(one.box.overlaps(other.box) for other in found[:place])
        assert not any(one.box.left < x < one.box.right and one.box.bottom < y < one.box.top for x, y in points)
