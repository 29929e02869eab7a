"""Online EWC."""

from __future__ import annotations

from perdure.importance import Fisher
from perdure.importance.fisher import Labels
from perdure.methods.method import Method
from perdure.regularization import SurrogateLoss
from perdure.regularization.surrogate_loss import Strength
from perdure.types import Statistics


def ewc_online(
    strength: Strength = 1.0,
    labels: Labels = "sampled",
    batch_norm: Statistics = "target",
    allowed: float | None = None,
) -> Method:
    """EWC with one anchor, the newest, and the mean Fisher information of all domains.

    Source: Schwarz et al. 2018 and Huszár 2018 for the single anchor.

    Decided here: the mean over domains, so that one λ means the same after any number of them.

    Args:
        strength: λ; it means something only for one network and task, so search it (1e-2 to 1e5). `auto` finds it
            from `allowed` instead, see `SurrogateLoss`.
        labels: where the Fisher information takes its labels from, see `Fisher`.
        batch_norm: see `Method`.
        allowed: with `auto`, by how much the predicted loss on earlier domains may rise, in nats a sample:
            their mean over the earlier domains.
    """
    return Method(
        name="ewc-online",
        source="schwarz2018progress",
        summary="pulls parameters back to the newest solution, by mean Fisher information",
        importance=Fisher(labels),
        regularizer=SurrogateLoss(strength, "half", allowed=allowed),
        batch_norm=batch_norm,
    )
