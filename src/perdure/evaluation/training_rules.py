"""Did training go well, and what became of the statistics? Each rule is explained in docs/doctor.md."""

from __future__ import annotations

import math

from perdure.evaluation.examined import Examined, Told, given
from perdure.models.batch_norm import HOLDING

DRIFT = 0.1
LOST = 0.01
"""Forgetting that is worth a word, in units of the score."""


def unfinished_run(examined: Examined) -> Told | None:
    """There is no release yet."""
    if examined.is_finished:
        return None
    done, wanted = len(examined.epochs), examined.recipe.get("epochs")
    return Told(
        "problem",
        f"The run has no release: {done} of at most {wanted} epochs are done. It stopped, diverged, or is going on.",
        "Run the same command again; it goes on. Where it stopped with an error, that says what helps.",
        given(epochs=float(done), wanted=None if wanted is None else float(wanted)),
    )


def unstable_loss(examined: Examined) -> Told | None:
    """The training loss rose far above what it had reached, or ended above its start."""
    losses = [epoch.loss for epoch in examined.epochs]
    if len(losses) < 2:
        return None
    rises = [(loss - min(losses[:k]), k) for k, loss in enumerate(losses) if k]
    jump, place = max(rises)
    low = min(losses[:place])
    exploded = losses[place] > 2 * low and jump > 0.05 * losses[0]
    if not exploded and losses[-1] <= losses[0]:
        return None
    return Told(
        "problem",
        f"The training loss is unstable: it had come to {low:.4g} and was {losses[place]:.4g} in epoch "
        f"{examined.epochs[place].epoch} (first {losses[0]:.4g}, last {losses[-1]:.4g}).",
        "Lower the learning rate (--learning-rate), clip gradients (--clip-norm 1), and let a penalty take its "
        "proximal step.",
        {"lowest_before": low, "risen_to": losses[place], "first": losses[0], "last": losses[-1]},
    )


def too_few_epochs(examined: Examined) -> Told | None:
    """Training stopped while it still helped."""
    epochs = examined.epochs
    if not epochs or not examined.is_finished:
        return None
    validated = [epoch.validation_loss for epoch in epochs if epoch.validation_loss is not None]
    losses, what = (
        (validated, "validation") if len(validated) == len(epochs) else ([e.loss for e in epochs], "training")
    )
    least = 0.01 if what == "validation" else 0.05
    is_falling = len(losses) > 1 and losses[-1] == min(losses) and losses[-2] - losses[-1] > least * abs(losses[-2])
    if len(losses) > 2 and not is_falling:
        return None
    told = (
        f"the {what} loss still fell in the last one, from {losses[-2]:.4g} to {losses[-1]:.4g}" if is_falling else ""
    )
    return Told(
        "note",
        f"There may be too few epochs: {len(losses)} were run{', and ' + told if told else ''}.",
        "Raise --epochs, with --patience to stop in time; forgetting grows with training, so look at both.",
        {"epochs": float(len(losses)), "last": losses[-1], **({"before": losses[-2]} if len(losses) > 1 else {})},
    )


def early_best_epoch(examined: Examined) -> Told | None:
    """The best epoch came early, and training went on without use."""
    losses = [epoch.validation_loss for epoch in examined.epochs]
    known = [loss for loss in losses if loss is not None]
    if len(known) < 4 or len(known) != len(losses):
        return None
    best = known.index(min(known)) + 1
    if best > len(known) / 4 or known[-1] <= 1.05 * min(known):
        return None
    kept = "kept" if examined.recipe.get("patience") is not None else "not kept: the release is the last epoch"
    return Told(
        "problem",
        f"The best epoch came early: validation loss {min(known):.4g} in epoch {best} of {len(known)}, {known[-1]:.4g} "
        f"at the end. The best one was {kept}.",
        "Lower the learning rate, use --augment, and stop early (--patience 3).",
        {"best_epoch": float(best), "epochs": float(len(known)), "best": min(known), "last": known[-1]},
    )


def drifted_statistics(examined: Examined) -> Told | None:
    """Weights are protected, and the statistics that they work with are not."""
    policy = examined.method.get("batch_norm")
    if not examined.is_restrained or policy in HOLDING or policy == "per-domain" or not examined.drift:
        return None
    worst = max(examined.drift, key=lambda one: max(one.shift, one.log_variance_ratio))
    if max(worst.shift, worst.log_variance_ratio) < DRIFT:
        return None
    scored = [one.in_statistics for one in examined.forgetting if one.in_statistics is not None]
    return Told(
        "note" if scored and max(scored) <= LOST else "problem",
        f"Batch-norm statistics drifted although weights are protected: in {worst.layer} the mean by {worst.shift:.2f} "
        f"deviations, the variance by a factor of {math.exp(worst.log_variance_ratio):.2f}. Earlier domains are seen "
        "through the statistics of the new one.",
        f"On the earlier domains that were scored it took {max(scored):+.3f}; --batch-norm original keeps them."
        if scored
        else "Use --batch-norm original; --data says here how much of the forgetting that is.",
        {"shift": worst.shift, "log_variance_ratio": worst.log_variance_ratio},
    )


def no_batch_norm(examined: Examined) -> Told | None:
    """A batch-norm policy has nothing to act on."""
    policy = examined.method.get("batch_norm", "target")
    if examined.has_batch_norm is not False or policy == "target":
        return None
    return Told(
        "note",
        f"The network has no batch norm, so the policy {policy!r} did nothing: instance, group and layer norm keep no "
        "statistics of a domain.",
        "Nothing to mend; but do not expect of this update what the policy does elsewhere.",
        {},
    )


def forgotten(examined: Examined) -> Told | None:
    """An earlier domain lost, and where that sits."""
    lost = [(one.total, one) for one in examined.forgetting if one.total is not None]
    total, worst = max(lost, key=lambda pair: pair[0], default=(0.0, None))
    if worst is None or total <= LOST or worst.in_statistics is None or worst.in_weights is None:
        return None
    in_statistics = worst.in_statistics > worst.in_weights
    return Told(
        "problem",
        f"{worst.domain} lost {total:.3f} {worst.metric}: {worst.in_weights:+.3f} of it sits in the weights, "
        f"{worst.in_statistics:+.3f} in the batch-norm statistics.",
        "Most of it comes back with the old statistics: use --batch-norm original."
        if in_statistics
        else "Most of it is in the weights: raise the strength, lower the learning rate, or choose a stricter method.",
        {"lost": total, "in_weights": worst.in_weights, "in_statistics": worst.in_statistics},
    )
