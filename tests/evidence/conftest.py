"""Train-test matrices made from the numbers that a test wants to see again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from perdure.evaluation import ScoredRelease, SubjectScores, TrainTestMatrix

MakeMatrix = Callable[..., TrainTestMatrix]


@pytest.fixture
def make_matrix() -> MakeMatrix:
    """Makes a matrix from R `(domains, domains + unseen, structures)` or, for kappa, `(domains, domains + unseen)`."""

    def make(
        R: Sequence[object] | np.ndarray, *, prefix: str = "release", names: Sequence[str] = (), base: str = "base"
    ) -> TrainTestMatrix:
        values = np.asarray(R, dtype=float)
        has_structures = values.ndim == 3
        values = values if has_structures else values[..., None]
        learnt, all_domains, structures = values.shape
        names = tuple(names) or tuple(f"site-{j + 1}" for j in range(all_domains))
        ids = [base, *(f"{prefix}{i}" for i in range(1, learnt))]
        return TrainTestMatrix(
            metric="dice" if has_structures else "kappa",
            releases=tuple(ScoredRelease(id=ids[i], name=f"{ids[i]}-name", domain=names[i]) for i in range(learnt)),
            domains=tuple(names[:learnt]),
            structures=tuple(f"s{k + 1}" for k in range(structures)) if has_structures else (),
            values=values[:, :learnt],
            unseen=tuple(names[learnt:]),
            unseen_values=values[:, learnt:],
            per_subject={
                name: SubjectScores(("subject",), values[:, j, None]) for j, name in enumerate(names) if has_structures
            },
        )

    return make
