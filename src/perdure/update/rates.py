"""Which learning rate of several: the one with which validation samples of the new domain lose least."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perdure.errors import DivergenceError
from perdure.update.run_folder import Epoch, RunFolder, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.update.loop import Training


@dataclass(frozen=True)
class Trial:
    """What came of one rate.

    Args:
        rate: the recipe's learning rate was multiplied by it.
        validation_loss: of the epoch that was kept; None where training diverged or there is no validation sample, and
            in a release also where the samples are those of few subjects.
    """

    rate: float
    validation_loss: float | None


def run_at_best_rate(training: Training, rates: Sequence[float]) -> tuple[Training, State, tuple[Trial, ...]]:
    """Trains at every rate from the same start, each in a folder of its own, and keeps the best.

    Of equal losses the earlier rate is kept; without validation samples the first is the only one that is tried.

    Args:
        training: not yet run; its model is left as it is.
        rates: the recipe's learning rate is multiplied by each; they differ.

    Returns:
        The training that was kept, after it ran; where it ended; and what came of every rate.

    Raises:
        DivergenceError: of the first rate, if training diverged at all of them.
    """
    if not training.domain.counts.samples.get("val"):
        rates = rates[:1]
    best: tuple[Training, State] | None = None
    trials: list[Trial] = []
    failures: list[DivergenceError] = []
    for rate in rates:
        trial = _at(training, rate)
        try:
            state = trial.run()
        except DivergenceError as error:
            failures.append(error)
            trials.append(Trial(rate, None))
            continue
        trials.append(Trial(rate, _kept_loss(state.history, trial.recipe.patience)))
        if best is None or _lowest(trials) == len(trials) - 1:
            best = trial, state
    if best is None:
        raise failures[0]
    kept, state = best
    if training.fabric.is_global_zero:
        training.folder.write_log(state.history)
    return kept, state, tuple(trials)


def _at(training: Training, rate: float) -> Training:
    name = f"rate-{rate:g}"
    recipe = training.recipe.model_copy(update={"learning_rate": training.recipe.learning_rate * rate})
    return replace(
        training,
        model=deepcopy(training.model),
        recipe=recipe,
        folder=RunFolder(training.folder.path / name, {"recipe": recipe.model_dump(mode="json")}),
        guard=type(training.guard)(),
        progress=lambda what, *figures: training.progress(f"rate x {rate:g}, {what}", *figures),
    )


def _kept_loss(history: Sequence[Epoch], patience: int | None) -> float | None:
    """The validation loss of the epoch whose weights are kept: the best where training stops early, else the last."""
    losses = [epoch.validation_loss for epoch in history if epoch.validation_loss is not None]
    if not losses:
        return None
    return min(losses) if patience is not None else losses[-1]


def _lowest(trials: Sequence[Trial]) -> int:
    losses = [math.inf if trial.validation_loss is None else trial.validation_loss for trial in trials]
    return losses.index(min(losses))
