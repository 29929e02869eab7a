r"""The measures of continual learning over a train-test matrix.

R[i, j] is the score on domain j after learning domain i, for D domains; i and j count from 1 in the equations.
Every function takes R as `(domains, domains)` or `(domains, domains, ...)` and keeps further axes, such as
structures. Without a second domain, what compares domains is None: not 1, and not 0. A NaN cell (a structure that
no case of a domain holds) is skipped in every mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from perdure.errors import EvaluationError
from perdure.evaluation.matrix import defined_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray


def remembering(R: NDArray[Any]) -> NDArray[np.float64] | None:
    r"""How much of what earlier domains scored is kept (REM).

    .. math:: \mathrm{REM} = \frac{2}{D(D-1)} \sum_{i=2}^{D} \sum_{j=1}^{i-1} 1 - |\min(R_{ij} - R_{jj}, 0)|

    The 1 is inside the sums. Losses of one domain are not made good by gains of another.

    Source: Özgün et al. 2020, Eq. 4.
    """
    change = _changes(R)
    return None if change is None else defined_mean(1 - np.abs(np.minimum(change, 0)), axis=0)


def positive_backward_transfer(R: NDArray[Any]) -> NDArray[np.float64] | None:
    r"""How much earlier domains gained by later updates (BWT+).

    .. math:: \mathrm{BWT}^+ = \frac{2}{D(D-1)} \sum_{i=2}^{D} \sum_{j=1}^{i-1} \max(R_{ij} - R_{jj}, 0)

    Source: Özgün et al. 2020, Eq. 5.
    """
    change = _changes(R)
    return None if change is None else defined_mean(np.maximum(change, 0), axis=0)


def transfer_learning(R: NDArray[Any]) -> NDArray[np.float64]:
    """How well each domain is learnt: the mean of the diagonal of R (TL).

    Source: Özgün et al. 2020, section 2.3.
    """
    stages = np.arange(_domains(R))
    return defined_mean(np.asarray(R, np.float64)[stages, stages], axis=0)


def forward_transfer(R: NDArray[Any]) -> NDArray[np.float64] | None:
    """The score on domains before they are learnt: the mean of what stands above the diagonal of R (FWT).

    An absolute score; not, as in Lopez-Paz and Ranzato 2017, the gain over a network with random weights.

    Source: Özgün et al. 2020, section 2.3.
    """
    cells = np.asarray(R, np.float64)[np.triu_indices(_domains(R), 1)]
    return defined_mean(cells, axis=0) if len(cells) else None


def continual_learning_score(R: NDArray[Any]) -> NDArray[np.float64]:
    """The score on the domains learnt so far, over all stages: the mean of R on and below the diagonal (CL score).

    Source: Özgün et al. 2020, section 2.3, there "CL DSC".
    """
    return defined_mean(np.asarray(R, np.float64)[np.tril_indices(_domains(R))], axis=0)


def backward_transfer(R: NDArray[Any]) -> NDArray[np.float64] | None:
    r"""The mean change of earlier domains, losses and gains together (BWT).

    .. math:: \mathrm{BWT} = \frac{2}{D(D-1)} \sum_{i=2}^{D} \sum_{j=1}^{i-1} R_{ij} - R_{jj}
              = \mathrm{BWT}^+ - (1 - \mathrm{REM})

    with BWT+ and REM as in `positive_backward_transfer` and `remembering`.

    Source: Díaz-Rodríguez et al. 2018.
    """
    change = _changes(R)
    return None if change is None else defined_mean(change, axis=0)


def remembering_diaz(R: NDArray[Any]) -> NDArray[np.float64] | None:
    r"""1 - |min(BWT, 0)|: gains of one domain make good the losses of another, unlike `remembering`.

    Source: Díaz-Rodríguez et al. 2018.
    """
    change = backward_transfer(R)
    return None if change is None else 1 - np.abs(np.minimum(change, 0))


def positive_backward_transfer_diaz(R: NDArray[Any]) -> NDArray[np.float64] | None:
    """max(BWT, 0): what is left of the gains after the losses, unlike `positive_backward_transfer`.

    Source: Díaz-Rodríguez et al. 2018.
    """
    change = backward_transfer(R)
    return None if change is None else np.maximum(change, 0)


def backward_transfer_gem(R: NDArray[Any]) -> NDArray[np.float64] | None:
    r"""The mean change of earlier domains at the last stage only.

    .. math:: \frac{1}{D-1} \sum_{j=1}^{D-1} R_{Dj} - R_{jj}

    Source: Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory".
    """
    D = _domains(R)
    earlier = np.arange(D - 1)
    cells = np.asarray(R, np.float64)
    return defined_mean(cells[-1, earlier] - cells[earlier, earlier], axis=0) if D > 1 else None


def forgetting_chaudhry(R: NDArray[Any]) -> NDArray[np.float64] | None:
    r"""The mean distance of earlier domains from their best score of any earlier stage, at the last stage.

    .. math:: \frac{1}{D-1} \sum_{j=1}^{D-1} \max_{i < D} R_{ij} - R_{Dj}

    Higher is worse. A score before the domain was learnt can be its best one.

    Source: Chaudhry et al. 2018, "Riemannian Walk".
    """
    D = _domains(R)
    cells = np.asarray(R, np.float64)
    # fmax skips NaN
    return defined_mean(np.fmax.reduce(cells[:-1, :-1], axis=0) - cells[-1, :-1], axis=0) if D > 1 else None


def _domains(R: NDArray[Any]) -> int:
    shape = np.shape(R)
    if len(shape) < 2 or shape[0] != shape[1] or shape[0] == 0:
        raise EvaluationError(f"A train-test matrix has shape (domains, domains, ...); got {shape}.")
    return int(shape[0])


def _changes(R: NDArray[Any]) -> NDArray[np.float64] | None:
    """R[i, j] - R[j, j] of every domain j learnt before i `(pairs, ...)`."""
    i, j = np.tril_indices(_domains(R), -1)
    cells = np.asarray(R, np.float64)
    return cells[i, j] - cells[j, j] if len(i) else None
