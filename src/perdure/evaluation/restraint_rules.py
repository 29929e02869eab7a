"""Is the restraint alive, does it choose, does it leave room? Each rule is explained in docs/doctor.md."""

from __future__ import annotations

import math
from statistics import median

from perdure.evaluation.examination import relative_movement
from perdure.evaluation.examined import Examined, Told, given
from perdure.regularization import frozen_said, strength_said, updates_left

DEAD_SHARE = 1e-3
DOMINATING_SHARE = 0.9
LEAST_STEP_SHARE = 0.01
UNIFORM_VARIATION = 0.1
BINARY_SHARE = 0.95
EQUALLY_LOST = 0.005
"""Forgetting within which two updates did equally well, in units of the score."""


def dead_penalty(examined: Examined) -> Told | None:
    """The restraint has next to no share in any epoch."""
    shares = [share.in_gradient for share in examined.shares if share.in_gradient is not None]
    costs = [share.in_loss for share in examined.shares if share.in_loss is not None]
    moved = relative_movement(examined.movement)
    if not examined.is_restrained or not shares or moved == 0:
        return None
    if max(shares) >= DEAD_SHARE or max(costs, default=0.0) >= DEAD_SHARE:
        return None
    strength = examined.form.get("strength")
    if strength is None:
        cure = "Nothing carries importance here: look at how it was measured and scaled (perdure inspect RELEASE)."
    elif strength == "auto":
        cure = (
            f"The loss that is allowed ({examined.form.get('allowed')}) was never reached; allow less to forget less."
        )
    else:
        cure = (
            f"Raise the strength (now {strength:g}) by factors of 10 until the share in the gradient is some percent."
        )
    return Told(
        "note" if strength == "auto" else "problem",
        f"The restraint is dead: its share of the gradient is at most {max(shares):.2g} in every epoch, while the "
        f"weights moved{'' if moved is None else f' by {moved:.2%} of their length'}. This is fine-tuning.",
        cure,
        given(largest_share_in_gradient=max(shares), largest_share_in_loss=max(costs, default=None), moved=moved),
    )


def dominating_penalty(examined: Examined) -> Told | None:
    """The restraint leaves next to nothing of the training."""
    shares = [share.in_gradient for share in examined.shares if share.in_gradient is not None]
    steps = [share.step_share for share in examined.shares if share.step_share is not None]
    in_gradient, step = median(shares) if shares else None, median(steps) if steps else None
    if not examined.is_restrained:
        return None
    if (in_gradient or 0.0) <= DOMINATING_SHARE and (step is None or step >= LEAST_STEP_SHARE):
        return None
    told = (
        f"only {step:.2%} of the step is taken"
        if step is not None and step < LEAST_STEP_SHARE
        else f"it is {in_gradient or 0.0:.1%} of the gradient"
    )
    return Told(
        "problem",
        f"The restraint rules: in the middle epoch {told}, so the new domain is hardly learnt.",
        "Lower the strength by factors of 10 (or allow more loss, or freeze a smaller fraction); a higher learning "
        "rate does not help.",
        given(median_share_in_gradient=in_gradient, median_step_share=step),
    )


def found_strength(examined: Examined) -> Told | None:
    """Which strength `auto` came to."""
    if not examined.report.get("shortened_steps"):
        return None
    return Told(
        "note",
        f"The strength was found: {strength_said(examined.report)}.",
        "Nothing to mend. Allow less loss to forget less, or more to learn more.",
        given(**examined.report),
    )


