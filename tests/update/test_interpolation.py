from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from perdure.errors import MethodError, UpdateError
from perdure.importance import MAS, SI, Fisher
from perdure.methods import Method, ewc, finetune, mas_fix, mas_lr
from perdure.models import recalibrate
from perdure.regularization import SurrogateLoss, Unrestrained
from perdure.release import Release
from perdure.update import consolidate, interpolated_release, train, update
from perdure.update.recipe import Recipe
from reference.domains import SEGMENTER, TinyDomain, state
from reference.networks import bits

FIRST, SECOND, THIRD = TinyDomain("site-a"), TinyDomain("site-b", contrast=0.5), TinyDomain("site-c", contrast=0.3)
QUICK = Recipe(epochs=1, batch_size=4, learning_rate=0.05)


def after(parent: Release, domain: TinyDomain, method: Method | None = None) -> Release:
    return update(parent, domain, method=method or ewc(), recipe=QUICK)


@pytest.fixture(scope="module")
def parent() -> Release:
    base = train(SEGMENTER, FIRST, recipe=QUICK, trusted=["reference"])
    return after(base, SECOND)


@pytest.fixture(scope="module")
def candidate(parent: Release) -> Release:
    return after(parent, THIRD)


def test_both_ends_are_the_releases_bit_for_bit(parent: Release, candidate: Release) -> None:
    """Parameters and statistics; at 0 importance and quadratics too."""
    before = state(parent.model), state(candidate.model)
    none = interpolated_release(parent, candidate, 0)
    assert state(none.model) == state(candidate.model)
    for key, measure in candidate.memory.measures.items():
        own = none.memory.measures[key]
        assert own.offset == measure.offset
        for part in ("weights", "latest", "centre"):
            theirs, ours = getattr(measure, part), getattr(own, part)
            assert {n: bits(t) for n, t in ours.items()} == {n: bits(t) for n, t in theirs.items()}
    assert state(interpolated_release(parent, candidate, 1).model) == state(parent.model)
    assert (state(parent.model), state(candidate.model)) == before


def test_in_between_weights_lie_on_the_line_and_the_anchor_is_there(parent: Release, candidate: Release) -> None:
    between = interpolated_release(parent, candidate, 0.25)
    ends = dict(parent.model.named_parameters()), dict(candidate.model.named_parameters())
    for name, parameter in between.model.named_parameters():
        expected = 0.25 * ends[0][name].double() + 0.75 * ends[1][name].double()
        torch.testing.assert_close(parameter.double(), expected, rtol=1e-6, atol=1e-7)
        assert bits(between.memory.anchor[name]) == bits(parameter)


def test_the_quadratics_of_all_domains_stay_where_they_were_measured(parent: Release, candidate: Release) -> None:
    """The penalty that the candidate's memory would give at a place, the new one gives there too."""
    form = SurrogateLoss(1.0, "half", "each")
    between = interpolated_release(parent, candidate, 0.5)
    for place in (parent, candidate, between):
        values = [form.value(place.model, release.memory.past("fisher")) for release in (candidate, between)]
        assert values[0] == pytest.approx(values[1], rel=1e-5, abs=1e-9)
    # the newest anchor alone is the new release's own
    assert SurrogateLoss(1.0).value(between.model, between.memory.past("fisher")) == 0


def test_lineage_and_domains_are_the_candidates_and_the_dial_is_recorded(parent: Release, candidate: Release) -> None:
    between = interpolated_release(parent, candidate, 0.3)
    one, other = between.identity, candidate.identity
    assert (one.lineage, one.domains, one.origin) == (other.lineage, other.domains, other.origin)
    assert one.lineage[-1].id == parent.id
    assert (one.method, one.recipe) == (other.method, other.recipe)
    assert one.training == {
        **other.training,
        "interpolated": {"retain": 0.3, "candidate": candidate.id, "importance": "candidate's"},
    }
    assert between.id not in ("", candidate.id, parent.id)


def test_it_is_a_release_like_any_other(parent: Release, candidate: Release, tmp_path: Path) -> None:
    """It is written, opened, and updated again."""
    written = interpolated_release(parent, candidate, 0.5, out=tmp_path / "half")
    opened = Release.open(tmp_path / "half", ["reference"])
    assert (opened.name, opened.id) == ("half", written.id)
    assert state(opened.model) == state(written.model)
    child = after(opened, TinyDomain("site-d", contrast=0.7))
    assert [ancestor.id for ancestor in child.lineage[-1:]] == [opened.id]
    with pytest.raises(UpdateError, match="half exists"):
        interpolated_release(parent, candidate, 0.5, out=tmp_path / "half")


