from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import synthetic
from perdure.data import Cache, Dataset, FolderDomain, join
from perdure.errors import DataError
from perdure.types import CountsSubjects, Domain


@pytest.fixture
def volumes(tmp_path: Path, cache: Cache) -> Dataset:
    return Dataset.open(synthetic.write_volumes(tmp_path / "v", shape=(10, 12, 11), spacing=(1, 1, 1)))


@pytest.fixture
def domain(volumes: Dataset, cache: Cache) -> FolderDomain:
    return volumes.domain("scanner-a", volumes.default_contract(cache=cache), cache=cache)


def test_it_is_a_domain_as_the_other_rooms_know_it(domain: FolderDomain, volumes: Dataset, cache: Cache) -> None:
    other = volumes.domain("scanner-b", domain.contract, cache=cache)
    assert isinstance(domain, Domain)
    assert isinstance(join([domain, other], "both"), Domain)


def test_it_counts_subjects_cases_and_samples(domain: FolderDomain) -> None:
    assert domain.counts.cases == {"train": 2, "val": 1, "test": 2}
    assert domain.counts.subjects == domain.counts.cases
    # 12 slices a volume; the first and the last hold nothing of the ellipsoid
    assert domain.counts.samples["test"] == 24
    assert 0 < domain.counts.samples["val"] < 12
    for split, samples in domain.counts.samples.items():
        drawn = list(domain.batches(split, 5))
        assert sum(len(images) for images, _ in drawn) == samples
        assert domain.steps(split, 5) == len(drawn)


def test_it_counts_the_subjects_of_the_samples_that_a_seed_draws_first(
    domain: FolderDomain, volumes: Dataset, cache: Cache
) -> None:
    assert isinstance(domain, CountsSubjects)

    def pixels(image: NDArray[np.float32]) -> bytes:
        return np.sort(image[image > 0]).tobytes()  # whatever was padded

    own = {pixels(one): case.subject for case in domain.cases("train") for one in case.image}
    for seed in range(6):
        drawn = [images.numpy() for images, _ in domain.batches("train", 1, seed=seed)]
        whose = [own[pixels(image)] for image in drawn]
        for samples in (1, 2, 3, len(drawn), len(drawn) + 1):
            assert domain.subjects_drawn(samples, seed) == len(set(whose[:samples]))
    both = join([domain, volumes.domain("scanner-b", domain.contract, cache=cache)], "both")
    assert both.subjects_drawn(both.counts.samples["train"], 0) == both.counts.subjects["train"]


def test_a_class_that_changes_in_the_manifest_changes_the_hash_of_its_case(tmp_path: Path) -> None:
    """And nothing is prepared anew, because the image is the same."""
    folder, cache = synthetic.write_classes(tmp_path / "c", cases=(2, 1, 1)), Cache(tmp_path / "cache")

    def opened() -> FolderDomain:
        dataset = Dataset.open(folder)
        return dataset.domain("hospital-a", dataset.default_contract(cache=cache), cache=cache)

    before = opened()
    before.prepare()
    entries = sorted((tmp_path / "cache" / "entries").iterdir())
    _, second, _ = before.hashes
    manifest = folder / "manifest.csv"
    lines = manifest.read_text().splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.startswith(f"{second},"))
    lines[place] = lines[place].replace(",1,abnormal", ",0,normal")
    manifest.write_text("\n".join(lines) + "\n")
    after = opened()
    after.prepare()
    assert [name for name in before.hashes if after.hashes[name] != before.hashes[name]] == [second]
    assert sorted((tmp_path / "cache" / "entries").iterdir()) == entries


def test_hashes_are_those_of_the_train_and_val_files(domain: FolderDomain, volumes: Dataset) -> None:
    expected = {}
    for row in volumes.cases:
        if row.domain == "scanner-a" and row.split != "test":
            parts = [
                hashlib.sha256((volumes.folder / name).read_bytes()).hexdigest() for name in (row.image, row.label)
            ]
            expected[row.id] = hashlib.sha256(" ".join(parts).encode()).hexdigest()
    assert domain.hashes == expected
    assert len(expected) == 3


def test_batches_hold_slices_of_the_contract_s_size(domain: FolderDomain) -> None:
    assert domain.contract.size == (16, 16)
    for images, targets in domain.batches("train", 4, seed=0):
        assert (images.dtype, targets.dtype) == (torch.float32, torch.int64)
        assert images.shape[1:] == (1, 16, 16)
        assert targets.shape[1:] == (16, 16)
        assert images.min() >= 0
        assert images.max() <= 1


