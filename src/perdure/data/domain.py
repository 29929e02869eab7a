"""A domain of a dataset folder, and several of them as one."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from perdure.data.cache import Cache
from perdure.data.cases import CaseFiles, PreparedCase, prepared_entry
from perdure.data.manifest import Case
from perdure.data.sampling import Concatenated, Draw, Samples, batches, boundaries, order_of, samples_of
from perdure.errors import DataError
from perdure.types import SPLITS, Batch, Contract, Counts, Split


class SampledDomain(ABC):
    """What batches of samples need of a domain; all else of `perdure.types.Domain` is up to the class."""

    contract: Contract

    @abstractmethod
    def samples(self, split: Split) -> Samples:
        """What `batches` yields, by index."""

    def batches(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        augmentation: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> Iterator[Batch]:
        """The samples of one split, once each: see `perdure.types.Domain.batches`.

        Raises:
            DataError: the split is empty.
            ValueError: augmentation without a seed, or a number outside its range.
        """
        draw = None if seed is None else Draw(seed, epoch)
        return batches(self.samples(split), self.contract, batch_size, draw, augmentation, rank, ranks)

    def steps(self, split: Split, batch_size: int) -> int:
        """How many batches `batches` yields."""
        return len(boundaries(len(self.samples(split)), batch_size))

    def subjects_drawn(self, samples: int, seed: int) -> int:
        """Of how many subjects a few training samples are: see `perdure.types.CountsSubjects`."""
        train = self.samples("train")
        drawn = order_of(len(train), Draw(seed, 0))[:samples]
        return len({train.subject(index) for index in drawn.tolist()})


@dataclass(frozen=True, eq=False)
class FolderDomain(SampledDomain):
    """The cases of one domain of a dataset folder, prepared under one contract: a `perdure.types.Domain`.

    A case is prepared when it is first asked for, or all are by `prepare`. Made by `Dataset.domain`, which has checked
    the files.

    Args:
        name: of the domain.
        contract: what the tensors follow.
        rows: of the manifest, by case id in its order.
        files: of each case.
        cache: where prepared arrays are.
        ignored_values: values in label files that do not count.
    """

    name: str
    contract: Contract
    rows: Mapping[str, Case]
    files: Mapping[str, CaseFiles]
    cache: Cache
    ignored_values: tuple[int, ...] = ()
    _prepared: dict[str, PreparedCase] = field(default_factory=dict, init=False, repr=False)
    _samples: dict[Split, Samples] = field(default_factory=dict, init=False, repr=False)

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Prepares all cases that are not in the cache yet.

        Args:
            progress: called with how many are done, and of how many.
        """
        for done, name in enumerate(self.rows, start=1):
            self.case(name)
            if progress is not None:
                progress(done, len(self.rows))

    def limited(self, cases: int, seed: int) -> FolderDomain:
        """A few of its train cases and nothing else, as replay may keep them: whole subjects, drawn by seed.

        Args:
            cases: at most so many. A drawn subject with more cases than are left is passed over.
            seed: of the draw.

        Raises:
            DataError: there is no train case, or no subject with so few.
        """
        if cases < 1:
            raise ValueError(f"`cases` must be at least 1; got {cases}.")
        train = [name for name, row in self.rows.items() if row.split == "train"]
        sizes = Counter(self.rows[name].subject for name in train)
        chosen: set[str] = set()
        for subject in random.Random(seed).sample(sorted(sizes), len(sizes)):
            if sizes[subject] <= cases:
                chosen.add(subject)
                cases -= sizes[subject]
        kept = [name for name in train if self.rows[name].subject in chosen]
        if not kept:
            least = f"; its subjects have at least {min(sizes.values())}" if sizes else ""
            raise DataError(f"Domain {self.name!r} has no subject with {cases} or fewer train cases{least}.")
        rows, files = {name: self.rows[name] for name in kept}, {name: self.files[name] for name in kept}
        return replace(self, rows=rows, files=files)

    def case(self, name: str) -> PreparedCase:
        """The case with this id.

        Raises:
            DataError: there is none in this domain.
        """
        if name not in self.rows:
            raise DataError(f"Domain {self.name!r} has no case {name!r}; it has {len(self.rows)} others.")
        if name not in self._prepared:
            row, files = self.rows[name], self.files[name]
            entry = prepared_entry(files, self.contract, self.cache, self.ignored_values)
            split = next(split for split in SPLITS if split == row.split)
            self._prepared[name] = PreparedCase(
                name, row.subject, self.name, split, files, self.contract, entry, row.metadata
            )
        return self._prepared[name]

    def cases(self, split: Split) -> tuple[PreparedCase, ...]:
        """The cases of one split, in the order of the manifest: complete, nothing cropped or left out.

        Raises:
            DataError: there are none.
        """
        if split not in SPLITS:
            raise ValueError(f"`split` must be one of {', '.join(SPLITS)}; got {split!r}.")
        names = [name for name, row in self.rows.items() if row.split == split]
        if not names:
            raise DataError(
                f"Domain {self.name!r} has no {split} case. Add rows with split `{split}` to its manifest.csv."
            )
        return tuple(self.case(name) for name in names)

    def samples(self, split: Split) -> Samples:
        """What `batches` yields, by index; slices that are nearly all background are left out of train and val."""
        if split not in self._samples:
            self._samples[split] = samples_of(self.cases(split), self.contract, without_background=split != "test")
        return self._samples[split]

    @cached_property
    def counts(self) -> Counts:
        """Subjects, cases and training samples of each split."""
        rows = self.rows.values()
        cases = Counter(row.split for row in rows)
        subjects = Counter(split for split, _ in {(row.split, row.subject) for row in rows})
        samples = {split: len(self.samples(split)) if cases[split] else 0 for split in SPLITS}
        return Counts(
            subjects={split: subjects[split] for split in SPLITS},
            cases={split: cases[split] for split in SPLITS},
            samples={split: samples[split] for split in SPLITS},
        )

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """Of each train and val case its SHA-256, as `CaseFiles.digest` has it."""
        return {name: self.files[name].digest(self.cache) for name, row in self.rows.items() if row.split != "test"}


