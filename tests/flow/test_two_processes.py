"""Two processes share each batch and end with the same weights and importance as one, within rounding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import synthetic
from command import in_a_process_of_its_own, quietly
from perdure.importance import MAS, SI, Fisher
from perdure.methods import Method, ewc, finetune, lwf, mas, mas_fix, mas_lr, si
from perdure.methods.dsbn import RATES
from perdure.regularization import FORMS, SurrogateLoss
from perdure.release import Release
from perdure.update import Recipe, train, update
from reference.domains import TinyDomain, segmenter
from reference.pair import by_two_processes

METHODS: dict[str, Method] = {
    "finetune": finetune(), "mas, proximal": mas(1.0), "mas-lr": mas_lr(), "mas-fix": mas_fix(), "lwf": lwf(),
    "ewc, explicit": replace(ewc(), regularizer=SurrogateLoss(0.1, "half", "each", "explicit")), "si": si(),
}  # fmt: skip


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a base release, and its update in one process."""
    folder = tmp_path_factory.mktemp("one")
    data = synthetic.write_images(folder / "data", domains=("a", "b"), cases=(5, 1, 1), size=(24, 24))
    network = ("--filters", 3, "--kernel-size", 3, "--size", 24)
    quietly("train", "--data", data, "--domain", "a", *network, "--epochs", 2, "--out", folder / "base")
    quietly(*words(folder, folder / "one"))
    return folder


def words(folder: Path, out: Path) -> tuple[object, ...]:
    # 5 samples in batches of 4: the two processes do not have equally many, and the last batch has one
    where = ("--release", folder / "base", "--data", folder / "data", "--domain", "b", "--out", out)
    return "update", *where, "--epochs", 2, "--batch-size", 4, "--precision", "32-true"


def test_an_update_by_two_processes(one: Path, tmp_path: Path) -> None:
    ended = in_a_process_of_its_own(*words(one, tmp_path / "two"), "--devices", 2, "--json")
    assert ended.code == 0, ended.err
    # whatever the processes have to say, standard output is the result
    assert ended.json["lineage"][0]["name"] == "base"
    assert ended.err.count("epoch 2 of 2") == len(RATES)
    for name in ("weights.safetensors", "memory.safetensors"):
        expected, found = (load_file(path / name) for path in (one / "one", tmp_path / "two"))
        assert expected.keys() == found.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(
                found[key], tensor, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}"
            )


def test_what_goes_wrong_in_one_of_them_is_one_message(one: Path, tmp_path: Path) -> None:
    ended = in_a_process_of_its_own(*words(one, tmp_path / "two"), "--devices", 2, "--learning-rate", 1e30)
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert "Lower the learning rate (--learning-rate)" in ended.err.partition("error: ")[2]
    assert not (tmp_path / "two").exists()


@pytest.fixture(scope="module")
def updates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Release, Release]]:
    """The same update by one process and by two, which have 3 and 2 samples of one step and 2 and 1 of the other."""
    torch.manual_seed(0)
    recipe = Recipe(learning_rate=0.05, epochs=2, batch_size=5, clip_norm=1.0)
    base = train(segmenter(dropout=0.0), TinyDomain(), recipe=recipe, measures=(MAS(), Fisher(), SI()))
    domain = TinyDomain("site-b", contrast=0.5)
    shared = by_two_processes(base, domain, METHODS, recipe, tmp_path_factory.mktemp("two"))
    return {
        name: (update(base, domain, method=method, recipe=recipe), Release.open(shared[name], network=segmenter()))
        for name, method in METHODS.items()
    }


def differ(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """The largest difference, as a share of the largest value of its tensor."""
    assert one.keys() == two.keys()
    return max(
        float((two[name] - value).abs().max() / value.abs().max().clamp_min(1e-12)) for name, value in one.items()
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_form_trains_by_two_processes_as_by_one(method: str, updates: dict[str, tuple[Release, Release]]) -> None:
    """To a few roundings of float32; those of importance grow with the steps and gradients that it is made of."""
    one, two = updates[method]
    weights = [
        {name: value for name, value in release.model.state_dict().items() if value.is_floating_point()}
        for release in (one, two)
    ]
    assert differ(*weights) < 2e-6
    for epoch, other in zip(one.identity.training["epochs"], two.identity.training["epochs"], strict=True):
        assert other == {
            fact: None if value is None else pytest.approx(value, rel=2e-6, abs=1e-9) for fact, value in epoch.items()
        }
    for key, measure in one.memory.measures.items():
        assert differ(measure.latest, two.memory.measures[key].latest) < 1e-4, key


def test_no_form_is_left_out() -> None:
    assert {type(method.regularizer) for method in METHODS.values()} == set(FORMS.values())
