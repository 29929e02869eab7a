"""Whether a grid can run: every method, recipe and domain of a benchmark file is made before the first cell begins."""

from __future__ import annotations

from collections.abc import Iterator

from perdure.benchmark.config import Entry, Settings
from perdure.benchmark.plan import Cell, Plan, candidates
from perdure.errors import ConfigurationError, PerdureError, Problem
from perdure.models import has_dropout
from perdure.update import check_old_data

METRICS = {"segmentation": ("dice",), "classification": ("kappa", "accuracy", "auc")}


def check_plan(plan: Plan) -> None:
    """Passes if nothing of a plan could only fail once the grid runs.

    Raises:
        ConfigurationError: with all that is wrong in the file.
        DataError: with all that is wrong in the data.
    """
    _ = plan.domains
    problems = [*_of_rows(plan), *_of_metric(plan), *_of_bases(plan)]
    if problems:
        raise ConfigurationError("\n".join(map(str, problems)))


def _of_rows(plan: Plan) -> Iterator[Problem]:
    for place, entry in enumerate(plan.config.methods):
        for settings in candidates(entry):
            for why in _wrong(plan, entry, settings):
                found = str(settings or dict(entry.set))
                yield Problem(str(plan.file), f"methods.{place} ({entry.name})", found, why)


def _wrong(plan: Plan, entry: Entry, settings: Settings) -> Iterator[str]:
    cell = Cell(kind="trial", sequence="", base=entry.base, seed=0, label=entry.name, settings=settings)
    try:
        change = plan.update(cell, "")
        check_old_data(change.method, change.method.data in ("cumulative", "replay"), entry.allow_patient_data)
    except PerdureError as error:
        yield str(error)
        return
    if change.retain is not None and not 0 <= change.retain <= 1:
        yield f"retain must be in [0, 1]; got {change.retain}"
    if change.method.needs_dropout and not has_dropout(plan.built(entry.base)):
        yield f"the method needs dropout, and the network of base {entry.base!r} has none; name a base with it"


def _of_metric(plan: Plan) -> Iterator[Problem]:
    possible = METRICS[plan.contract.task]
    if plan.metric not in possible:
        allowed = f"a {plan.contract.task} has {', '.join(possible)}"
        yield Problem(str(plan.file), "selection.metric", plan.metric, allowed)


def _of_bases(plan: Plan) -> Iterator[Problem]:
    for base in sorted({entry.base for entry in plan.config.methods}):
        try:
            plan.config.train_recipe(base, plan.contract, 0)
        except PerdureError as error:
            yield Problem(str(plan.file), f"train of base {base}", "settings", str(error))
