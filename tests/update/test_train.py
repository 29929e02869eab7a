from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import perdure
from perdure.errors import DataError, MethodError, NetworkError, UpdateError
from perdure.importance import MAS, Importance, Scaling
from perdure.methods import Method, finetune, joint, mas_lr, method_named
from perdure.regularization import Unrestrained
from perdure.release import Release
from perdure.types import Domain
from perdure.update import Machine, Recipe, adopt, consolidate, train, update
from reference.domains import CLASSIFIER, SEGMENTER, TinyDomain, Together, classifier, segmenter, spoil, state
from reference.networks import bits, everything

FIRST, SECOND, THIRD = TinyDomain("site-a"), TinyDomain("site-b", contrast=0.5), TinyDomain("site-c", contrast=0.7)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(bits(one[name]) == bits(other[name]) for name in one)


@dataclass(frozen=True)
class Constant(Importance):
    """Somebody else's measure: every parameter matters the same."""

    value: float = 0.5

    name = "constant"

    @property
    def variant(self) -> str:
        return f"{self.value}"

    def estimate(self, model, batches, *, sum_over_processes=None, watched=None):
        list(batches)
        return {name: torch.full_like(p, self.value) for name, p in model.named_parameters()}


def refused(
    kind: type[Exception], message: str, release: Release, domain: TinyDomain, tmp_path: Path, **settings
) -> None:
    """An update that is refused before it has written anything."""
    with pytest.raises(kind, match=message):
        update(release, domain, out=tmp_path / "out", **settings)
    assert list(tmp_path.iterdir()) == []


def test_the_fake_is_a_domain() -> None:
    assert isinstance(FIRST, Domain)
    assert sum(len(x) for x, _ in FIRST.batches("train", 3, seed=0)) == 8
    assert len(list(FIRST.batches("train", 3))) == FIRST.steps("train", 3) == 3


def test_a_base_release_says_where_it_comes_from(base: Release) -> None:
    identity = base.identity
    assert (identity.origin, identity.lineage, identity.method) == ("trained", (), {"name": "trained"})
    assert [seen.domain for seen in identity.domains] == ["site-a"]
    assert identity.domains[0].counts.samples == {"train": 8, "val": 5, "test": 0}
    assert identity.contract == FIRST.contract
    assert identity.measures["mas"].domains == 1
    assert not base.model.training


def test_its_memory_is_measured_on_the_training_samples(base: Release) -> None:
    measured = MAS().estimate(base.model, [FIRST.samples("train")])
    kept = base.memory.measures["mas"]
    for name, value in measured.items():
        torch.testing.assert_close(kept.latest[name], value, rtol=1e-6, atol=0)
    assert same(kept.weights, Scaling()(kept.latest))
    assert same(base.memory.anchor, dict(base.model.named_parameters()))
    assert same(base.memory.statistics, dict(base.model.named_buffers()))


def test_the_lineage_grows_by_each_update(base: Release, recipe: Recipe, tmp_path: Path) -> None:
    second = update(base, SECOND, recipe=recipe, out=tmp_path / "second")
    third = update(second, THIRD, method=finetune(), recipe=recipe, out=tmp_path / "third")
    assert [(a.id, a.name, a.domain, a.method) for a in third.lineage] == [
        (base.id, base.name, "site-a", "trained"),
        (second.id, "second", "site-b", "dsbn"),
    ]
    assert [seen.domain for seen in third.identity.domains] == ["site-a", "site-b", "site-c"]
    assert [seen.counts for seen in third.identity.domains] == [d.counts for d in (FIRST, SECOND, THIRD)]
    assert (third.identity.origin, third.identity.method["name"]) == ("updated", "finetune")
    assert third.identity.measures["mas"].domains == 3
    assert len({base.id, second.id, third.id}) == 3
    back = Release.open(tmp_path / "third", network=segmenter(dropout=0.0))
    assert (back.identity, back.lineage) == (third.identity, third.lineage)


def test_the_memory_of_an_update_has_both_domains_and_the_new_anchor(base: Release, recipe: Recipe) -> None:
    release = update(base, SECOND, recipe=recipe)
    new = consolidate(release.model, [SECOND.samples("train")])
    before, after = base.memory.measures["mas"], release.memory.measures["mas"]
    assert after.domains == 2
    for name, value in after.weights.items():
        torch.testing.assert_close(value, (before.weights[name] + new.weights[name]) / 2, rtol=1e-5, atol=1e-6)
    assert same(release.memory.anchor, dict(release.model.named_parameters()))
    # the original ones, not those of the model after the update
    assert same(release.memory.statistics, base.memory.statistics)


