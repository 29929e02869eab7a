"""What is this model, for whom, and how well does it do? A model card of the candidate, as Markdown and JSON.

The JSON has the fields of the schema of TensorFlow's Model Card Toolkit, version 0.0.2; the Markdown has the sections
of Mitchell et al. 2019, "Model Cards for Model Reporting". What only its owner can know is asked for, never made up.
"""

from __future__ import annotations

import json
from typing import Any

from perdure.evidence.report.content import Change, Report
from perdure.evidence.report.record import not_accessed
from perdure.evidence.report.words import interval_said
from perdure.evidence.text import metric_title, number

TO_ADD = "To be added by the owner of the model."
SCHEMA = "0.0.2"


def card_json(report: Report) -> str:
    """The card for machines."""
    return json.dumps(card_record(report), indent=2, allow_nan=False) + "\n"


def card_record(report: Report) -> dict[str, Any]:
    """The card as plain JSON values."""
    identity = report.candidate.identity or {}
    return {
        "schema_version": SCHEMA,
        "model_details": {
            "name": report.candidate.name,
            "overview": _overview(report),
            "documentation": f"{_method(report)} {not_accessed(report.candidate)}",
            "owners": [{"name": TO_ADD, "contact": TO_ADD}],
            "version": {
                "name": report.candidate.id,
                "date": (report.candidate.created or "")[:10],
                "diff": _difference(report),
            },
            "licenses": [{"custom_text": TO_ADD}],
            "references": [],
            "citations": [],
        },
        "model_parameters": {
            "model_architecture": _architecture(identity),
            "data": [_dataset(seen) for seen in identity.get("domains", [])],
            "input_format": _input(identity),
            "output_format": _output(identity),
        },
        "quantitative_analysis": {
            "performance_metrics": _metrics(report),
            "graphics": {"description": "The report that this card was made with has the figures.", "collection": []},
        },
        "considerations": {
            "users": [{"description": TO_ADD}],
            "use_cases": [{"description": TO_ADD}],
            "limitations": [{"description": one} for one in report.limits],
            "tradeoffs": [{"description": one} for one in _tradeoffs(report)],
            "ethical_considerations": [
                {"name": "Patients of earlier domains lose", "mitigation_strategy": _verdict(report)},
                {
                    "name": "Traces of patients in the release",
                    "mitigation_strategy": "`perdure audit` looks for them; see its limits.",
                },
            ],
        },
    }


def card_markdown(report: Report) -> str:
    """The card for people."""
    record = card_record(report)
    details, parameters = record["model_details"], record["model_parameters"]
    considerations = record["considerations"]
    rows = [
        f"| {_plain(one['slice'])} | {one['type']} | {number(one['value'])} |"
        for one in record["quantitative_analysis"]["performance_metrics"]
    ]
    table = (
        "\n".join(["| data | measure | value |", "| --- | --- | --- |", *rows])
        if rows
        else f"None: {_plain(report.missing.get('domains', ''))}"
    )
    parts = [
        f"# Model card: {_plain(details['name'])}",
        "## Model details",
        _list(
            [
                details["overview"],
                f"Id {details['version']['name']}, {details['version']['date']}",
                details["version"]["diff"],
                details["documentation"],
                f"Network: {parameters['model_architecture']}",
                f"Owner, contact and licence: {TO_ADD}",
            ]
        ),
        "## Intended use",
        TO_ADD,
        "## Factors",
        _list([f"Domain: {one['name']}" for one in parameters["data"]] + [_factors(report)]),
        "## Metrics",
        f"{metric_title(report.metric)}; intervals of 95 % over subjects. Verdict: {_plain(_verdict(report))}",
        "## Evaluation data",
        f"The {report.split} split of the domains below." if report.split else "None.",
        "## Training data",
        _list([f"{one['name']}: {one['description']}" for one in parameters["data"]]),
        "## Quantitative analyses",
        table,
        "## Ethical considerations",
        _list([f"{one['name']}: {one['mitigation_strategy']}" for one in considerations["ethical_considerations"]]),
        "## Caveats and recommendations",
        _list([one["description"] for one in considerations["limitations"]]),
    ]
    return "\n\n".join(parts) + "\n"


