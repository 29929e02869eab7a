from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from perdure.errors import DataError, EvaluationError
from perdure.evaluation import Header, Scores, union
from perdure.evaluation.groups import with_groups
from perdure.evidence.remote.sealing import salted

MakeScores = Callable[..., Scores]


def domain(*rows: tuple[str, str, dict[str, str]], name: str = "d1") -> Any:
    cases = {
        f"c{place}": SimpleNamespace(subject=subject, split=split, metadata=metadata)
        for place, (subject, split, metadata) in enumerate(rows)
    }
    return SimpleNamespace(name=name, rows=cases)


@pytest.fixture
def scores(dice_scores: MakeScores) -> Scores:
    return dice_scores(np.full((1, 1, 2, 2), 0.5))


def test_the_groups_of_the_scored_split_are_kept(scores: Scores) -> None:
    of = domain(
        ("a", "test", {"sex": "F", "age": "4"}), ("a", "test", {"sex": " F "}), ("b", "test", {"sex": ""}),
        ("c", "train", {"sex": "M"}),
    )  # fmt: skip
    grouped = with_groups(scores, [of], ["sex", "age"])
    assert grouped.header.groups == {"sex": {"d1": {"a": "F"}}, "age": {"d1": {"a": "4"}}}
    again = Scores.parsed(grouped.content(), "x")
    assert again.header == grouped.header


def test_a_file_of_before_has_no_groups(scores: Scores) -> None:
    old = scores.header.model_dump(mode="json")
    del old["groups"]
    assert Header.model_validate(old).groups == {}


def test_an_unknown_column_or_a_subject_of_two_groups_is_an_error(scores: Scores) -> None:
    of = domain(("a", "test", {"sex": "F"}), ("a", "test", {"sex": "M"}))
    with pytest.raises(DataError, match="no column 'site' in its manifest; there is: sex"):
        with_groups(scores, [of], ["site"])
    with pytest.raises(DataError, match="Subject 'a' of domain 'd1' has sex 'F' in one case and 'M' in another"):
        with_groups(scores, [of], ["sex"])


def test_groups_of_several_files_are_joined_and_must_agree(scores: Scores) -> None:
    one = with_groups(scores, [domain(("a", "test", {"sex": "F"}))], ["sex"])
    more = with_groups(scores, [domain(("b", "test", {"sex": "M"}))], ["sex"])
    other = with_groups(scores, [domain(("a", "test", {"sex": "M"}))], ["sex"])
    assert union([one, more]).header.groups == {"sex": {"d1": {"a": "F", "b": "M"}}}
    with pytest.raises(EvaluationError, match="groups.sex, subject a: found 'M'; must be 'F'"):
        union([one, other])


def test_no_subject_id_leaves_a_site_in_the_groups(scores: Scores) -> None:
    """The salted id of a group is that of the rows."""
    grouped = with_groups(scores, [domain(("subject0", "test", {"sex": "F"}))], ["sex"])
    hidden = salted(grouped, b"0" * 32)
    (who,) = hidden.header.groups["sex"]["d1"]
    assert who in set(hidden.table["subject"])
    assert b"subject0" not in hidden.content()
