"""EWC."""

from __future__ import annotations

from perdure.importance import Fisher
from perdure.importance.fisher import Labels
from perdure.methods.method import Method
from perdure.regularization import SurrogateLoss
from perdure.regularization.surrogate_loss import Strength
from perdure.types import Statistics


def ewc(
    strength: Strength = 1.0,
    labels: Labels = "sampled",
    batch_norm: Statistics = "target",
    allowed: float | None = None,
) -> Method:
    """Elastic weight consolidation: a quadratic around each earlier solution, weighted by its Fisher information.

    Source: Kirkpatrick et al. 2017; Gupta et al. 2020, section 2.3.

    Open in the papers, decided here: the proximal step, which no strength can make diverge; the quadratics of several
    domains are merged into one that equals their sum.

    Args:
        strength: λ; it means something only for one network and task, so search it (1e-2 to 1e5). `auto` finds it
            from `allowed` instead, see `SurrogateLoss`.
        labels: where the Fisher information takes its labels from, see `Fisher`.
        batch_norm: see `Method`.
        allowed: with `auto`, by how much the predicted loss on earlier domains may rise, in nats a sample:
            for all earlier domains together.
    """
    return Method(
        name="ewc",
        source="kirkpatrick2017overcoming",
        summary="pulls parameters back to each earlier domain's solution, by Fisher information",
        importance=Fisher(labels),
        regularizer=SurrogateLoss(strength, "half", anchors="each", allowed=allowed),
        batch_norm=batch_norm,
    )
