from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from perdure.evaluation import Scores
from perdure.evaluation.pairs import UnpairedError, paired_changes

MakeScores = Callable[..., Scores]
Table = list[list[float]]


def line(dice_scores: MakeScores, before: Table, after: Table) -> Scores:
    """Two releases, r0 and r1, on two domains with the same Dice `(subjects, structures)`."""
    return dice_scores(np.array([[before, before], [after, after]]))


def test_cases_are_averaged_in_a_structure_then_structures_in_a_subject(dice_scores: MakeScores) -> None:
    """Subject 0: structures .5 and .7 become .6 and .4: changes .1 and -.3, mean -.1."""
    before, after = [[0.5, 0.7], [0.2, 0.4]], [[0.6, 0.4], [0.2, 0.4]]
    scores = line(dice_scores, before, after)
    found = paired_changes(scores, "r0", "r1", "d1", ("s1", "s2"))
    assert found.before == pytest.approx({"subject0": 0.6, "subject1": 0.3})
    assert found.change == pytest.approx({"subject0": -0.1, "subject1": 0.0})
    assert found.change["subject1"] == 0
    alone = paired_changes(scores, "r0", "r1", "d1", ("s2",))
    assert alone.change["subject0"] == pytest.approx(-0.3)


def test_several_cases_of_a_subject_are_one_pair(dice_scores: MakeScores) -> None:
    scores = line(dice_scores, [[0.5], [0.7]], [[0.6], [0.4]])
    one = Scores(
        scores.header, scores.table.with_columns(subject=scores.table["subject"].replace("subject1", "subject0"))
    )
    found = paired_changes(one, "r0", "r1", "d1", ("s1",))
    assert found.change == pytest.approx({"subject0": -0.1})


def test_rounding_is_no_change(dice_scores: MakeScores) -> None:
    scores = line(dice_scores, [[0.3]], [[0.1 + 0.2]])
    assert paired_changes(scores, "r0", "r1", "d1", ("s1",)).change == {"subject0": 0}


@pytest.mark.parametrize(
    ("domain", "release", "said"), [("d9", "r1", "have it on d9"), ("d1", "r9", "not have release r9 on d1")]
)
def test_what_is_not_there_cannot_be_paired(dice_scores: MakeScores, domain: str, release: str, said: str) -> None:
    scores = line(dice_scores, [[0.5]] * 3, [[0.5]] * 3)
    with pytest.raises(UnpairedError, match=said):
        paired_changes(scores, "r0", release, domain, ("s1",))
