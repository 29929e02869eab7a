"""Every subject goes into one split, in the given ratio, whatever the order of the rows."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from perdure.data.splitting import split_subjects
from perdure.types import SPLITS


@dataclass(frozen=True)
class Row:
    subject: str
    domain: str
    grade: str = ""


rows_of_separate_domains = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 25), st.sampled_from("012")).map(
        lambda drawn: Row(f"{drawn[0]}{drawn[1]}", drawn[0], drawn[2])
    ),
    max_size=120,
)  # fmt: skip
rows = st.lists(
    st.builds(Row, st.sampled_from("pqrstuvwxyz"), st.sampled_from("ab"), st.sampled_from("012")), max_size=60
)
fractions = st.sampled_from([(0.7, 0.2, 0.1), (0.5, 0.25, 0.25), (0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.6, 0.0, 0.4)])
seeds = st.integers(0, 1000)


@given(rows, fractions, seeds, st.booleans())
def test_each_subject_gets_one_split_also_when_it_is_in_two_domains(
    cases: list[Row], ratio: tuple[float, ...], seed: int, stratify: bool
) -> None:
    splits = split_subjects(cases, ratio, seed, stratify=stratify)
    assert set(splits) == {row.subject for row in cases}
    assert set(splits.values()) <= set(SPLITS)


@given(rows, fractions, seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_decides_nothing(
    cases: list[Row], ratio: tuple[float, ...], seed: int, rng: random.Random
) -> None:
    mixed = cases.copy()
    rng.shuffle(mixed)
    assert split_subjects(mixed, ratio, seed) == split_subjects(cases, ratio, seed)


@given(rows_of_separate_domains, fractions, seeds, st.booleans())
def test_every_domain_is_split_in_the_ratio_and_no_split_is_empty_from_three_subjects_on(
    cases: list[Row], ratio: tuple[float, ...], seed: int, stratify: bool
) -> None:
    splits = split_subjects(cases, ratio, seed, stratify=stratify)
    subjects = defaultdict(set)
    for row in cases:
        subjects[row.domain].add(row.subject)
    for members in subjects.values():
        counts = Counter(splits[subject] for subject in members)
        for split, share in zip(SPLITS, ratio, strict=True):
            # a whole number beside the exact share; up to two more are given away so that none is empty
            assert -2 < counts[split] - share * len(members) < 2
            assert counts[split] > 0 or share == 0 or len(members) < 3


@given(st.lists(st.sampled_from("012"), min_size=3, max_size=80), seeds)
def test_stratified_each_class_has_its_share_in_each_split(grades: list[str], seed: int) -> None:
    cases = [Row(f"p{i}", "a", grade) for i, grade in enumerate(grades)]
    splits = split_subjects(cases, (0.6, 0.2, 0.2), seed)
    of_split = Counter(splits.values())
    for grade in "012":
        members = [case.subject for case in cases if case.grade == grade]
        for split in SPLITS:
            got = sum(splits[subject] == split for subject in members)
            # one more or fewer at either end of a split's stretch of the interleaved subjects, for each other class
            assert abs(got - len(members) * of_split[split] / len(cases)) <= 3


def test_another_seed_is_another_split() -> None:
    cases = [Row(f"p{i}", "a") for i in range(30)]
    assert split_subjects(cases, seed=0) == split_subjects(cases, seed=0)
    assert split_subjects(cases, seed=0) != split_subjects(cases, seed=1)


def test_the_default_is_seven_to_two_to_one() -> None:
    assert Counter(split_subjects([Row(f"p{i}", "a") for i in range(50)]).values()) == {
        "train": 35,
        "val": 10,
        "test": 5,
    }


def test_a_subject_counts_for_the_class_that_most_of_its_cases_have() -> None:
    # ten subjects, of whom two have mostly class 1: with halves, one of the two on each side, whatever the seed
    cases = [Row(f"p{i}", "a", "0") for i in range(8) for _ in range(3)]
    cases += [Row(f"q{i}", "a", grade) for i in range(2) for grade in "101"]
    for seed in range(20):
        splits = split_subjects(cases, (0.5, 0.0, 0.5), seed)
        assert splits["q0"] != splits["q1"]


def test_where_another_domain_has_taken_the_places_the_rest_is_still_spread() -> None:
    shared = [Row(f"s{i}", "a") for i in range(10)]
    second = [Row(row.subject, "b") for row in shared] + [Row(f"t{i}", "b") for i in range(10)]
    splits = split_subjects([*shared, *second], (0.5, 0.3, 0.2), 0)
    assert Counter(splits[row.subject] for row in second) == {"train": 10, "val": 6, "test": 4}
