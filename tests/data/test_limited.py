from __future__ import annotations

from pathlib import Path

import pytest

import synthetic
from perdure.data import Cache, Dataset, FolderDomain, join
from perdure.errors import DataError


@pytest.fixture
def domain(tmp_path: Path, cache: Cache) -> FolderDomain:
    """Pictures of eleven subjects in train: `subject-0` has one, the others one or two."""
    folder = synthetic.write_images(tmp_path / "d", domains=("a", "b"), cases=(20, 2, 2), size=(16, 16))
    manifest = folder / "manifest.csv"
    text = manifest.read_text()
    for second in range(10, 20):
        text = text.replace(f",a-train-{second},", f",a-train-{second - 10},")
    manifest.write_text(text.replace(",a-train-0,", ",alone,", 1))
    dataset = Dataset.open(folder)
    return dataset.domain("a", dataset.default_contract(cache=cache), cache=cache)


def subjects(domain: FolderDomain) -> set[str]:
    return {row.subject for row in domain.rows.values()}


@pytest.mark.parametrize("cases", [1, 2, 3, 4, 7])
def test_it_holds_at_most_so_many_train_cases_of_whole_subjects(domain: FolderDomain, cases: int) -> None:
    for seed in range(5):
        few = domain.limited(cases, seed)
        # one subject or more has a single case, so every number can be reached or missed by one
        assert cases - 1 <= len(few.rows) <= cases
        whole = [name for name, row in domain.rows.items() if row.subject in subjects(few) and row.split == "train"]
        assert list(few.rows) == whole


def test_nothing_but_train_cases_is_kept(domain: FolderDomain) -> None:
    few = domain.limited(4, 0)
    assert (few.counts.cases["val"], few.counts.cases["test"]) == (0, 0)
    assert set(few.files) == set(few.rows) == set(few.hashes)
    assert few.hashes.items() <= domain.hashes.items()
    assert (few.name, few.contract) == (domain.name, domain.contract)


def test_the_seed_decides_which(domain: FolderDomain) -> None:
    assert domain.limited(4, 1).rows == domain.limited(4, 1).rows
    assert len({frozenset(domain.limited(4, seed).rows) for seed in range(8)}) > 1


def test_with_room_for_all_it_has_every_train_case(domain: FolderDomain) -> None:
    assert domain.limited(1000, 0).counts.cases == {"train": 20, "val": 0, "test": 0}


def test_the_domain_itself_keeps_what_it_has(domain: FolderDomain) -> None:
    before = domain.counts
    domain.limited(2, 0)
    assert domain.counts == before


def test_joined_to_a_new_domain_it_adds_train_samples_alone(domain: FolderDomain) -> None:
    new = Dataset.open(domain.files["a-train-1-eye"].image.parents[2]).domain("b", domain.contract, cache=domain.cache)
    both = join([new, domain.limited(4, 0)], "b")
    assert both.counts.samples["train"] == 20 + len(domain.limited(4, 0).rows)
    assert sum(len(images) for images, _ in both.batches("val", 2)) == both.counts.samples["val"] == 2


def test_no_subject_that_is_small_enough_is_an_error(domain: FolderDomain) -> None:
    pairs = domain.limited(1000, 0)
    twos = {name for name, row in pairs.rows.items() if sum(r.subject == row.subject for r in pairs.rows.values()) == 2}
    only = type(pairs)(
        "a", pairs.contract, {n: pairs.rows[n] for n in pairs.rows if n in twos}, pairs.files, pairs.cache
    )
    with pytest.raises(DataError, match="'a' has no subject with 1 or fewer train cases; its subjects have at least 2"):
        only.limited(1, 0)


def test_fewer_than_one_case_is_an_error(domain: FolderDomain) -> None:
    with pytest.raises(ValueError, match="`cases` must be at least 1; got 0"):
        domain.limited(0, 0)
