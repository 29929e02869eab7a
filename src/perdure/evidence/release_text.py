"""A release as a person would want to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from perdure.methods import said
from perdure.regularization import frozen_said, strength_said

if TYPE_CHECKING:
    from rich.console import RenderableType

    from perdure.release import Identity


def identity_record(identity: Identity) -> dict[str, Any]:
    """A release's identity as plain JSON values."""
    return identity.model_dump(mode="json")


def identity_panel(identity: Identity, name: str) -> RenderableType:
    """What it is, what it expects, what it has learnt, where it comes from, what it remembers."""
    title = Text(f"Release {name}")
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
    facts.add_column(style="bold")
    facts.add_column()
    for label, text in _facts(identity):
        facts.add_row(label, Text(text))
    return Group(facts, "", _learnt(identity))


def _facts(identity: Identity) -> list[tuple[str, str]]:
    contract = identity.contract
    names = [structure.name for structure in contract.structures]
    arguments = ", ".join(f"{key}={value}" for key, value in identity.network.arguments.items())
    grid = f"{' x '.join(map(str, contract.size))} pixels, {contract.channels} channel(s)"
    if contract.is_volumetric and contract.spacing is not None:
        grid += f", {contract.orientation}, {' x '.join(f'{s:g}' for s in contract.spacing)} mm"
        grid += f", {contract.view} slices" if contract.view else ", whole volumes"
    intensity = contract.intensity
    scaling = [f"intensity {intensity.scaling}"]
    for name, values in (("window", intensity.window), ("mean", intensity.mean), ("std", intensity.std)):
        scaling += [] if values is None else [f"{name} {', '.join(f'{value:g}' for value in values)}"]
    facts = [
        ("id", identity.id[:16]),
        ("made", f"{identity.origin} {identity.created}"),
        ("network", f"{identity.network.factory}({arguments})"),
        ("task", f"{contract.task}, {len(names)} classes: {_shortened(names)}"),
        ("input", ", ".join([grid, *scaling])),
        ("method", _method(identity)),
        ("training", _training(identity)),
    ]
    for key, measure in identity.measures.items():
        facts.append(("importance", f"{key}, over {measure.domains} domain(s)"))
    if "mean_step_share" in identity.training:
        share, fixed = identity.training["mean_step_share"], identity.training["fixed_share"]
        facts.append(("restraint", f"mean of 1 - importance {share:.3f}; {fixed:.1%} of parameters were held fast"))
    form = identity.method.get("regularizer") or {}
    if form.get("form") == "freezing" and "frozen_share" in identity.training:
        facts.append(("frozen", frozen_said(identity.training["frozen_share"], form)))
    if rates := identity.training.get("rates"):
        facts.append(("rates tried", _rates(rates)))
    report = identity.training.get("report") or {}
    if None not in (report.get("steps"), report.get("shortened_steps")) and "strength" in report:
        facts.append(("strength", strength_said(report)))
    line = " -> ".join([*(f"{a.name} ({a.id[:8]})" for a in identity.lineage), "this one"])
    facts.append(("lineage", line))
    facts.append(("versions", ", ".join(f"{name} {version}" for name, version in identity.versions.items())))
    return facts


def _method(identity: Identity) -> str:
    method = identity.method
    if "regularizer" not in method:
        return said(method)
    granularity, batch_norm = (method.get(key) or "not recorded" for key in ("granularity", "batch_norm"))
    return f"{said(method)} (granularity {granularity}, batch norm {batch_norm})"


def _training(identity: Identity) -> str:
    epochs = identity.training.get("epochs")
    if not epochs:
        return "elsewhere"
    recipe, kept = identity.recipe, epochs[identity.training.get("kept_epoch", len(epochs)) - 1]
    if "kept_epoch" not in identity.training and recipe.get("patience") is not None:  # releases from before it was said
        scored = [epoch for epoch in epochs if epoch["validation_loss"] is not None]
        kept = min(scored, key=lambda epoch: float(epoch["validation_loss"]), default=kept)
    rate = recipe.get("learning_rate")
    how = f", {recipe.get('optimizer')} from {rate:g}, seed {recipe.get('seed')}" if rate is not None else ""
    text = f"{len(epochs)} epoch(s){how}; kept epoch {kept['epoch']} with loss {kept['loss']:.4f}"
    if kept["validation_loss"] is not None:
        text += f" (validation {kept['validation_loss']:.4f})"
    if asked := identity.training.get("asked_batch_size"):
        text += f"; batch size {recipe.get('batch_size')} for want of memory, asked for {asked}"
    return text


def _rates(trials: list[dict[str, float | None]]) -> str:
    losses = [(trial["rate"], trial["validation_loss"]) for trial in trials]
    if len(losses) > 1 and all(loss is None for _, loss in losses):
        return f"{', '.join(f'x {rate:g}' for rate, _ in losses)} (validation losses of so few subjects are not kept)"
    said = [f"x {rate:g}: {'diverged' if loss is None else f'{loss:.4f}'}" for rate, loss in losses]
    return f"{', '.join(said)} (validation loss)" if len(losses) > 1 else f"x {losses[0][0]:g}, without a choice"


def _learnt(identity: Identity) -> Table:
    table = Table("domain", "subjects train/val/test", "cases", "samples", "data", box=SIMPLE_HEAD)
    table.title, table.title_justify = "Learnt", "left"
    for seen in identity.domains:
        counts = seen.counts
        columns = ["/".join(str(part.get(s, 0)) for s in ("train", "val", "test"))
                   for part in (counts.subjects, counts.cases, counts.samples)]  # fmt: skip
        table.add_row(Text(seen.domain), *columns, seen.data[:16])
    return table


def _shortened(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:7])} and {len(names) - 7} more"