def equal(one: object, other: object) -> bool:
    return all(torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def test_the_same_seed_and_epoch_give_the_same_batches_also_augmented(domain: FolderDomain) -> None:
    for augmentation in (False, True):
        runs = [
            list(domain.batches("train", 4, seed=s, epoch=e, augmentation=augmentation))
            for s, e in ((1, 0), (1, 0), (1, 1), (2, 0))
        ]
        assert equal(runs[0], runs[1])
        assert not equal(runs[0], runs[2])
        assert not equal(runs[0], runs[3])


def test_augmented_batches_are_shared_by_processes_without_a_change(domain: FolderDomain) -> None:
    def drawn(rank: int, ranks: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return list(domain.batches("train", 4, seed=3, augmentation=True, rank=rank, ranks=ranks))

    for (images, targets), *parts in zip(drawn(0, 1), drawn(0, 2), drawn(1, 2), strict=True):
        for rank, (some, truth) in enumerate(parts):
            assert torch.equal(some, images[rank::2])
            assert torch.equal(truth, targets[rank::2])


def test_a_case_that_does_not_exist_and_an_empty_split_are_errors_that_name_them(
    volumes: Dataset, cache: Cache
) -> None:
    lines = (volumes.folder / "manifest.csv").read_text().splitlines(keepends=True)
    (volumes.folder / "manifest.csv").write_text("".join(line for line in lines if ",val," not in line))
    dataset = Dataset.open(volumes.folder)
    contract = dataset.default_contract(required=("train",), cache=cache)
    domain = dataset.domain("scanner-a", contract, required=("train", "test"), cache=cache)
    assert domain.counts.samples["val"] == 0
    for call in (lambda: domain.cases("val"), lambda: domain.batches("val", 2), lambda: domain.steps("val", 2)):
        with pytest.raises(DataError, match=r"Domain 'scanner-a' has no val case. Add rows"):
            call()
    with pytest.raises(DataError, match="has no case 'nobody'"):
        domain.case("nobody")
    with pytest.raises(ValueError, match="`split` must be one of train, val, test; got 'dev'"):
        domain.cases("dev")


def test_preparing_reports_its_progress_and_happens_once(domain: FolderDomain, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    domain.prepare(lambda done, of: calls.append((done, of)))
    assert calls == [(i, 5) for i in range(1, 6)]
    monkeypatch.setattr("perdure.data.cases.prepare_image", None)
    again = FolderDomain(domain.name, domain.contract, domain.rows, domain.files, domain.cache)
    again.prepare()
    np.testing.assert_array_equal(again.cases("train")[0].image, domain.cases("train")[0].image)


def test_joined_domains_hold_the_samples_of_all_of_them_mixed(
    volumes: Dataset, domain: FolderDomain, cache: Cache
) -> None:
    other = volumes.domain("scanner-b", domain.contract, cache=cache)
    both = join([domain, other], "both")
    assert both.name == "both"
    assert both.contract == domain.contract
    for kind in ("subjects", "cases", "samples"):
        for split in ("train", "val", "test"):
            parts = [getattr(part.counts, kind)[split] for part in (domain, other)]
            assert getattr(both.counts, kind)[split] == sum(parts)
    assert both.hashes == {**domain.hashes, **other.hashes}

    def images(part: Domain, **arguments: int) -> list[bytes]:
        return [image.numpy().tobytes() for batch, _ in part.batches("train", 3, **arguments) for image in batch]

    separate = images(domain) + images(other)
    assert images(both) == separate
    mixed = images(both, seed=0)
    assert sorted(mixed) == sorted(separate)
    sources = [image in set(images(domain)) for image in mixed]
    assert sum(a != b for a, b in pairwise(sources)) > 2
    assert both.steps("train", 3) == len(list(both.batches("train", 3)))


def test_what_cannot_be_joined_is_refused(volumes: Dataset, domain: FolderDomain, cache: Cache) -> None:
    larger = volumes.domain("scanner-b", domain.contract.model_copy(update={"size": (32, 32)}), cache=cache)
    with pytest.raises(DataError, match="'scanner-a' and 'scanner-b' follow different contracts"):
        join([domain, larger], "both")
    with pytest.raises(DataError, match="Case 'scanner-a-train-0-t1' is in two of the domains"):
        join([domain, domain], "both")
    with pytest.raises(ValueError, match="at least one domain"):
        join([], "none")


@pytest.mark.parametrize("write", [synthetic.write_images, synthetic.write_classes])
def test_pictures_come_in_batches_too(write: Callable[..., Path], tmp_path: Path, cache: Cache) -> None:
    dataset = Dataset.open(write(tmp_path / "p", cases=(5, 2, 2)))
    contract = dataset.default_contract(cache=cache)
    domain = dataset.domain(dataset.domains[1], contract, cache=cache)
    (images, targets), (more, _) = domain.batches("train", 3, seed=0, augmentation=True)
    assert images.shape == (3, contract.channels, *contract.size)
    assert targets.shape == ((3, *contract.size) if contract.task == "segmentation" else (3,))
    assert len(more) == 2


def test_three_dimensional_samples_are_patches(volumes: Dataset, cache: Cache) -> None:
    contract = volumes.default_contract(spatial_dims=3, size=8, cache=cache)
    domain = volumes.domain("scanner-a", contract, cache=cache)
    # 10 x 11 x 12 voxels are covered by 2 x 2 x 2 patches of 8
    assert domain.counts.samples == {"train": 16, "val": 8, "test": 16}
    case = domain.cases("train")[0]
    assert case.image.shape == (1, 1, 10, 11, 12)
    np.testing.assert_array_equal(case.grid.labels_to_original(case.target), case.reference())
    images, targets = next(domain.batches("train", 4, seed=0, augmentation=True))
    assert images.shape == (4, 1, 8, 8, 8)
    assert targets.shape == (4, 8, 8, 8)
