"""A report on a network that grades pictures: kappa, probabilities, and what it sees in two dimensions."""

from __future__ import annotations

import numpy as np

from perdure.evidence.report import Collected, html


def test_changes_are_of_kappa_and_there_are_no_structures(graded: Collected) -> None:
    report = graded.report
    assert report.metric == "kappa"
    assert report.structures == ()
    for one in report.changes:
        assert one.before is not None
        assert one.after is not None
        assert np.isclose(one.change, one.after - one.before)


def test_a_case_has_its_true_class_and_both_answers(graded: Collected) -> None:
    cases = graded.report.cases
    assert len(cases) == 18
    assert {one.truth for one in cases} == {"low", "middle", "high"}
    assert all(one.was in ("low", "middle", "high") and one.now in ("low", "middle", "high") for one in cases)
    # the most probable of three classes has at least a third
    assert all(one.before >= 1 / 3 for one in cases if one.was == one.truth)
    assert all(one.after >= 1 / 3 for one in cases if one.now == one.truth)


def test_both_releases_see_the_val_cases_of_both_domains(graded: Collected) -> None:
    clouds = [one for one in graded.report.clouds if one.kind == "PCA"]
    assert [one.release for one in clouds] == ["base", "next"]
    for one in clouds:
        assert len(one.points) == len(one.domains) == len(one.classes) == 12
        assert one.names == ("low", "middle", "high")
        assert np.allclose(np.mean(one.points, axis=0), 0, atol=1e-6)


def test_one_case_of_each_domain_is_shown_as_it_is(graded: Collected) -> None:
    assert len(graded.pictures) == 2
    assert [picture.what for one in graded.pictures for picture in one.pictures] == ["image", "image"]
    text = html(graded)
    assert "true class" in text
    assert 'id="volumes"' not in text