def test_an_update_leaves_its_parent_as_it_was(base: Release, recipe: Recipe) -> None:
    before = everything(base.model), {name: bits(value) for name, value in base.memory.weights.items()}
    release = update(base, SECOND, recipe=recipe)
    after = everything(base.model), {name: bits(value) for name, value in base.memory.weights.items()}
    for one, other in zip(before, after, strict=True):
        one.pop("random numbers", None)
        other.pop("random numbers", None)
    assert after == before
    assert state(release.model) != state(base.model)
    assert release.model is not base.model


@pytest.mark.parametrize("start", [train, adopt])
def test_the_callers_network_stays_as_it_is(start, recipe: Recipe, tmp_path: Path) -> None:
    """Values, modes and gradients, also where weights are read from a file."""
    network = segmenter().train()
    save_file({name: tensor.clone() + 1 for name, tensor in network.state_dict().items()}, tmp_path / "w.safetensors")
    before = everything(network)
    release = start(
        network, FIRST, weights=tmp_path / "w.safetensors", **({"recipe": recipe} if start is train else {})
    )
    after = everything(network)
    for record in (before, after):
        record.pop("random numbers")
    assert after == before
    assert not {p.data_ptr() for p in network.parameters()} & {p.data_ptr() for p in release.model.parameters()}


def test_a_network_by_its_spec_is_built_by_the_seed(recipe: Recipe) -> None:
    build = {"recipe": recipe, "trusted": ("reference",)}
    one, again = train(SEGMENTER, FIRST, **build), train(SEGMENTER, FIRST, **build)
    other = train(SEGMENTER, FIRST, trusted=("reference",), recipe=recipe.model_copy(update={"seed": 1}))
    assert state(one.model) == state(again.model) != state(other.model)
    assert one.identity.network.factory == "reference.domains:segmenter"
    with pytest.raises(NetworkError, match="runs only if you allow it"):
        train(SEGMENTER, FIRST, recipe=recipe)


def test_pretrained_weights_are_loaded_and_a_head_of_other_classes_starts_anew(recipe: Recipe, tmp_path: Path) -> None:
    pretrained = segmenter(classes=7)
    save_file(pretrained.state_dict(), tmp_path / "weights.safetensors")
    network = segmenter(dropout=0.0)
    frozen = recipe.model_copy(update={"learning_rate": 1e-30, "epochs": 1})
    release = train(network, FIRST, recipe=frozen, weights=tmp_path / "weights.safetensors")
    assert bits(release.model[1].weight) == bits(pretrained[1].weight)
    assert bits(release.model[5].weight) == bits(network[5].weight)


def test_adopted_weights_are_kept_bit_for_bit_and_measured(tmp_path: Path) -> None:
    trained = classifier()
    torch.save(trained.state_dict(), tmp_path / "theirs.pt")
    domain = TinyDomain("site-a", "classification")
    release = adopt(
        CLASSIFIER, domain, weights=tmp_path / "theirs.pt", out=tmp_path / "adopted", trusted=("reference",)
    )
    assert state(release.model) == state(trained)
    assert (release.identity.origin, release.name) == ("adopted", "adopted")
    assert release.identity.training == {"samples_measured": None}
    measured = MAS().estimate(trained, [domain.samples("train")])
    for name, value in measured.items():
        torch.testing.assert_close(release.memory.measures["mas"].latest[name], value, rtol=1e-6, atol=0)


def test_adopted_networks_may_be_measured_on_some_samples() -> None:
    release = adopt(classifier(), TinyDomain(task="classification", train=20), samples=3, seed=4)
    assert release.identity.training == {"samples_measured": 3}
    everything_measured = adopt(classifier(), TinyDomain(task="classification", train=20))
    assert not same(release.memory.measures["mas"].latest, everything_measured.memory.measures["mas"].latest)


def test_adopting_refuses_an_existing_folder_before_it_measures(tmp_path: Path) -> None:
    class Never(TinyDomain):
        def batches(self, *_: object, **__: object):
            pytest.fail("nothing must be measured")

    (tmp_path / "out").mkdir()
    with pytest.raises(UpdateError, match="out exists, and nothing is overwritten"):
        adopt(classifier(), Never(task="classification"), out=tmp_path / "out")


