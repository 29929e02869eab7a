from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from perdure.types import IGNORED
from perdure.update import ClassificationLoss, SegmentationLoss, losses
from perdure.update.losses import boundaries, loss_for, median_frequency
from reference import losses as slow
from reference.domains import contract
from reference.processes import Threads

CLASSES = 4


def random_case(seed: int, shape: tuple[int, ...], absent: int | None, ignored: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(shape[0], CLASSES, *shape[1:], generator=generator)
    target = torch.randint(CLASSES, shape, generator=generator)
    if absent is not None:
        target[target == absent] = (absent + 1) % CLASSES
    target[torch.rand(shape, generator=generator) < ignored] = IGNORED
    return logits, target


def with_gradient(loss, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target)
    value.backward()
    return value.detach(), logits.grad


@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(1, 5), (2, 4, 3), (1, 1, 6), (1, 3, 2, 3)]),
    absent=st.sampled_from([None, 0, 3]),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    weights=st.lists(st.floats(0, 5), min_size=CLASSES, max_size=CLASSES),
)
def test_it_agrees_with_a_loop_over_pixels_in_float64(seed, shape, absent, ignored, weights) -> None:
    """Value and gradient: class weights, boundaries, ignored pixels, absent classes, one to three dimensions."""
    logits, target = random_case(seed, shape, absent, ignored)
    value, gradient = with_gradient(SegmentationLoss(torch.tensor(weights)), logits, target)
    if ignored == 1:
        assert value == 0
        assert not gradient.any()
        return
    expected, slope = with_gradient(lambda z, y: slow.segmentation_loss(z, y, weights), logits.double(), target)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-4, atol=1e-6)


@given(seed=st.integers(0, 10_000), shape=st.sampled_from([(3, 4, 5), (2, 3, 2, 4)]))
def test_ignored_pixels_count_in_nothing(seed: int, shape: tuple[int, ...]) -> None:
    """Whatever the network says of them; and it learns nothing from them."""
    logits, target = random_case(seed, shape, None, 0.4)
    loss = SegmentationLoss(torch.rand(CLASSES))
    value, gradient = with_gradient(loss, logits, target)
    hidden = (target == IGNORED).unsqueeze(1).expand_as(logits)
    assert not gradient[hidden].any()
    other = torch.where(hidden, 50 * torch.randn_like(logits), logits)
    assert loss(other, target).item() == pytest.approx(value.item(), rel=1e-6)


def test_one_pixel_by_hand() -> None:
    """p = (1/4, 3/4), class 1, weight 3, no neighbour: 3 log(4/3) + 1 - (0 + 2 * 3/4 / (3/4 + 1)) / 2.

    Class 0 has no pixel and p = 1/4, so its Dice is 1e-5 / (1/4 + 1e-5), nearly 0.
    """
    logits = torch.tensor([0.0, math.log(3)]).view(1, 2, 1)
    value = SegmentationLoss(torch.tensor([1.0, 3.0]))(logits, torch.tensor([[1]]))
    assert value.item() == pytest.approx(3 * math.log(4 / 3) + 1 - (1.5 / 1.75) / 2, abs=5e-5)


def test_a_perfect_prediction_costs_nothing() -> None:
    target = torch.randint(CLASSES, (2, 6, 6))
    logits = 60 * torch.nn.functional.one_hot(target, CLASSES).movedim(-1, 1).float()
    assert SegmentationLoss(torch.ones(CLASSES))(logits, target).item() == pytest.approx(0, abs=1e-5)


def test_boundaries_are_on_both_sides_along_every_axis() -> None:
    target = torch.zeros(1, 4, 5, dtype=torch.int64)
    target[0, 1, 3] = 2
    expected = torch.zeros(4, 5, dtype=torch.bool)
    for place in ((1, 3), (0, 3), (2, 3), (1, 2), (1, 4)):
        expected[place] = True
    assert torch.equal(boundaries(target)[0], expected)


def test_samples_of_a_batch_are_no_neighbours() -> None:
    assert not boundaries(torch.tensor([[0, 0], [1, 1]])).any()


def test_the_rim_of_what_is_ignored_is_no_boundary() -> None:
    assert not boundaries(torch.tensor([[0, 0, IGNORED, IGNORED, 1, 1]])).any()
    assert boundaries(torch.tensor([[0, 1, IGNORED]])).tolist() == [[True, True, False]]