def rate_explains_effect(examined: Examined) -> Told | None:
    """What scales steps also lowers their mean: a lower learning rate may do as much."""
    form = examined.form
    if form["form"] != "learning-rate" or not examined.weights:
        return None
    multiplier, power = float(form.get("multiplier", 1.0)), float(form.get("power", 1.0))
    rate = examined.mean(lambda omega: multiplier * (1 - omega.clamp(0, 1)) ** power)
    steps = [share.step_share for share in examined.shares if share.step_share is not None]
    step = median(steps) if steps else None
    if (control := examined.control) is None:
        if rate > 0.9:
            return None
        return Told(
            "note",
            f"Importance leaves {rate:.0%} of the learning rate on the mean"
            f"{'' if step is None else f' and {step:.0%} of the length of a step'}. Whether it does more than a lower "
            "rate would is not known.",
            "Update the same parent with --method finetune-lr-matched, and give that release here with --control.",
            given(mean_rate=rate, median_step_share=step),
        )
    numbers = {
        **given(mean_rate=rate, median_step_share=step),
        **{k: v for k, v in control.model_dump().items() if isinstance(v, float)},
    }
    if control.lost is not None and control.control_lost is not None:
        if control.control_lost > control.lost + EQUALLY_LOST:
            return None
        why = f"it lost {control.control_lost:.3f} of earlier domains, this one {control.lost:.3f}"
    else:
        mine, theirs = control.selectivity, control.control_selectivity
        if mine is None or theirs is None or mine < 0.9 * theirs:
            return None
        why = f"the mean importance of what moved is {theirs:.3f} there and {mine:.3f} here"
    return Told(
        "problem",
        f"A lower learning rate explains the whole effect: {control.name}, with one rate for all, did as well ({why}).",
        "Use finetune-lr-matched or a lower --learning-rate; or an importance that tells parameters apart.",
        numbers,
    )


def uniform_importance(examined: Examined) -> Told | None:
    """All parameters are about equally important."""
    if not examined.weights or not examined.importance or examined.importance.get("measure") == "uniform":
        return None
    mean = examined.mean(lambda omega: omega)
    if mean <= 0:
        return None
    variation = math.sqrt(max(0.0, examined.mean(lambda omega: (omega - mean).square()))) / mean
    if variation >= UNIFORM_VARIATION:
        return None
    return Told(
        "problem",
        f"Importance is almost the same everywhere (mean {mean:.3g}, coefficient of variation {variation:.2g}): it "
        "protects as a pull by L2, or a lower learning rate, would.",
        "Measure on more samples, at a finer granularity, or with another measure; or save the effort and use l2-sp.",
        {"mean": mean, "coefficient_of_variation": variation},
    )


def binary_importance(examined: Examined) -> Told | None:
    """Importance in [0, 1] is next to nothing or next to one almost everywhere."""
    scaling = examined.importance.get("scaling") or {}
    if not examined.weights or scaling.get("range") != "unit" or examined.importance.get("measure") == "uniform":
        return None
    zero, one = examined.mean(lambda omega: omega <= 0.01), examined.mean(lambda omega: omega >= 0.99)
    if zero + one <= BINARY_SHARE:
        return None
    return Told(
        "problem",
        f"Importance is almost all zero or one ({zero:.0%} and {one:.0%} of parameters): most are free or held fast, "
        "and little is graded.",
        "Look at the clipping of outliers (keep the interquartile range of the default), or freeze with mas-fix, which "
        "says its share.",
        {"share_of_zero": zero, "share_of_one": one},
    )


def frozen_budget(examined: Examined) -> Told | None:
    """How much of the network is still free to learn."""
    if examined.form["form"] != "freezing" or examined.frozen_share is None:
        return None
    share, fraction = examined.frozen_share, float(examined.form["fraction"])
    if examined.form.get("of", "all") == "free":
        after = 1 - (1 - share) * (1 - fraction)
        return Told(
            "note",
            f"{frozen_said(share, examined.form)}.",
            "Nothing to mend: a share of what is free is frozen each time.",
            {"frozen_share": share, "after_one_more": after},
        )
    left = updates_left(share, fraction)
    return Told(
        "note" if left > 1 else "problem",
        f"{frozen_said(share, examined.form)}.",
        "Freeze less each time (a lower fraction)." if left <= 1 else "Nothing to mend yet.",
        {"frozen_share": share, "updates_left": float(left)},
    )
