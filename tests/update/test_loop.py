from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from perdure.errors import DivergenceError
from perdure.importance import SI
from perdure.methods import finetune, joint, mas_lr
from perdure.regularization import (
    FORMS,
    Distillation,
    Freezing,
    LearningRate,
    Regularizer,
    SurrogateLoss,
    Unrestrained,
)
from perdure.release import Release
from perdure.update import Machine, Recipe, train, update
from perdure.update.loop import Training
from reference.domains import TinyDomain, Together, classifier, segmenter, state
from reference.networks import bits
from reference.training import trained


class Interrupted:
    """A progress callback that stops the run like Ctrl-C, in one step of one epoch."""

    def __init__(self, epoch: int, step: int) -> None:
        self.where = (epoch, step)

    def __call__(self, what: str, done: int, total: int, loss: float | None) -> None:
        if what.startswith("epoch") and (int(what.split()[1]), done) == self.where:
            raise KeyboardInterrupt


def told(record: list[tuple[str, int, int, float | None]]) -> Callable[..., None]:
    return lambda *news: record.append(news)


def facts(release: Release) -> dict[str, object]:
    """All that a release says of itself but the moment, and what follows from it."""
    return release.identity.model_dump(mode="json", exclude={"created", "id", "lineage"})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.1, "augmentation": True},
        {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.5, "clip_norm": 0.1, "seed": 5},
        {"weight_decay": 0.01, "clip_norm": 0.5, "milestones": (), "batch_size": 5, "epochs": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_training_is_a_plain_torch_loop_bit_for_bit(task: str, settings: dict[str, object], recipe: Recipe) -> None:
    """The same batches, rates, optimizer and clipping: parameters and batch-norm statistics agree."""
    recipe = recipe.model_copy(update=settings)
    torch.manual_seed(1)
    model = segmenter(dropout=0.0) if task == "segmentation" else classifier()
    domain = TinyDomain(task=task)
    assert state(train(model, domain, recipe=recipe).model) == state(trained(model, domain, recipe))


def test_fine_tuning_goes_on_from_the_release_with_a_new_optimizer(base: Release, recipe: Recipe) -> None:
    domain = TinyDomain("site-b", contrast=0.5)
    found = update(base, domain, method=finetune(), recipe=recipe)
    assert state(found.model) == state(trained(base.model, domain, recipe))


def test_mas_lr_takes_the_share_of_each_step_that_importance_leaves(base: Release, recipe: Recipe) -> None:
    """One step by hand, in float64: θ - (1 - Ω) (θ - θ_SGD), Ω the filter means of the release's memory."""
    domain = TinyDomain("site-b", train=3, contrast=0.5)
    once = recipe.model_copy(update={"epochs": 1, "milestones": ()})
    omega = base.memory.importance("mas", "filter")
    old, new = dict(base.model.named_parameters()), dict(trained(base.model, domain, once).named_parameters())
    found = dict(update(base, domain, method=mas_lr(), recipe=once).model.named_parameters())
    for name, before in old.items():
        step = new[name].detach().double() - before.detach().double()
        expected = before.detach().double() + (1 - omega[name].double()) * step
        torch.testing.assert_close(found[name].detach().double(), expected, rtol=3e-7, atol=3e-8)


@pytest.mark.parametrize("method", [finetune("original"), mas_lr(batch_norm="original")], ids=lambda m: m.name)
def test_under_original_no_buffer_changes_by_a_bit_while_parameters_train(base: Release, recipe, method) -> None:
    before = state(base.model)
    after = state(update(base, TinyDomain("site-b"), method=method, recipe=recipe).model)
    for name, _ in base.model.named_buffers():
        assert after[name] == before[name]
    omega = {} if method.importance is None else base.memory.importance("mas", method.granularity)
    trains = {name for name, _ in base.model.named_parameters() if name not in omega or omega[name].min() < 1}
    assert {"1.weight", "3.bias", "5.weight"} <= trains
    assert all((after[name] != before[name]) == (name in trains) for name, _ in base.model.named_parameters())


def test_under_target_every_statistic_changes(base: Release, recipe: Recipe) -> None:
    before = state(base.model)
    after = state(update(base, TinyDomain("site-b"), method=mas_lr(), recipe=recipe).model)
    assert all(after[name] != before[name] for name, _ in base.model.named_buffers())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(("epoch", "step"), [(1, 2), (2, 1), (3, 2)])
def test_a_run_that_was_interrupted_ends_as_if_it_were_not(
    tmp_path: Path, optimizer, epoch, step, network, recipe
) -> None:
    """In the middle of an epoch, with dropout, augmentation, momentum and early stopping: bit for bit."""
    recipe = recipe.model_copy(
        update={"optimizer": optimizer, "learning_rate": 0.02, "augmentation": True, "patience": 5}
    )
    domain = TinyDomain(train=9)
    whole = train(network, domain, recipe=recipe)
    with pytest.raises(KeyboardInterrupt):
        train(network, domain, recipe=recipe, out=tmp_path / "out", progress=Interrupted(epoch, step))
    assert not (tmp_path / "out").exists()
    steps: list[tuple[str, int, int, float | None]] = []
    again = train(network, domain, recipe=recipe, out=tmp_path / "out", progress=told(steps))
    assert state(again.model) == state(whole.model)
    assert facts(again) == facts(whole)
    # only what was lost is done again
    assert steps[0][:3] == (f"epoch {epoch} of 3", 1, 3)


def test_an_update_that_was_interrupted_ends_as_if_it_were_not(tmp_path: Path, base: Release, recipe: Recipe) -> None:
    domain = TinyDomain("site-b", contrast=0.5)
    whole = update(base, domain, method=mas_lr(), recipe=recipe)
    for place in ((2, 2), (3, 1)):
        with pytest.raises(KeyboardInterrupt):
            update(base, domain, method=mas_lr(), recipe=recipe, out=tmp_path / "out", progress=Interrupted(*place))
    again = update(base, domain, method=mas_lr(), recipe=recipe, out=tmp_path / "out")
    assert state(again.model) == state(whole.model)
    assert facts(again) == facts(whole)


def test_a_run_that_was_interrupted_while_importance_was_measured_trains_no_more(
    tmp_path: Path, network, recipe
) -> None:
    def stop(what: str, *_: object) -> None:
        if what == "measuring importance":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network, TinyDomain(), recipe=recipe, out=tmp_path / "out", progress=stop)
    steps: list[tuple[str, int, int, float | None]] = []
    again = train(network, TinyDomain(), recipe=recipe, out=tmp_path / "out", progress=told(steps))
    assert [what for what, *_ in steps] == ["measuring importance"]
    assert state(again.model) == state(train(network, TinyDomain(), recipe=recipe).model)