def test_weights_that_do_not_fit_an_adopted_network_are_refused(tmp_path: Path) -> None:
    """Its head is part of what is adopted: it does not start anew."""
    save_file(segmenter(classes=7).state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(NetworkError, match=r"5.weight: found shape"):
        adopt(segmenter(), FIRST, weights=tmp_path / "weights.safetensors")


def test_a_strangers_network_is_adopted_and_updated_by_every_method(recipe: Recipe, tmp_path: Path) -> None:
    """No batch norm, one linear head, not importable by name."""

    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(36, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.flatten(1))

    domains = [TinyDomain(name, "classification") for name in ("site-a", "site-b")]
    adopted = adopt(Theirs(), domains[0], out=tmp_path / "adopted")
    for method in (finetune("original"), mas_lr(batch_norm="original"), mas_lr("parameter"), joint()):
        together = Together(*domains) if method.data == "cumulative" else None
        release = update(adopted, domains[1], method=method, recipe=recipe, joint_with=together)
        assert state(release.model) != state(adopted.model)
        assert release.memory.statistics == {}
    back = Release.open(tmp_path / "adopted", network=Theirs())
    assert state(back.model) == state(adopted.model)


def test_a_domain_of_another_contract_is_refused(classifying: Release, tmp_path: Path) -> None:
    message = "'site-b' was prepared for another input contract than that of release 'release'"
    refused(UpdateError, message, classifying, SECOND, tmp_path)


def test_a_domain_that_was_learnt_already_is_refused(base: Release, tmp_path: Path) -> None:
    refused(UpdateError, "Release 'release' has learnt domain 'site-a' already", base, FIRST, tmp_path)


def test_old_data_go_with_cumulative_methods_only(base: Release, tmp_path: Path) -> None:
    together = Together(FIRST, SECOND)
    refused(MethodError, "'joint' needs the data of earlier domains", base, SECOND, tmp_path, method=joint())
    refused(MethodError, "'dsbn' does not use the data of", base, SECOND, tmp_path, joint_with=together)


def test_old_data_without_the_new_ones_are_refused(base: Release, tmp_path: Path) -> None:
    """Otherwise the release would claim a domain that it has never trained on."""
    message = "`joint_with` lacks cases of the new domain 'site-b'"
    refused(UpdateError, message, base, SECOND, tmp_path, method=joint(), joint_with=FIRST)


def test_old_data_of_another_contract_are_refused(base: Release, tmp_path: Path) -> None:
    other = TinyDomain("site-a", "classification")
    message = "'site-a' was prepared for another input contract"
    refused(UpdateError, message, base, SECOND, tmp_path, method=joint(), joint_with=other)


def test_importance_that_was_not_measured_is_asked_for_before_training(base: Release, tmp_path: Path) -> None:
    method = replace(mas_lr(), importance=MAS("logits"))
    message = (
        "'mas-lr' needs the importance 'mas-logits', and release 'release' carries only: mas. It has to be measured"
    )
    refused(MethodError, message, base, SECOND, tmp_path, method=method)


def test_importance_that_was_scaled_otherwise_is_refused_before_training(base: Release, tmp_path: Path) -> None:
    method = replace(mas_lr(), importance=MAS(scaling=Scaling(scope="layer")))
    refused(
        MethodError, "needs the importance 'mas-.*', and .* carries only: mas", base, SECOND, tmp_path, method=method
    )


def test_several_measures_are_carried_on(recipe: Recipe) -> None:
    first = train(segmenter(), FIRST, recipe=recipe, measures=(MAS(), MAS("logits")))
    second = update(first, SECOND, recipe=recipe)
    assert {key: measure.domains for key, measure in second.memory.measures.items()} == {"mas": 2, "mas-logits": 2}


def test_somebody_elses_measure_is_carried_on_by_a_method_that_takes_it(recipe: Recipe, tmp_path: Path) -> None:
    first = train(segmenter(), FIRST, recipe=recipe, measures=(Constant(0.5),))
    method = Method("theirs", "somebody", "", Unrestrained(), Constant(0.5))
    second = update(first, SECOND, method=method, recipe=recipe)
    assert {key: measure.domains for key, measure in second.memory.measures.items()} == {"constant-0.5": 2}
    message = "'constant-0.5' .*, which is not ours and which method 'finetune' does not measure"
    refused(MethodError, message, first, SECOND, tmp_path, method=finetune())


def test_what_was_frozen_when_it_was_measured_has_to_be_frozen_again(recipe: Recipe, tmp_path: Path) -> None:
    """A parameter without importance would train without restraint, and nobody would be told."""
    network = segmenter()
    network[1].requires_grad_(False)
    first = train(network, FIRST, recipe=recipe, out=tmp_path / "first", measures=(MAS(),))
    assert "1.weight" not in first.memory.weights
    assert state(update(first, SECOND, recipe=recipe).model)["1.weight"] == bits(network[1].weight)
    reopened = Release.open(tmp_path / "first", network=segmenter())
    with pytest.raises(MethodError, match=r"trainable parameters differ in \['1.bias', '1.weight'\]. Freeze what was"):
        update(reopened, SECOND, recipe=recipe)


def test_the_recipe_is_that_of_task_stage_and_policy_if_none_is_given(classifying: Release, monkeypatch) -> None:
    """30 epochs of Adam at 2e-5 under original statistics, here stopped at once."""
    monkeypatch.setattr("perdure.update.loop.Training._is_done", lambda self, history: len(history) == 1)
    release = update(classifying, TinyDomain("site-b", "classification"), method=mas_lr(batch_norm="original"))
    assert release.identity.recipe["learning_rate"] == pytest.approx(2e-5)
    assert release.identity.recipe["optimizer"] == "adam"
    assert release.identity.method["batch_norm"] == "original"


def test_the_room_can_be_called_like_its_main_function(base: Release, recipe: Recipe) -> None:
    release = perdure.update(base, SECOND, method=method_named("finetune"), recipe=recipe)
    assert state(release.model) == state(update(base, SECOND, method=finetune(), recipe=recipe).model)


def test_no_tensor_of_a_release_has_a_sample_axis(base: Release, recipe: Recipe, tmp_path: Path) -> None:
    update(base, SECOND, recipe=recipe, out=tmp_path / "out")
    own = {name: tensor.shape for name, tensor in base.model.state_dict().items()}
    for file in ("weights.safetensors", "memory.safetensors"):
        for name, tensor in load_file(tmp_path / "out" / file).items():
            assert tensor.shape == own[name.split("/")[-1]]


@pytest.fixture(scope="module")
def by_one_and_by_two(base: Release) -> tuple[Release, Release]:
    """The same update, by one process and by two."""
    recipe = Recipe(learning_rate=0.02, epochs=2, batch_size=3, importance_samples=5)
    one, two = (
        update(base, SECOND, method=mas_lr(), recipe=recipe, machine=Machine(devices=number)) for number in (1, 2)
    )
    return one, two


def test_two_processes_end_with_the_weights_and_statistics_of_one(by_one_and_by_two: tuple[Release, Release]) -> None:
    """Batches of 3 over two processes, and a last one of 2: shares of 2 and 1, within float error."""
    one, two = by_one_and_by_two
    theirs = two.model.state_dict()
    for name, tensor in one.model.state_dict().items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-4, atol=1e-5)
    losses = [[epoch["loss"] for epoch in release.identity.training["epochs"]] for release in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_two_processes_measure_the_importance_of_one(by_one_and_by_two: tuple[Release, Release]) -> None:
    """Here of 5 of the 8 samples, the same ones."""
    one, two = (release.memory.measures["mas"].latest for release in by_one_and_by_two)
    largest = max(value.max().item() for value in one.values())
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-4 * largest)


def test_an_error_in_one_process_arrives_as_what_it_was(tmp_path: Path, recipe: Recipe) -> None:
    """The epoch before is kept."""
    with pytest.raises(DataError, match=r"^brain.nii: cannot be read; copy it again.$"):
        train(segmenter(), replace(FIRST, watch=spoil), recipe=recipe, machine=Machine(devices=2), out=tmp_path / "out")
    # behind 32 bytes of its SHA-256
    saved = (tmp_path / "out.run" / "checkpoint.pt").read_bytes()[32:]
    kept = torch.load(io.BytesIO(saved), weights_only=True)
    assert len(kept["history"]) == 1
    assert not (tmp_path / "out").exists()
