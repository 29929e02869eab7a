from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure.benchmark.config import Selection
from perdure.benchmark.selection import Candidate, choose


def candidate(name: str, old: tuple[float, float], new: tuple[float, float], seeds: int = 2) -> Candidate:
    return Candidate(settings={"strength": name}, old=old, new=new, seeds=seeds)


FREE = candidate("free", (0.8, 0.5), (0.2, 0.7))  # mean after .60, costs .30
MIDDLE = candidate("middle", (0.8, 0.79), (0.2, 0.6))  # mean after .695, costs .01
STRONG = candidate("strong", (0.8, 0.8), (0.2, 0.3))  # mean after .55, costs nothing


def test_mean_takes_the_highest_mean_over_the_domains_learnt() -> None:
    assert choose(Selection(), [FREE, MIDDLE, STRONG], 2) == MIDDLE.settings


def test_gate_takes_the_best_on_the_new_domain_among_those_that_cost_little() -> None:
    assert choose(Selection(rule="gate", margin=0.02), [FREE, MIDDLE, STRONG], 2) == MIDDLE.settings
    assert choose(Selection(rule="gate", margin=0.005), [FREE, MIDDLE, STRONG], 2) == STRONG.settings
    assert choose(Selection(rule="gate", margin=0.5), [FREE, MIDDLE, STRONG], 2) == FREE.settings


def test_gate_takes_the_cheapest_where_all_cost_more_than_allowed() -> None:
    assert choose(Selection(rule="gate", margin=0.0), [FREE, MIDDLE], 2) == MIDDLE.settings


def test_a_gain_on_the_old_domain_buys_nothing_under_gate() -> None:
    """A loss is at least 0: .1 gained there does not make up for the new domain."""
    gained = candidate("gained", (0.8, 0.9), (0.2, 0.5))
    assert choose(Selection(rule="gate"), [gained, MIDDLE], 2) == MIDDLE.settings


def test_a_candidate_without_a_score_for_every_seed_is_never_taken() -> None:
    lucky = candidate("lucky", (0.8, 0.9), (0.9, 0.9), seeds=1)
    assert choose(Selection(), [lucky, STRONG], 2) == STRONG.settings
    assert choose(Selection(), [lucky], 2) is None
    assert choose(Selection(), [Candidate(settings={}, seeds=0, diverged=2)], 2) is None


def test_of_equals_the_first_is_taken() -> None:
    twin = candidate("twin", (0.8, 0.79), (0.2, 0.6))
    assert choose(Selection(), [MIDDLE, twin], 2) == MIDDLE.settings
    assert choose(Selection(rule="gate"), [twin, MIDDLE], 2) == twin.settings


scores = st.floats(0, 1)


@given(pairs=st.lists(st.tuples(scores, scores, scores), min_size=1, max_size=6), margin=scores)
def test_what_gate_takes_costs_no_more_than_allowed_if_anything_does(
    pairs: list[tuple[float, float, float]], margin: float
) -> None:
    every = [candidate(str(place), (a, b), (0.0, c)) for place, (a, b, c) in enumerate(pairs)]
    taken = next(one for one in every if one.settings == choose(Selection(rule="gate", margin=margin), every, 2))
    cheap = [one for one in every if one.loss <= margin]
    assert taken.loss <= max(margin, min(one.loss for one in every))
    assert all(one.new is not None and taken.new is not None and taken.new[1] >= one.new[1] for one in cheap)
