from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from perdure.methods import dsbn, finetune, no_update
from perdure.release import Release
from perdure.release.sameness import predicts_alike
from perdure.update import Recipe, train, update
from reference.domains import TinyDomain, segmenter

A, B, C = TinyDomain("a"), TinyDomain("b", contrast=0.5), TinyDomain("c", contrast=0.7)
RECIPE = Recipe(learning_rate=0.05, epochs=2, batch_size=3)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, two updates by `dsbn` after each other, one by fine-tuning and one that changed nothing."""
    folder = tmp_path_factory.mktemp("line")
    torch.manual_seed(11)
    base = train(segmenter(dropout=0.0), A, recipe=RECIPE, out=folder / "base")
    second = update(base, B, method=dsbn(), recipe=RECIPE, out=folder / "b")
    update(second, C, method=dsbn(), recipe=RECIPE, out=folder / "c")
    update(base, B, method=finetune(), recipe=RECIPE, out=folder / "tuned")
    update(base, B, method=no_update(), recipe=RECIPE, out=folder / "same")
    return folder


def opened(folder: Path) -> Release:
    return Release.open(folder, network=segmenter(dropout=0.0))


def test_what_has_a_batch_norm_of_its_own_is_predicted_as_before(line: Path) -> None:
    assert predicts_alike(line / "base", line / "b", "a")
    assert predicts_alike(line / "base", line / "c", "a")
    assert predicts_alike(line / "b", line / "c", "b")


def test_what_was_trained_is_not(line: Path) -> None:
    assert not predicts_alike(line / "base", line / "b", "b")
    assert not predicts_alike(line / "b", line / "c", "c")
    assert not predicts_alike(line / "base", line / "tuned", "a")


def test_a_release_that_nothing_moved_predicts_everything_as_before(line: Path) -> None:
    assert predicts_alike(line / "base", line / "same", "a")
    assert predicts_alike(line / "base", line / "same", "b")


def test_one_bit_of_one_weight_or_another_contract_is_a_difference(line: Path, tmp_path: Path) -> None:
    moved = opened(line / "base")
    with torch.no_grad():
        first = next(moved.model.parameters()).view(-1)
        first[0] = torch.nextafter(first[0], torch.tensor(10.0))
    moved.save(tmp_path / "moved")
    assert not predicts_alike(line / "base", tmp_path / "moved", "a")
    kept = opened(line / "base")
    contract = kept.contract.model_copy(update={"modality": "another"})
    replace(kept, identity=kept.identity.model_copy(update={"contract": contract})).save(tmp_path / "other")
    assert not predicts_alike(line / "base", tmp_path / "other", "a")
