"""Which patients are in which split, where nobody has said so yet."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from perdure.types import SPLITS, Split


class Row(Protocol):
    """What splitting needs to know of a case."""

    @property
    def subject(self) -> str:
        """The patient."""
        ...

    @property
    def domain(self) -> str:
        """Site, scanner or population."""
        ...

    @property
    def grade(self) -> str:
        """Its class, or nothing."""
        ...


def split_subjects(
    rows: Iterable[Row], fractions: Sequence[float] = (0.7, 0.2, 0.1), seed: int = 0, *, stratify: bool = True
) -> dict[str, Split]:
    """Assigns each subject to one split.

    Every domain is split by itself, by subject: all cases of a subject go together, also those in other domains. A
    split with a fraction above 0 gets at least one subject of each domain that has three or more of its own. The result
    depends on the subjects, their domains and classes and on the seed, not on the order of the rows. **It changes when
    subjects are added:** write the splits into the manifest before a model is trained on them.

    Args:
        rows: the cases.
        fractions: of the subjects, for train, val and test; they add up to 1. 7:2:1 is our choice.
        seed: which of the many ways.
        stratify: whether each class has its share in each split. A subject counts for the class that most of
            its cases have (the first in alphabetical order among equals).

    Returns:
        The split of each subject.
    """
    grades: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        grades[row.domain][row.subject].append(row.grade)
    splits: dict[str, Split] = {}
    for number, domain in enumerate(sorted(grades)):
        rng = np.random.default_rng([seed, number])
        subjects = grades[domain]
        before = Counter(splits[subject] for subject in subjects if subject in splits)
        fresh = sorted(subject for subject in subjects if subject not in splits)
        counts = _counts(len(subjects), fractions)
        places = {split: max(0, counts[split] - before[split]) for split in SPLITS}
        # another domain may have sent more subjects to one split than it should have here
        for _ in range(sum(places.values()) - len(fresh)):
            places[max(SPLITS, key=places.__getitem__)] -= 1
        strata = {subject: _majority(subjects[subject]) if stratify else "" for subject in fresh}
        order = [split for split in SPLITS for _ in range(places[split])]
        splits.update(zip(_interleaved(strata, rng), order, strict=True))
    return splits


def _counts(subjects: int, fractions: Sequence[float]) -> dict[Split, int]:
    """Whole numbers in the ratio of the fractions, by largest remainder, and none 0 that need not be."""
    exact = [subjects * fraction for fraction in fractions]
    counts = [int(share) for share in exact]
    for i in sorted(range(3), key=lambda i: counts[i] - exact[i])[: subjects - sum(counts)]:
        counts[i] += 1
    for i in range(3):
        if subjects >= 3 and fractions[i] > 0 and counts[i] == 0:
            counts[int(np.argmax(counts))] -= 1
            counts[i] = 1
    return dict(zip(SPLITS, counts, strict=True))


def _interleaved(strata: dict[str, str], rng: np.random.Generator) -> list[str]:
    """The subjects in an order of which every stretch has each stratum in about its share."""
    members: dict[str, list[str]] = defaultdict(list)
    for subject in strata:
        members[strata[subject]].append(subject)
    places = []
    for stratum in sorted(members):
        shuffled = rng.permutation(len(members[stratum]))
        # a subject stands where its rank within its stratum puts it; the draw only decides between equals
        places += [
            ((rank + rng.random()) / len(shuffled), members[stratum][i]) for rank, i in enumerate(shuffled.tolist())
        ]
    return [subject for _, subject in sorted(places)]


def _majority(grades: Sequence[str]) -> str:
    counts = Counter(grades)
    return min(counts, key=lambda grade: (-counts[grade], grade))
