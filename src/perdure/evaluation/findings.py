"""What is wrong with an update, or worth knowing: all rules, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable

from perdure.evaluation.examined import Examined, Finding, Told
from perdure.evaluation.restraint_rules import (
    binary_importance,
    dead_penalty,
    dominating_penalty,
    found_strength,
    frozen_budget,
    rate_explains_effect,
    uniform_importance,
)
from perdure.evaluation.training_rules import (
    drifted_statistics,
    early_best_epoch,
    forgotten,
    no_batch_norm,
    too_few_epochs,
    unfinished_run,
    unstable_loss,
)

RULES: dict[str, Callable[[Examined], Told | None]] = {
    rule.__name__.replace("_", "-"): rule
    for rule in (
        unfinished_run, forgotten, unstable_loss, dead_penalty, dominating_penalty, found_strength,
        rate_explains_effect, uniform_importance, binary_importance, drifted_statistics, no_batch_norm, too_few_epochs,
        early_best_epoch, frozen_budget,
    )
}  # fmt: skip
"""By the name under which docs/doctor.md explains each."""


def findings(examined: Examined) -> tuple[Finding, ...]:
    """What the rules have to say; problems first."""
    told = {name: rule(examined) for name, rule in RULES.items()}
    found = [Finding(rule=name, **one._asdict()) for name, one in told.items() if one is not None]
    return tuple(sorted(found, key=lambda one: one.kind == "note"))