def test_with_the_domain_importance_is_measured_where_the_weights_are(parent: Release, candidate: Release) -> None:
    """As if training had ended there: the parent's memory and one more domain."""
    between = interpolated_release(parent, candidate, 0.5, domain=THIRD)
    assert between.identity.training["interpolated"]["importance"] == "measured anew"
    expected = parent.memory
    for measure in (MAS(), Fisher()):
        expected = consolidate(between.model, THIRD.batches("train", 2), measure, previous=expected)
    for key, measure in expected.measures.items():
        own = between.memory.measures[key]
        assert (own.domains, own.offset, own.samples) == (measure.domains, measure.offset, measure.samples)
        for part in ("weights", "latest", "centre"):
            theirs, ours = getattr(measure, part), getattr(own, part)
            assert {n: bits(t) for n, t in ours.items()} == {n: bits(t) for n, t in theirs.items()}
        assert bits(own.latest["1.weight"]) != bits(candidate.memory.measures[key].latest["1.weight"])
    same = interpolated_release(parent, candidate, 0, domain=THIRD)
    for key, measure in candidate.memory.measures.items():
        assert bits(same.memory.measures[key].latest["1.weight"]) == bits(measure.latest["1.weight"])


def test_what_is_frozen_stays_frozen(parent: Release) -> None:
    fixed = after(parent, THIRD, mas_fix())
    for domain in (None, THIRD):
        between = interpolated_release(parent, fixed, 0.5, domain=domain)
        assert {n: bits(m) for n, m in between.memory.frozen.items()} == {
            n: bits(m) for n, m in fixed.memory.frozen.items()
        }
    for name, mask in fixed.memory.frozen.items():
        old, new = dict(parent.model.named_parameters())[name], dict(between.model.named_parameters())[name]
        mask = mask.expand_as(old)
        assert bits(new.detach()[mask]) == bits(old.detach()[mask])


def test_recalibrated_statistics_are_estimated_anew_for_the_weights_between(parent: Release) -> None:
    recalibrated = after(parent, THIRD, replace(finetune(), batch_norm="recalibrated"))
    plain = interpolated_release(parent, recalibrated, 0.5)
    anew = interpolated_release(parent, recalibrated, 0.5, domain=THIRD)
    assert state(plain.model)["3.running_mean"] != state(anew.model)["3.running_mean"]
    assert state(plain.model)["1.weight"] == state(anew.model)["1.weight"]
    recalibrate(plain.model, THIRD.batches("train", QUICK.batch_size))
    assert state(plain.model) == state(anew.model)


@pytest.mark.parametrize("retain", [-0.1, 1.1, float("nan")])
def test_a_dial_out_of_range_is_refused(parent: Release, candidate: Release, retain: float) -> None:
    with pytest.raises(UpdateError, match=r"`retain` must be in \[0, 1\]"):
        interpolated_release(parent, candidate, retain)


def test_only_a_parent_and_its_own_child_have_a_line(parent: Release, candidate: Release) -> None:
    other = after(parent, TinyDomain("site-e"))
    with pytest.raises(UpdateError, match="is an update of 'release', not an update of"):
        interpolated_release(other, candidate, 0.5)
    base = train(SEGMENTER, FIRST, recipe=QUICK, trusted=["reference"])
    with pytest.raises(UpdateError, match="is a base release, not an update of"):
        interpolated_release(parent, base, 0.5)


def test_another_domain_is_refused(parent: Release, candidate: Release) -> None:
    for wrong in (SECOND, replace(THIRD, train=9)):
        with pytest.raises(UpdateError, match="learnt domain 'site-c' last; .* is another domain, or its cases have"):
            interpolated_release(parent, candidate, 0.5, domain=wrong)


def test_a_measure_that_is_gathered_in_training_cannot_be_taken_anew() -> None:
    base = train(SEGMENTER, FIRST, recipe=QUICK, trusted=["reference"], measures=(SI(),))
    method = Method("plain", "test", "plain", Unrestrained(), SI())
    child = after(base, SECOND, method)
    assert state(interpolated_release(base, child, 1.0).model) == state(base.model)
    with pytest.raises(MethodError, match="SI is gathered while a model trains"):
        interpolated_release(base, child, 0.5, domain=SECOND)


@pytest.mark.parametrize("anew", [False, True])
def test_earlier_domains_keep_their_own_batch_norm_and_the_newest_has_that_of_the_new_weights(
    parent: Release, anew: bool
) -> None:
    candidate = after(parent, THIRD, mas_lr(batch_norm="per-domain"))
    between = interpolated_release(parent, candidate, 0.5, domain=THIRD if anew else None)
    assert list(between.memory.norms) == ["site-a", "site-b", "site-c"]
    for name in ("site-a", "site-b"):
        kept, expected = between.memory.norms[name], candidate.memory.norms[name]
        assert {n: bits(t) for n, t in kept.items()} == {n: bits(t) for n, t in expected.items()}
    own = state(between.model)
    assert all(bits(value) == own[name] for name, value in between.memory.norms["site-c"].items())