def with_validation_losses(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    """Each epoch has the validation loss that is said."""
    measure = Training._validation_loss
    told = iter(losses)

    def validation_loss(self: Training, loss_function) -> float:
        measure(self, loss_function)
        return next(told)

    monkeypatch.setattr(Training, "_validation_loss", validation_loss)


def test_early_stopping_keeps_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of 9 epochs is best, and of the first two equal ones the first; two later ones are no better."""
    with_validation_losses(monkeypatch, [3.0, 1.0, 1.0, 2.0, 0.5])
    recipe = Recipe(learning_rate=0.05, epochs=9, batch_size=3, patience=2, milestones=())
    model, domain = segmenter(dropout=0.0), TinyDomain()
    release = train(model, domain, recipe=recipe)
    assert [epoch["validation_loss"] for epoch in release.identity.training["epochs"]] == [3.0, 1.0, 1.0, 2.0]
    assert state(release.model) == state(trained(model, domain, recipe, epochs=2))


def test_importance_is_that_of_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    with_validation_losses(monkeypatch, [1.0, 2.0])
    recipe = Recipe(learning_rate=0.05, epochs=2, batch_size=3, patience=5, milestones=())
    release = train(segmenter(), TinyDomain(), recipe=recipe)
    assert {n: v.tolist() for n, v in release.memory.anchor.items()} == {
        n: p.tolist() for n, p in release.model.named_parameters()
    }


@pytest.mark.parametrize("interrupted", [None, (2, 2), (4, 1)])
def test_importance_gathered_in_training_is_that_of_the_best_epoch(
    interrupted: tuple[int, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ended at the best epoch, the second of four, has the same path; also where it lies in a checkpoint."""
    recipe = Recipe(learning_rate=0.05, epochs=9, batch_size=3, patience=2, milestones=())
    model, domain, losses = segmenter(), TinyDomain(), [3.0, 1.0, 2.0, 4.0]
    if interrupted is not None:
        with_validation_losses(monkeypatch, losses)
        stop = Interrupted(*interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(model, domain, recipe=recipe, measures=(SI(),), out=tmp_path / "out", progress=stop)
        monkeypatch.undo()
        losses = losses[interrupted[0] - 1 :]
    with_validation_losses(monkeypatch, losses)
    found = train(model, domain, recipe=recipe, measures=(SI(),), out=tmp_path / "out")
    monkeypatch.undo()
    assert len(found.identity.training["epochs"]) == 4
    ended = train(model, domain, recipe=recipe.model_copy(update={"epochs": 2, "patience": None}), measures=(SI(),))
    expected = ended.memory.measures["si"].latest
    assert any(omega.any() for omega in expected.values())
    assert {name: bits(omega) for name, omega in found.memory.measures["si"].latest.items()} == {
        name: bits(omega) for name, omega in expected.items()
    }


def test_early_stopping_goes_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best epoch lies before it."""
    recipe = Recipe(learning_rate=0.05, epochs=9, batch_size=3, patience=2, milestones=())
    model, domain = segmenter(), TinyDomain()
    with_validation_losses(monkeypatch, [3.0, 1.0, 2.0])
    with pytest.raises(KeyboardInterrupt):
        train(model, domain, recipe=recipe, out=tmp_path / "out", progress=Interrupted(4, 1))
    monkeypatch.undo()
    with_validation_losses(monkeypatch, [4.0])
    release = train(model, domain, recipe=recipe, out=tmp_path / "out")
    monkeypatch.undo()
    assert len(release.identity.training["epochs"]) == 4
    twice = train(model, domain, recipe=recipe.model_copy(update={"epochs": 2, "patience": None}))
    assert state(release.model) == state(twice.model)


@pytest.mark.parametrize(("patience", "val"), [(None, 5), (1, 0)])
def test_without_patience_or_validation_the_last_epoch_is_kept(monkeypatch, patience, val) -> None:
    if val:
        with_validation_losses(monkeypatch, [1.0, 2.0, 3.0])
    recipe = Recipe(learning_rate=0.05, epochs=3, batch_size=3, patience=patience)
    model, domain = segmenter(dropout=0.0), TinyDomain(val=val)
    release = train(model, domain, recipe=recipe)
    assert state(release.model) == state(trained(model, domain, recipe))
    losses = [epoch["validation_loss"] for epoch in release.identity.training["epochs"]]
    assert losses == ([1.0, 2.0, 3.0] if val else [None] * 3)


def test_the_validation_loss_is_that_of_the_model_in_use(recipe: Recipe) -> None:
    """In evaluation mode, the mean over batches of the validation samples."""
    domain = TinyDomain(val=5, task="classification")
    release = train(classifier(dropout=0.5), domain, recipe=recipe.model_copy(update={"batch_size": 5}))
    inputs, target = domain.samples("val")
    expected = nn.functional.cross_entropy(release.model(inputs), target)
    assert release.identity.training["epochs"][-1]["validation_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_what_happened_is_logged_and_recorded(tmp_path: Path, network: nn.Module, recipe: Recipe) -> None:
    steps: list[tuple[str, int, int, float | None]] = []
    release = train(network, TinyDomain(), recipe=recipe, out=tmp_path / "out", progress=told(steps))
    epochs = release.identity.training["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    assert [epoch["learning_rate"] for epoch in epochs] == [0.05, 0.025, 0.0125]
    assert all(epoch["loss"] > 0 and epoch["gradient_norm"] > 0 and epoch["penalty"] == 0 for epoch in epochs)
    with (tmp_path / "out.run" / "training.csv").open(newline="") as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == [epoch["loss"] for epoch in epochs]
    assert list((tmp_path / "out.run" / "tensorboard").glob("events.out.tfevents.*"))
    assert [step[:3] for step in steps] == [
        *((f"epoch {epoch} of 3", step, 3) for epoch in (1, 2, 3) for step in (1, 2, 3)),
        ("measuring importance", 0, 1),
    ]
    first = [loss for what, _, _, loss in steps if what == "epoch 1 of 3"]
    assert sum(first) / 3 == pytest.approx(epochs[0]["loss"])


def test_a_run_that_diverges_stops_and_keeps_the_last_good_epoch(tmp_path: Path, network, recipe: Recipe) -> None:
    """Its images become NaN in the second epoch."""

    class Spoilt(TinyDomain):
        def batches(self, split, batch_size, **order):
            for inputs, target in super().batches(split, batch_size, **order):
                yield inputs + (math.nan if order.get("epoch") == 1 else 0), target

    with pytest.raises(DivergenceError) as error:
        train(network, Spoilt(), recipe=recipe, out=tmp_path / "out")
    assert str(error.value).startswith("The loss became nan in epoch 2, step 1. Lower the learning rate")
    assert str(error.value).endswith(f"Last good state: epoch 1 is kept in {tmp_path / 'out.run'}.")
    # behind 32 bytes of its SHA-256
    saved = (tmp_path / "out.run" / "checkpoint.pt").read_bytes()[32:]
    kept = torch.load(io.BytesIO(saved), weights_only=True)
    assert len(kept["history"]) == 1
    assert all(tensor.isfinite().all() for tensor in kept["model"].values())
    assert not (tmp_path / "out").exists()


def test_after_an_interruption_a_loss_still_explodes_against_the_first_of_the_run(tmp_path: Path, monkeypatch) -> None:
    """Images are a thousand times as bright from the second epoch on, which begins after the interruption."""

    class Brighter(TinyDomain):
        def batches(self, split, batch_size, **order):
            for inputs, target in super().batches(split, batch_size, **order):
                yield inputs * (1000 if order.get("epoch", 0) > 0 else 1), target

    def stop(self: Training, history: list[object]) -> bool:
        if history:
            raise KeyboardInterrupt
        return False

    settings = {"recipe": Recipe(learning_rate=1e-6, epochs=2, batch_size=3), "out": tmp_path / "out"}
    network, domain = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), Brighter(task="classification")
    monkeypatch.setattr(Training, "_is_done", stop)
    with pytest.raises(KeyboardInterrupt):
        train(network, domain, **settings)
    monkeypatch.undo()
    with pytest.raises(DivergenceError, match=r"The loss rose from 1\.\d+ to \d+.* by epoch 2, step 1"):
        train(network, domain, **settings)


def test_a_run_that_diverges_at_once_says_that_nothing_is_kept(network: nn.Module, recipe: Recipe) -> None:
    with pytest.raises(DivergenceError, match="Last good state: no epoch was finished"):
        train(network, TinyDomain(contrast=math.inf), recipe=recipe)


def test_a_validation_loss_that_is_no_number_stops_the_run(network: nn.Module, recipe: Recipe) -> None:
    class Spoilt(TinyDomain):
        def samples(self, split: str) -> tuple[Tensor, Tensor]:
            inputs, target = super().samples(split)
            return (inputs * math.nan if split == "val" else inputs), target

    with pytest.raises(DivergenceError, match=r"The validation loss became nan after epoch 1\..*no epoch was finished"):
        train(network, Spoilt(), recipe=recipe)


MIXED: list[Regularizer] = [
    Unrestrained(), SurrogateLoss(1.0, "none"), SurrogateLoss(1.0, "none", step="explicit"), LearningRate(), Freezing(),
    Freezing(hold="gradient"), Distillation(),
]  # fmt: skip


@pytest.mark.parametrize("form", MIXED, ids=repr)
def test_every_form_trains_in_mixed_precision(form: Regularizer, base: Release, recipe: Recipe) -> None:
    """Near where it ends in single precision, and with the same to say of its last step."""
    method = replace(mas_lr(), name="form", granularity="parameter", regularizer=form)
    domain, once = TinyDomain("site-b", contrast=0.5), recipe.model_copy(update={"epochs": 2, "learning_rate": 0.01})
    single, mixed = (
        update(base, domain, method=method, recipe=once, machine=Machine(precision=precision))
        for precision in ("32-true", "bf16-mixed")
    )
    for name, tensor in single.model.state_dict().items():
        torch.testing.assert_close(mixed.model.state_dict()[name], tensor, rtol=0.02, atol=0.002)
    assert state(mixed.model) != state(single.model)
    found, expected = (release.identity.training["epochs"][-1] for release in (mixed, single))
    for fact, value in expected.items():
        assert found[fact] == (None if value is None else pytest.approx(value, rel=0.05, abs=1e-3)), fact


def test_no_form_is_left_out_of_mixed_precision() -> None:
    assert {type(form) for form in MIXED} == set(FORMS.values())


def test_a_cumulative_run_trains_on_all_domains_together(base: Release, recipe: Recipe) -> None:
    first, second = TinyDomain("site-a"), TinyDomain("site-b", contrast=0.5)
    seen: list[tuple[int, int]] = []
    watched = replace(first, watch=lambda rank, epoch: seen.append((rank, epoch)))
    release = update(base, second, method=joint(), recipe=recipe, joint_with=Together(watched, second))
    assert seen == [(0, 0), (0, 1), (0, 2)]
    assert state(release.model) != state(update(base, second, method=finetune(), recipe=recipe).model)
