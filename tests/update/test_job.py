from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from perdure.errors import UpdateError
from perdure.importance import MAS, Fisher
from perdure.methods import Method, ewc_online, finetune, joint, mas_lr
from perdure.release import Release
from perdure.update import Machine, Recipe, train, update
from perdure.update.job import Job, refuse_existing
from perdure.update.loop import Training, silent
from perdure.update.run_folder import State
from reference.domains import SEGMENTER, TinyDomain, Together, segmenter, state


@pytest.fixture
def job(network: nn.Module, recipe: Recipe) -> Job:
    return Job(network, SEGMENTER, TinyDomain(), None, finetune(), recipe, None, (MAS(),), Machine(), silent, "trained")


def differing(one: Job, other: Job) -> set[str]:
    first, second = one.identity(), other.identity()
    return {key for key in first if first[key] != second[key]}


def test_the_identity_is_json_and_the_same_for_the_same_job(job: Job) -> None:
    assert json.loads(json.dumps(job.identity())) == job.identity()
    assert job.identity() == job.identity()


def test_all_that_decides_the_result_is_in_the_identity(job: Job, base: Release) -> None:
    other = segmenter()
    second = TinyDomain("site-b")
    assert differing(job, replace(job, model=other)) == {"weights"}
    assert differing(job, replace(job, domain=second)) == {"domains"}
    assert differing(job, replace(job, domain=TinyDomain(train=9))) == {"domains"}
    assert differing(job, replace(job, method=mas_lr())) == {"method"}
    assert differing(job, replace(job, method=finetune("original"))) == {"method"}
    assert differing(job, replace(job, recipe=Recipe(seed=1))) == {"recipe"}
    assert differing(job, replace(job, parent=base)) == {"parent"}
    assert differing(job, replace(job, measures=(MAS("logits"),))) == {"measures"}
    assert differing(job, replace(job, machine=Machine(devices=2))) == {"devices"}
    assert differing(job, replace(job, machine=Machine(precision="bf16-mixed"))) == {"precision"}


def test_the_data_of_a_cumulative_job_count_beside_those_of_its_domain(job: Job) -> None:
    """Both have the same name, and neither hides the other."""
    first, second = TinyDomain("site-a"), TinyDomain("site-b")
    together = replace(job, domain=second, joint_with=Together(first, second), method=joint())
    other = replace(together, joint_with=Together(TinyDomain("site-c"), second))
    assert differing(together, other) == {"domains"}
    assert differing(together, replace(together, domain=TinyDomain("site-d"), joint_with=together.joint_with)) == {
        "domains"
    }


def test_what_changes_nothing_is_not_in_it(job: Job) -> None:
    assert differing(job, replace(job, progress=print)) == set()


def test_what_a_form_reported_stands_in_the_release_in_numbers_that_json_has(
    network: nn.Module, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Training.run

    def reporting(training: Training) -> State:
        state = run(training)
        state.report = {"steps": 9, "strength": math.inf}
        return state

    quiet = train(network, TinyDomain(), recipe=recipe)
    assert "report" not in quiet.identity.training
    monkeypatch.setattr(Training, "run", reporting)
    told = train(network, TinyDomain(), recipe=recipe)
    assert told.identity.training["report"] == {"steps": 9, "strength": None}


def auto() -> Method:
    return ewc_online("auto", allowed=0.05)


def test_a_strength_that_was_found_stands_in_the_release(recipe: Recipe, network: nn.Module) -> None:
    """Three epochs of three steps; the strength is that of the last step that was shortened."""
    parent = train(network, TinyDomain(), recipe=recipe, measures=(Fisher(),))
    report = update(parent, TinyDomain("site-b"), method=auto(), recipe=recipe).identity.training["report"]
    assert report["steps"] == 9
    assert 0 < report["shortened_steps"] <= 9
    assert report["strength"] > 0


def test_a_report_counts_on_after_an_interruption(tmp_path: Path, recipe: Recipe, network: nn.Module) -> None:
    def interrupt(what: str, *_: object) -> None:
        if what == "epoch 3 of 3":
            raise KeyboardInterrupt

    parent = train(network, TinyDomain(), recipe=recipe, measures=(Fisher(),))
    whole = update(parent, TinyDomain("site-b"), method=auto(), recipe=recipe)
    words = {"method": auto(), "recipe": recipe, "out": tmp_path / "b"}
    with pytest.raises(KeyboardInterrupt):
        update(parent, TinyDomain("site-b"), **words, progress=interrupt)
    again = update(parent, TinyDomain("site-b"), **words)
    assert again.identity.training["report"] == whole.identity.training["report"]


def test_the_release_is_opened_where_it_is_finished(tmp_path: Path, network: nn.Module, recipe: Recipe) -> None:
    def never(*_: object) -> None:
        pytest.fail("nothing is left to do")

    first = train(network, TinyDomain(), recipe=recipe, out=tmp_path / "out")
    again = train(network, TinyDomain(), recipe=recipe, out=tmp_path / "out", progress=never)
    assert again.id == first.id
    assert state(again.model) == state(first.model)
    assert again.name == "out"
    assert sorted(entry.name for entry in (tmp_path / "out.run").iterdir()) == [
        ".lock",
        "run.json",
        "tensorboard",
        "training.csv",
    ]


def test_what_is_there_without_a_run_is_never_overwritten(tmp_path: Path, network: nn.Module, recipe: Recipe) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UpdateError, match=r"out exists, and nothing is overwritten. Choose another name"):
        train(network, TinyDomain(), recipe=recipe, out=tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    refuse_existing(tmp_path / "other")


def test_a_run_with_other_settings_is_refused_before_training(tmp_path: Path, network, recipe: Recipe) -> None:
    """The fields that differ are named, whether the run is finished or not."""
    train(network, TinyDomain(), recipe=recipe, out=tmp_path / "out")
    with pytest.raises(UpdateError, match=r"run.json: belongs to a run with other settings; these differ: recipe\."):
        train(network, TinyDomain(), recipe=recipe.model_copy(update={"seed": 1}), out=tmp_path / "out")


def test_a_release_says_what_share_of_the_steps_importance_left(base: Release, recipe: Recipe) -> None:
    """The mean of 1 - Ω over parameters, and the share of those with Ω = 1, at the method's granularity."""
    once = recipe.model_copy(update={"epochs": 1})
    training = update(base, TinyDomain("site-b"), method=mas_lr("kernel"), recipe=once).identity.training
    omega = base.memory.importance("mas", "kernel")
    every = torch.cat([omega[name].expand_as(p).flatten() for name, p in base.model.named_parameters()]).double()
    assert training["mean_step_share"] == pytest.approx((1 - every).mean().item())
    assert training["fixed_share"] == pytest.approx((every == 1).double().mean().item())
    plain = update(base, TinyDomain("site-b"), method=finetune(), recipe=once).identity.training
    assert set(plain) == {"precision", "epochs", "kept_epoch"}


def test_a_machine_of_one_process_spawns_nothing() -> None:
    fabric = Machine().fabric()
    assert (fabric.world_size, str(fabric.device)) == (1, "cpu")


def test_mixed_precision_trains_and_keeps_float32_weights(network: nn.Module, recipe: Recipe) -> None:
    release = train(network, TinyDomain(), recipe=recipe, machine=Machine(precision="bf16-mixed"))
    assert {p.dtype for p in release.model.parameters()} == {torch.float32}
    assert state(release.model) != state(train(network, TinyDomain(), recipe=recipe).model)