@dataclass(frozen=True, eq=False)
class JointDomain(SampledDomain):
    """Several domains as one, for training on all of them: a `perdure.types.Domain`. Made by `join`.

    Args:
        name: of the whole.
        contract: the one that all of them follow.
        domains: one after the other; shuffled, they mix.
    """

    name: str
    contract: Contract
    domains: tuple[FolderDomain, ...]

    def samples(self, split: Split) -> Samples:
        """Those of each domain, one after the other; a domain without such cases adds none, unless none has any."""
        holding = [domain for domain in self.domains if any(row.split == split for row in domain.rows.values())]
        return Concatenated([domain.samples(split) for domain in holding or self.domains])

    @cached_property
    def counts(self) -> Counts:
        """The sums. A subject in two domains counts in both."""
        parts = [domain.counts for domain in self.domains]
        return Counts(
            subjects={split: sum(part.subjects[split] for part in parts) for split in SPLITS},
            cases={split: sum(part.cases[split] for part in parts) for split in SPLITS},
            samples={split: sum(part.samples[split] for part in parts) for split in SPLITS},
        )

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """Those of all domains."""
        return {name: digest for domain in self.domains for name, digest in domain.hashes.items()}


def join(domains: Sequence[FolderDomain], name: str) -> JointDomain:
    """Several domains as one, for cumulative joint training.

    Args:
        domains: at least one, all under the same contract.
        name: of the whole.

    Raises:
        DataError: they follow different contracts, or two have a case of the same id.
    """
    if not domains:
        raise ValueError("`domains` must hold at least one domain.")
    for domain in domains[1:]:
        if domain.contract != domains[0].contract:
            raise DataError(
                f"Domains {domains[0].name!r} and {domain.name!r} follow different contracts and cannot be joined; "
                "make both with the same one."
            )
    twice = [name for name, count in Counter(name for domain in domains for name in domain.rows).items() if count > 1]
    if twice:
        raise DataError(f"Case {twice[0]!r} is in two of the domains to be joined ({len(twice)} such); rename one.")
    return JointDomain(name, domains[0].contract, tuple(domains))
