from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from perdure.errors import MethodError
from perdure.importance import MAS
from perdure.release import Memory, Release
from perdure.types import Counts
from perdure.update import Recipe
from perdure.update.provenance import digest_of, digest_of_hashes, identity_of, measured
from reference.domains import SEGMENTER, TinyDomain, contract
from reference.networks import bits, network


class Recording(MAS):
    """Keeps the inputs it is shown, and measures nothing."""

    def estimate(self, model, batches, *, sum_over_processes=None, watched=None):
        self.seen.extend(x for inputs, _ in batches for x in inputs)
        return {name: torch.zeros_like(p) for name, p in model.named_parameters()}


class Recorded(MAS):
    """Reads its samples, and measures nothing."""

    def estimate(self, model, batches, *, sum_over_processes=None, watched=None):
        assert len(list(batches))
        return {name: torch.zeros_like(p) for name, p in model.named_parameters()}


def measured_samples(domain: TinyDomain, recipe: Recipe, ranks: int) -> list[list[bytes]]:
    """What each of so many processes is shown when importance is measured."""
    shown = []
    for rank in range(ranks):
        measure = Recording()
        object.__setattr__(measure, "seen", [])
        fabric = SimpleNamespace(global_rank=rank, world_size=ranks)
        measured(nn.Linear(2, 2), domain, recipe, [measure], None, fabric)
        shown.append([bits(x) for x in measure.seen])
    return shown


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_every_training_sample_is_measured_once_by_one_process(ranks: int) -> None:
    domain = TinyDomain(train=7)
    shown = measured_samples(domain, Recipe(), ranks)
    assert sorted(x for part in shown for x in part) == sorted(bits(x) for x in domain.samples("train")[0])


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 5, 6, 7, 20])
def test_a_limited_number_of_samples_is_the_same_whatever_the_processes(samples: int) -> None:
    """Exactly so many, drawn by the seed and never more; one process or several measure the same ones."""
    domain = TinyDomain(train=7)
    (alone,) = measured_samples(domain, Recipe(importance_samples=samples), 1)
    assert len(alone) == min(samples, 7)
    for ranks in (2, 3, 4):
        shown = measured_samples(domain, Recipe(importance_samples=samples), ranks)
        assert sorted(x for part in shown for x in part) == sorted(alone)


def test_the_draw_is_by_the_seed() -> None:
    domain = TinyDomain(train=30)
    one, again, other = (measured_samples(domain, Recipe(importance_samples=5, seed=seed), 1) for seed in (0, 0, 1))
    assert one == again
    assert one != other


@dataclass(frozen=True)
class Slices(TinyDomain):
    """All samples but one are slices of one subject."""

    @property
    def counts(self) -> Counts:
        return super().counts.model_copy(update={"subjects": {"train": 2, "val": 2, "test": 0}})

    def subjects_drawn(self, samples: int, seed: int) -> int:
        return 1 if samples < 4 else 2


def test_a_memory_says_of_how_many_subjects_its_importance_is(base: Release) -> None:
    def subjects(domain: TinyDomain, samples: int | None, previous: Memory | None = None) -> Memory:
        return measured(nn.Linear(2, 2), domain, Recipe(importance_samples=samples), [Recorded()], previous)

    first = subjects(TinyDomain(train=7), None)
    assert first.measures["mas"].subjects == 7
    assert subjects(TinyDomain(train=7), 20).measures["mas"].subjects == 7
    # a domain that cannot say it: nobody knows
    assert subjects(TinyDomain(train=7), 3).measures["mas"].subjects is None
    assert subjects(Slices(train=7), 3).measures["mas"].subjects == 1
    # the domain with the fewest counts, and what is not known of one is not known
    assert subjects(Slices(train=7), 4, first).measures["mas"].subjects == 2
    assert subjects(TinyDomain(train=7), None, subjects(Slices(train=7), 3)).measures["mas"].subjects == 1
    assert subjects(TinyDomain(train=7), 3, first).measures["mas"].subjects is None


def test_samples_are_measured_without_augmentation() -> None:
    domain = TinyDomain(train=7)
    (shown,) = measured_samples(domain, Recipe(augmentation=True, importance_samples=3), 1)
    assert set(shown) <= {bits(x) for x in domain.samples("train")[0]}


def test_a_release_needs_a_measure() -> None:
    with pytest.raises(MethodError, match="needs at least one measure of importance"):
        measured(nn.Linear(2, 2), TinyDomain(), Recipe(), [], None)


def test_the_digest_of_tensors_is_of_names_and_values_in_any_order() -> None:
    state = network("batch norm", 0).state_dict()
    assert digest_of(state) == digest_of(dict(reversed(state.items())))
    assert digest_of({**state, "1.num_batches_tracked": torch.tensor(1)}) != digest_of(state)
    renamed = {name.replace("4.bias", "5.bias"): tensor for name, tensor in state.items()}
    assert digest_of(renamed) != digest_of(state)


@pytest.mark.parametrize("tensor", [torch.rand(3, 4).T, torch.tensor(True), torch.rand(2).bfloat16(), torch.empty(0)])
def test_any_tensor_has_a_digest(tensor: Tensor) -> None:
    assert digest_of({"x": tensor}) == digest_of({"x": tensor.clone().contiguous()})


def test_the_digest_of_a_domain_is_one_hash_over_those_of_its_cases() -> None:
    domain = TinyDomain()
    listed = json.dumps(dict(sorted(domain.hashes.items())))
    assert digest_of_hashes(domain) == hashlib.sha256(listed.encode()).hexdigest()
    assert digest_of_hashes(TinyDomain("site-b")) != digest_of_hashes(domain)


def test_the_identity_of_an_update_has_its_parent_behind_those_of_its_parent(base: Release) -> None:
    one = identity_of(SEGMENTER, TinyDomain("site-b"), base, "updated", None, Recipe(), base.memory, {"epochs": []})
    parent = Release(base.model, base.memory, one.model_copy(update={"id": "f" * 64}), "second")
    two = identity_of(SEGMENTER, TinyDomain("site-c"), parent, "updated", None, Recipe(), base.memory, {})
    assert [seen.domain for seen in two.domains] == ["site-a", "site-b", "site-c"]
    assert [(a.id, a.name, a.domain, a.method) for a in two.lineage] == [
        (base.id, base.name, "site-a", "trained"),
        ("f" * 64, "second", "site-b", "updated"),
    ]
    assert two.domains[2].counts == TinyDomain("site-c").counts
    assert two.contract == contract()
    assert {"python", "torch", "perdure"} <= two.versions.keys()
    assert two.created.endswith("+00:00")