@given(
    seed=st.integers(0, 10_000),
    sizes=st.sampled_from([(2, 2), (1, 3), (4, 0)]),
    shape=st.sampled_from([(3, 5), (2, 3, 3)]),
    ignored=st.sampled_from([0.0, 0.5]),
)
def test_a_batch_that_is_split_over_two_processes_has_the_loss_of_the_whole(seed, sizes, shape, ignored) -> None:
    """Both have its value; the gradient of a process's share is the whole one times the number of processes."""
    logits, target = random_case(seed, (4, *shape), None, ignored)
    loss = SegmentationLoss(torch.rand(CLASSES))
    value, gradient = with_gradient(loss, logits, target)
    threads = Threads(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "sum_over_processes", threads.sum)
        parts = list(zip(logits.split(sizes), target.split(sizes), strict=True))
        shares = threads.run(lambda part: with_gradient(loss, *part), parts)
    for share, _ in shares:
        assert share.item() == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(torch.cat([slope for _, slope in shares]), 2 * gradient, rtol=1e-4, atol=1e-6)


def test_class_weights_by_hand() -> None:
    """Of 10 known pixels 6, 3 and 1 have the classes 0, 1 and 3: the median count is 3. Class 2 does not occur."""
    first = torch.tensor([[0, 0, 0, 0, 1, IGNORED]])
    second = torch.tensor([[0, 0, 1, 1, 3, IGNORED]])
    weights = median_frequency([(first, first), (second, second)], CLASSES)
    assert weights.tolist() == [0.5, 1.0, 0.0, 3.0]


def test_of_two_classes_the_median_lies_between() -> None:
    """The mean of the two in the middle is the median: of 9 and 1 pixels 5, which gives 5/9 and 5."""
    target = torch.tensor([[0] * 9 + [1]])
    assert median_frequency([(target, target)], 2).tolist() == pytest.approx([5 / 9, 5])


@given(seed=st.integers(0, 10_000), absent=st.sampled_from([None, 0, 3]))
def test_class_weights_agree_with_a_loop_whatever_the_batches(seed: int, absent: int | None) -> None:
    _, target = random_case(seed, (6, 4, 4), absent, 0.2)
    expected = slow.median_frequency(target, CLASSES)
    for size in (1, 4, 6):
        found = median_frequency([(part, part) for part in target.split(size)], CLASSES)
        assert found.tolist() == pytest.approx(expected)


def test_class_weights_are_counted_over_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    _, target = random_case(0, (6, 4, 4), None, 0.2)
    threads = Threads(2)
    monkeypatch.setattr(losses, "sum_over_processes", threads.sum)
    shares = threads.run(lambda part: median_frequency([(part, part)], CLASSES), [target[:2], target[2:]])
    for share in shares:
        assert share.tolist() == pytest.approx(slow.median_frequency(target, CLASSES))


def test_without_a_known_pixel_every_class_weight_is_0() -> None:
    target = torch.full((1, 3), IGNORED)
    assert median_frequency([(target, target)], 2).tolist() == [0, 0]


def test_cross_entropy_by_hand() -> None:
    """Probabilities 3/4 and 1/4 of the right class: the mean of log(4/3) and log 4."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    value = ClassificationLoss()(logits, torch.tensor([1, 0]))
    assert value.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3), (4, 0)])
def test_cross_entropy_is_a_mean_over_all_processes(monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int]) -> None:
    logits, target = torch.randn(4, 3), torch.randint(3, (4,))
    value, gradient = with_gradient(ClassificationLoss(), logits, target)
    threads = Threads(2)
    monkeypatch.setattr(losses, "sum_over_processes", threads.sum)
    parts = list(zip(logits.split(sizes), target.split(sizes), strict=True))
    shares = threads.run(lambda part: with_gradient(ClassificationLoss(), *part), parts)
    assert [share.item() for share, _ in shares] == pytest.approx([value.item()] * 2)
    torch.testing.assert_close(torch.cat([slope for _, slope in shares]), 2 * gradient)


def test_each_task_has_its_loss() -> None:
    target = torch.tensor([[0, 1, 1]])
    loss = loss_for(contract("segmentation"), [(target, target)])
    assert isinstance(loss, SegmentationLoss)
    assert loss.class_weights.tolist() == pytest.approx([1.5, 0.75, 0])
    assert isinstance(loss_for(contract("classification"), []), ClassificationLoss)


def test_half_precision_outputs_are_summed_in_float32() -> None:
    logits, target = random_case(0, (2, 8, 8), None, 0.0)
    loss = SegmentationLoss(torch.ones(CLASSES))
    assert loss(logits.bfloat16(), target).dtype == torch.float32
    assert loss(logits.bfloat16(), target).item() == pytest.approx(loss(logits, target).item(), rel=0.02)
