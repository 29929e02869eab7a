"""All measures of one train-test matrix, with what each of them means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perdure.errors import EvaluationError
from perdure.evaluation.matrix import Loss, TrainTestMatrix, defined_mean
from perdure.evaluation.measures import (
    backward_transfer,
    backward_transfer_gem,
    continual_learning_score,
    forgetting_chaudhry,
    forward_transfer,
    positive_backward_transfer,
    positive_backward_transfer_diaz,
    remembering,
    remembering_diaz,
    transfer_learning,
)
from perdure.types import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Definition:
    """One measure, for tables: how it is written, what it means in plain words, and the function that has it.

    Args:
        key: its name in a `Summary`.
        symbol: how the literature writes it.
        title: its name in words.
        meaning: what a reader without the papers needs to know.
        source: where it is defined.
        of: the function of R.
    """

    key: str
    symbol: str
    title: str
    meaning: str
    source: str
    of: Callable[[NDArray[Any]], NDArray[np.float64] | None]


_PAPER = "Özgün et al. 2020"
_DIAZ = "Díaz-Rodríguez et al. 2018"

MEASURES: tuple[Definition, ...] = (
    Definition(
        "remembering",
        "REM",
        "Remembering",
        "How much of what earlier domains scored is kept, after every update. 1 means that no domain ever lost.",
        f"{_PAPER}, Eq. 4",
        remembering,
    ),
    Definition(
        "positive_backward_transfer",
        "BWT+",
        "Positive backward transfer",
        "How much earlier domains gained by later updates. 0 means that none ever did.",
        f"{_PAPER}, Eq. 5",
        positive_backward_transfer,
    ),
    Definition(
        "transfer_learning",
        "TL",
        "Transfer learning",
        "The score on each domain right after it was learnt: how well the model adapts.",
        f"{_PAPER}, section 2.3",
        transfer_learning,
    ),
    Definition(
        "forward_transfer",
        "FWT",
        "Forward transfer",
        "The score on domains that were not learnt yet: how well the model does at a new site as it comes.",
        f"{_PAPER}, section 2.3",
        forward_transfer,
    ),
    Definition(
        "continual_learning_score",
        "CL",
        "Continual learning score",
        "The score on all domains learnt so far, over all stages. It rewards doing nothing where domains are alike, so "
        "hold it against no update.",
        f"{_PAPER}, section 2.3",
        continual_learning_score,
    ),
)
"""The measures of the paper, in the order in which they are shown."""

LITERATURE: tuple[Definition, ...] = (
    Definition(
        "backward_transfer",
        "BWT",
        "Backward transfer",
        "Losses and gains of earlier domains together, over all stages.",
        _DIAZ,
        backward_transfer,
    ),
    Definition(
        "remembering_diaz",
        "REM (Díaz-Rodríguez)",
        "Remembering, gains set against losses",
        "1 minus the mean loss, where one domain's gain makes good another's loss.",
        _DIAZ,
        remembering_diaz,
    ),
    Definition(
        "positive_backward_transfer_diaz",
        "BWT+ (Díaz-Rodríguez)",
        "Positive backward transfer, losses set against gains",
        "What is left of the gains after the losses.",
        _DIAZ,
        positive_backward_transfer_diaz,
    ),
    Definition(
        "backward_transfer_gem",
        "BWT (GEM)",
        "Backward transfer at the last stage",
        "Losses and gains of earlier domains together, at the last stage only.",
        "Lopez-Paz and Ranzato 2017",
        backward_transfer_gem,
    ),
    Definition(
        "forgetting_chaudhry",
        "F (Chaudhry)",
        "Forgetting from the best score",
        "How far earlier domains ended below their best score of any stage; higher is worse.",
        "Chaudhry et al. 2018",
        forgetting_chaudhry,
    ),
)
"""Variants of the literature, which differ; shown beside, never under the same name."""


class Measure(Value):
    """One measure of one matrix.

    Args:
        value: the measure of each structure, then the mean over structures: the order of the authors of Özgün et al.
        sd_over_structures: how far structures differ (population standard deviation of the measure over structures).
            Not an uncertainty. None without structures.
        of_mean: the other order: the measure of the matrix of means.
    """

    value: float
    sd_over_structures: float | None
    of_mean: float


class Summary(Value):
    """All measures of one matrix, and its worst domain and structure. None: not defined with one domain.

    Args:
        metric: what R holds.
        domains: in the order of learning.
        structures: how many structures are averaged; 0 where the metric has none.
        remembering: Eq. 4.
        positive_backward_transfer: Eq. 5.
        transfer_learning: the diagonal.
        forward_transfer: above the diagonal.
        continual_learning_score: on and below the diagonal.
        literature: other definitions, by the keys of `LITERATURE`.
        worst_domain: the earlier domain that lost most by the last stage.
        worst_domain_of_all_stages: the same over every stage.
        worst_structure: the structure of an earlier domain that lost most by the last stage.
        worst_structure_of_all_stages: the same over every stage.
    """

    metric: str
    domains: tuple[str, ...]
    structures: int
    remembering: Measure | None
    positive_backward_transfer: Measure | None
    transfer_learning: Measure | None
    forward_transfer: Measure | None
    continual_learning_score: Measure | None
    literature: dict[str, Measure | None]
    worst_domain: Loss | None
    worst_domain_of_all_stages: Loss | None
    worst_structure: Loss | None
    worst_structure_of_all_stages: Loss | None

    def measure(self, key: str) -> Measure | None:
        """One measure of `MEASURES` or `LITERATURE` by its key."""
        if key in self.literature:
            return self.literature[key]
        value = getattr(self, key)
        if value is not None and not isinstance(value, Measure):
            raise EvaluationError(f"No measure is called {key!r}.")
        return value


def summary(matrix: TrainTestMatrix) -> Summary:
    """All measures of a matrix, in both orders of averaging."""
    return Summary(
        metric=matrix.metric,
        domains=matrix.domains,
        structures=len(matrix.structures),
        **{definition.key: _measure(definition, matrix) for definition in MEASURES},
        literature={definition.key: _measure(definition, matrix) for definition in LITERATURE},
        worst_domain=matrix.worst_domain(),
        worst_domain_of_all_stages=matrix.worst_domain(over_all_stages=True),
        worst_structure=matrix.worst_structure(),
        worst_structure_of_all_stages=matrix.worst_structure(over_all_stages=True),
    )


def _measure(definition: Definition, matrix: TrainTestMatrix) -> Measure | None:
    per_structure, of_mean = definition.of(matrix.values), definition.of(matrix.mean)
    if per_structure is None or of_mean is None or np.isnan(per_structure).all():
        return None
    return Measure(
        value=float(defined_mean(per_structure, axis=0)),
        sd_over_structures=float(np.nanstd(per_structure)) if matrix.structures else None,
        of_mean=float(of_mean),
    )
