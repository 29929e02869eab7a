"""EWC with original statistics."""

from __future__ import annotations

from perdure.importance import Fisher
from perdure.importance.fisher import Labels
from perdure.methods.method import Method, Source
from perdure.models import Trainable
from perdure.regularization import SurrogateLoss
from perdure.regularization.surrogate_loss import Strength


def ewc_bn(
    strength: Strength = 1.0,
    trainable: Trainable = "all",
    labels: Labels = "sampled",
    recipe: Source = "paper",
    allowed: float | None = None,
) -> Method:
    """EWC with the batch-norm statistics of the original domain, in training and inference.

    Source: Gupta et al. 2020, sections 2.2 and 2.3. λ = 1 did best there for all layers, 0.05 for batch norm only.

    The code published with the extended version (2021) is followed in one point only, the labels (`recipe`). It takes
    squared gradients of the label's logit, without the softmax, of the first 64 images again and again, and adds them
    up; so its λ does not transfer. The card says what else differs.

    Args:
        strength: λ, or `auto` with `allowed`, see `SurrogateLoss`.
        trainable: `all`, or `batch-norm` for γ and β alone (everything else frozen, the classifier too).
        labels: see `Fisher`.
        recipe: `authors` takes dataset labels, as their code does, and follows it in nothing else.
        allowed: with `auto`, by how much the predicted loss on earlier domains may rise (their mean), in nats a sample.
    """
    return Method(
        name="ewc-bn",
        source="gupta2020unreasonable",
        summary="EWC with the original domain's batch-norm statistics",
        importance=Fisher("dataset" if recipe == "authors" else labels),
        regularizer=SurrogateLoss(strength, "half", allowed=allowed),
        batch_norm="original",
        trainable=trainable,
        recipe=recipe,
    )
