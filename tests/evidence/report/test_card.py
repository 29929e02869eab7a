"""A model card has the fields of the schema, the report's numbers, and asks for what only its owner knows."""

from __future__ import annotations

import json
from dataclasses import replace

from perdure.evidence.report import Collected, Workspace, collect
from perdure.evidence.report.card import TO_ADD, card_json, card_markdown
from report_world import World


def test_json_has_the_fields_of_the_schema(collected: Collected) -> None:
    card = json.loads(card_json(collected.report))
    assert set(card) == {
        "schema_version", "model_details", "model_parameters", "quantitative_analysis", "considerations",
    }  # fmt: skip
    assert set(card["model_details"]) == {
        "name", "overview", "documentation", "owners", "version", "licenses", "references", "citations",
    }  # fmt: skip
    assert set(card["model_parameters"]) == {"model_architecture", "data", "input_format", "output_format"}
    for one in card["quantitative_analysis"]["performance_metrics"]:
        assert set(one) == {"type", "value", "slice"}
        assert isinstance(one["value"], float)


def test_its_numbers_are_the_reports(collected: Collected) -> None:
    metrics = json.loads(card_json(collected.report))["quantitative_analysis"]["performance_metrics"]
    found = {(one["type"], one["slice"]): one["value"] for one in metrics}
    for one in collected.report.changes:
        assert found["dice", f"test, {one.domain}"] == one.after
        assert one.interval is not None
        assert found["dice change", f"test, {one.domain}"] == one.interval.estimate
        assert found["dice change, lower end of 95 %", f"test, {one.domain}"] == one.interval.low


def test_what_only_the_owner_knows_is_asked_for(collected: Collected) -> None:
    card = json.loads(card_json(collected.report))
    assert card["considerations"]["use_cases"] == [{"description": TO_ADD}]
    text = card_markdown(collected.report)
    assert f"## Intended use\n\n{TO_ADD}" in text
    for heading in ("Model details", "Factors", "Metrics", "Evaluation data", "Training data", "Quantitative analyses",
                    "Ethical considerations", "Caveats and recommendations"):  # fmt: skip
        assert f"## {heading}" in text


def test_groups_of_the_scores_are_never_said_not_to_be_recorded(world: World) -> None:
    workspace = Workspace.open(world.workspace)
    assert workspace.scores is not None
    header = workspace.scores.header
    assert "age, sex and disease: not recorded" in card_markdown(collect(workspace, release="fine").report)
    groups = {"sex": {header.domains[0]: {str(workspace.scores.table["subject"][0]): "f"}}}
    grouped = replace(workspace.scores, header=header.model_copy(update={"groups": groups}))
    text = card_markdown(collect(replace(workspace, scores=grouped), release="fine").report)
    assert "Recorded of subjects: sex" in text
    assert "not recorded." not in text.split("## Factors")[1].split("##")[0]