def _factors(report: Report) -> str:
    if report.groups:
        return f"Recorded of subjects: {', '.join(report.groups)}; this card does not break scores down by them."
    return "Others, such as age, sex and disease: not recorded."


def _overview(report: Report) -> str:
    one = report.candidate
    return f"{report.task.capitalize()} model, release {one.name}, domain {one.domain} learnt last."


def _method(report: Report) -> str:
    method = (report.candidate.identity or {}).get("method", {})
    return f"Made by {report.candidate.method}{': ' + method['summary'] if method.get('summary') else ''}."


def _difference(report: Report) -> str:
    one = report.candidate
    if one.parent is None:
        return "The first release of its line."
    before = report.parent.name if report.parent else one.parent[:12]
    said = "; ".join(
        f"{change.domain} {interval_said(change.interval)}" for change in report.changes if change.interval
    )
    return f"Updated from {before} ({one.parent}) to domain {one.domain}. Changes: {said or 'not scored'}."


def _architecture(identity: dict[str, Any]) -> str:
    network = identity.get("network", {})
    arguments = ", ".join(f"{key}={value}" for key, value in network.get("arguments", {}).items())
    return f"{network.get('factory')}({arguments})"


def _dataset(seen: dict[str, Any]) -> dict[str, Any]:
    counts = seen["counts"]
    said = "; ".join(
        f"{split}: {counts['subjects'].get(split, 0)} subjects, {counts['cases'].get(split, 0)} cases"
        for split in ("train", "val", "test")
    )
    return {
        "name": seen["domain"],
        "description": f"{said}; SHA-256 {seen['data']}",
        "sensitive": {"sensitive_data": ["Images of patients; none is in the release."]},
    }


def _input(identity: dict[str, Any]) -> str:
    contract = identity.get("contract", {})
    grid = " x ".join(map(str, contract.get("size", [])))
    said = [
        f"{contract.get('modality') or 'modality not recorded'}",
        f"{grid} pixels",
        f"{contract.get('channels')} channels",
    ]
    if contract.get("orientation"):
        said.append(f"{contract['orientation']}, {' x '.join(f'{s:g}' for s in contract['spacing'])} mm")
    said.append(f"intensity {contract.get('intensity', {}).get('scaling')}")
    return ", ".join(said)


def _output(identity: dict[str, Any]) -> str:
    contract = identity.get("contract", {})
    return f"{contract.get('task')}: {', '.join(one['name'] for one in contract.get('structures', []))}"


def _metrics(report: Report) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for one in (*report.changes, *report.structures):
        place = one.domain if one.structure is None else f"{one.domain}, {one.structure}"
        if one.after is not None:
            found.append({"type": report.metric, "value": one.after, "slice": f"{report.split}, {place}"})
        found += _change_metrics(report, one, place)
    return found


def _change_metrics(report: Report, one: Change, place: str) -> list[dict[str, Any]]:
    """The schema has no field for an interval, so that its ends are measures of their own."""
    interval = one.interval
    if interval is None or interval.estimate is None:
        return []
    ends = {
        "change": interval.estimate,
        "change, lower end of 95 %": interval.low,
        "change, upper end of 95 %": interval.high,
    }
    return [
        {"type": f"{report.metric} {name}", "value": value, "slice": f"{report.split}, {place}"}
        for name, value in ends.items()
        if value is not None
    ]


def _tradeoffs(report: Report) -> list[str]:
    return [
        f"{one.release}: worst earlier domain {number(one.worst, signed=True)} ({one.worst_domain}), new domain "
        f"{number(one.gain, signed=True)}"
        for one in report.candidates
    ]


def _verdict(report: Report) -> str:
    if report.verdict is None:
        return f"none; {report.missing['verdict']}"
    return " ".join((f"{report.verdict.verdict} by the plan {report.verdict.plan.name}.", *report.verdict_notes))


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {_plain(line)}" for line in lines if line)


def _plain(text: str) -> str:
    """Text from files, so that it cannot become markup of a page that shows the Markdown."""
    for sign in "\\`*_[]|#":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
