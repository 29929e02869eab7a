"""The published deviations of public importance code; the figures of our own runs stand in the docstrings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from perdure.errors import MethodError
from perdure.importance import MAS, MEASURES, Fisher
from perdure.models import QuickNAT, recalibrate
from perdure.testing import check_importance, tiny_domain, tiny_network
from perdure.testing.claims import everything
from perdure.testing.compat import BatchMeanSquaredFisher, SignedMinMaxMAS, TrainingModeMAS

EVERY = [BatchMeanSquaredFisher(), TrainingModeMAS(), SignedMinMaxMAS()]


def flat(omega: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in omega.values()])


def rank_correlation(one: Tensor, other: Tensor) -> float:
    ranks = torch.stack([each.argsort().argsort().double() for each in (one, other)])
    return torch.corrcoef(ranks)[0, 1].item()


@pytest.fixture(scope="module")
def learnt() -> tuple[nn.Module, Tensor, Tensor]:
    """A network that has learnt a domain, its images, and labels as its own output has them."""
    torch.manual_seed(0)
    model, (x, y) = tiny_network(), tiny_domain(train=512).samples("train")
    optimizer = torch.optim.Adam(model.train().parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        labels = torch.multinomial(model.eval()(x).softmax(1), 1)[:, 0]
    return model, x, labels


@pytest.fixture(scope="module")
def exact(learnt) -> Tensor:
    model, x, y = learnt
    return flat(Fisher("dataset").estimate(model, [(x, y)]))


@pytest.mark.parametrize(("size", "least", "most"), [(8, 0.09, 0.16), (32, 0.015, 0.06), (64, 0.006, 0.04)])
def test_the_square_of_a_batch_s_mean_gradient_falls_with_the_batch_size(learnt, exact, size, least, most) -> None:
    """In sum about 1 / size of the Fisher information: 0.12, 0.035 and 0.019 of it in avalanche with 8, 32 and 64.

    Gradients under labels from the model itself have the mean 0, so the mean of n of them has 1 / n of their variance.
    """
    model, x, y = learnt
    found = flat(BatchMeanSquaredFisher().estimate(model, zip(x.split(size), y.split(size), strict=True)))
    assert least < (found.sum() / exact.sum()).item() < most


def test_its_ranks_are_others_too(learnt) -> None:
    """0.81 with batches of 64 in a run of avalanche's."""
    model, x, y = learnt
    found = flat(BatchMeanSquaredFisher().estimate(model, [(x[:64], y[:64])]))
    assert rank_correlation(found, flat(Fisher("dataset").estimate(model, [(x[:64], y[:64])]))) < 0.97


def test_batches_of_one_sample_are_right(learnt, exact) -> None:
    model, x, y = learnt
    found = flat(BatchMeanSquaredFisher().estimate(model, zip(x.split(1), y.split(1), strict=True)))
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-6)


def test_measuring_in_training_mode_would_move_running_statistics(learnt) -> None:
    """A running mean moved 0.70 in one pass in avalanche's; measured by ours it moves 0."""
    model, x, _ = learnt
    moved = TrainingModeMAS().buffers_moved(model, (0.3 * x).split(16))
    assert moved["norm.running_mean"] > 0.1
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    MAS().estimate(model, [0.3 * x])
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_training_mode_and_raw_outputs_rank_parameters_otherwise(learnt) -> None:
    """0.81 in a run of avalanche's."""
    model, x, _ = learnt
    ours, theirs = MAS().estimate(model, [x]), TrainingModeMAS().estimate(model, x.split(16))
    assert rank_correlation(flat(ours), flat(theirs)) < 0.9


def test_dropout_is_on_there(learnt) -> None:
    model, x, _ = learnt
    torch.manual_seed(1)
    first = flat(TrainingModeMAS().estimate(model, [x[:16]]))
    torch.manual_seed(2)
    assert not torch.equal(flat(TrainingModeMAS().estimate(model, [x[:16]])), first)


def test_signed_gradients_mapped_to_the_unit_range_are_nearly_the_same_everywhere() -> None:
    """A coefficient of variation of 0.09 and 0.04 in ACS's and TED's; that of ours is above 1."""
    torch.manual_seed(0)
    model, x = QuickNAT(in_channels=1, classes=3), torch.rand(4, 1, 16, 16)
    recalibrate(model, [x])
    signed, ours = flat(SignedMinMaxMAS().estimate(model, [x])), flat(MAS().estimate(model, [x]))
    assert (signed.min(), signed.max()) == (0, 1)
    assert signed.std() / signed.mean() < 0.15
    assert ours.std() / ours.mean() > 1


@pytest.mark.parametrize("measure", EVERY, ids=lambda measure: measure.name)
def test_the_user_s_model_is_safe(measure, learnt) -> None:
    model, x, y = learnt
    model.train()
    try:
        before = everything(model)
        omega = measure.estimate(model, [(x[:8], y[:8])])
        assert everything(model) == before
        assert omega.keys() == dict(model.named_parameters()).keys()
    finally:
        model.eval()


@pytest.mark.parametrize(
    ("measure", "claim"),
    [
        (BatchMeanSquaredFisher(), "neither batch size nor order changes it"),
        (TrainingModeMAS(), "measuring twice gives"),
    ],
)
def test_the_checks_catch_them(measure, claim: str) -> None:
    with pytest.raises(AssertionError, match=claim):
        check_importance(measure)


def test_they_are_for_study_only() -> None:
    assert not {measure.name for measure in EVERY} & set(MEASURES)


def test_no_label_and_no_sample_are_errors() -> None:
    with pytest.raises(MethodError, match="got inputs alone"):
        BatchMeanSquaredFisher().estimate(tiny_network(), [tiny_domain().samples("train")[0]])
    with pytest.raises(MethodError, match="at least one sample"):
        TrainingModeMAS().estimate(tiny_network(), [])
