"""What the doctor says, in words, tables and JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from perdure.evidence.text import metric_title, number

if TYPE_CHECKING:
    from rich.console import RenderableType

    from perdure.evaluation.diagnosis import Diagnosis
    from perdure.evaluation.examination import Forgetting

SHOWN = 10
"""Layers in a table; `--json` has all of them."""


def diagnosis_record(diagnosis: Diagnosis) -> dict[str, Any]:
    """All of it as plain JSON values."""
    run = diagnosis.run
    epochs = [
        {**asdict(epoch), **share.model_dump(exclude={"step_share"})}
        for epoch, share in zip(run.epochs, diagnosis.shares, strict=True)
    ]
    record: dict[str, Any] = _plain(
        {
            "run": str(run.path),
            "parent": run.parent,
            "method": run.identity.get("method"),
            "measure": diagnosis.measure,
            "epochs": epochs,
            "movement": [one.model_dump() for one in diagnosis.movement],
            "drift": [one.model_dump() for one in diagnosis.drift],
            "forgetting": [{**one.model_dump(), **_parts(one)} for one in diagnosis.forgetting],
            "control": None if diagnosis.control is None else diagnosis.control.model_dump(),
            "findings": [one.model_dump() for one in diagnosis.findings],
            "not_computed": dict(diagnosis.not_computed),
        }
    )
    return record


def diagnosis_renderables(diagnosis: Diagnosis) -> list[RenderableType]:
    """What was found first, then what it rests on."""
    method = (diagnosis.run.identity.get("method") or {}).get("name", "?")
    shown: list[RenderableType] = [Text(f"{diagnosis.run.path.name}, method {method}\n"), _findings(diagnosis), ""]
    if diagnosis.run.epochs:
        shown.append(_epochs(diagnosis))
    if diagnosis.movement:
        shown.append(_movement(diagnosis))
    if diagnosis.drift:
        shown.append(_drift(diagnosis))
    if diagnosis.forgetting:
        shown.append(_forgetting(diagnosis))
    return [*shown, *(Text(f"Not computed: {what}; {why}") for what, why in diagnosis.not_computed.items())]


def _findings(diagnosis: Diagnosis) -> Text:
    if not diagnosis.findings:
        return Text("Nothing was found.")
    text = Text()
    for one in diagnosis.findings:
        text.append(f"{one.kind}: {one.rule}\n", style="bold red" if one.kind == "problem" else "bold")
        text.append(f"  {one.sentence}\n  What to do: {one.advice}\n")
    text.right_crop(1)
    return text


def _epochs(diagnosis: Diagnosis) -> Table:
    table = _table("The restraint's share of each epoch")
    for name in ("epoch", "rate", "loss", "validation", "in the loss", "in the gradient", "step taken"):
        table.add_column(name, justify="right")
    for epoch, share in zip(diagnosis.run.epochs, diagnosis.shares, strict=True):
        shares = (share.in_loss, share.in_gradient, share.step_share)
        table.add_row(
            str(epoch.epoch), f"{epoch.learning_rate:.3g}", number(epoch.loss), number(epoch.validation_loss),
            *(_percent(one) for one in shares),
        )  # fmt: skip
    return table


def _movement(diagnosis: Diagnosis) -> Table:
    table = _table(f"Layers that moved furthest, of {len(diagnosis.movement)}; Ω: {diagnosis.measure or 'not known'}")
    for name in ("layer", "parameters", "mean Ω", "Σ Ω (θ - θ*)²", "|θ - θ*| / |θ*|"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    furthest = sorted(diagnosis.movement, key=lambda one: (one.in_importance or 0.0, one.distance), reverse=True)
    for one in furthest[:SHOWN]:
        in_importance = "–" if one.in_importance is None else f"{one.in_importance:.3g}"
        cells = (number(one.importance), in_importance, _percent(one.relative))
        table.add_row(Text(one.layer), str(one.parameters), *cells)
    return table


def _drift(diagnosis: Diagnosis) -> Table:
    table = _table(f"Batch norms that drifted furthest, of {len(diagnosis.drift)}")
    for name in ("layer", "|μ - μ0| / σ0", "|ln σ²/σ0²|", "μ, from original", "σ², from original"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    furthest = sorted(diagnosis.drift, key=lambda one: max(one.shift, one.log_variance_ratio), reverse=True)
    for one in furthest[:SHOWN]:
        original = (one.shift_from_original, one.log_variance_ratio_from_original)
        table.add_row(Text(one.layer), *map(number, (one.shift, one.log_variance_ratio, *original)))
    return table


def _forgetting(diagnosis: Diagnosis) -> Table:
    metric = metric_title(diagnosis.forgetting[0].metric)
    table = _table(f"What earlier domains lost, in {metric}")
    for name in ("domain", "parent", "candidate", "with old statistics", "lost", "in weights", "in statistics"):
        table.add_column(name, justify="left" if name == "domain" else "right")
    for one in diagnosis.forgetting:
        scores = map(number, (one.parent, one.candidate, one.with_parent_statistics))
        table.add_row(Text(one.domain), *scores, *(number(part, signed=True) for part in _parts(one).values()))
    return table


def _parts(one: Forgetting) -> dict[str, float | None]:
    return {"total": one.total, "in_weights": one.in_weights, "in_statistics": one.in_statistics}


def _table(title: str) -> Table:
    return Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return f"{share:.1%}" if share == 0 or share >= 0.0995 else f"{share:.2g}"


def _plain(value: Any) -> Any:
    """The same without numbers that JSON does not have, as a diverged run leaves them: they become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
