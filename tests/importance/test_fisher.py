from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from perdure.errors import MethodError
from perdure.importance import RAW, Fisher, Scaling
from perdure.importance.likelihood import Categorical
from perdure.types import IGNORED

seeds = st.integers(0, 10_000)


class Logistic(nn.Module):
    """p(y = 1) = sigmoid(w x), as a softmax of (0, w x); x is the first channel, and the others change nothing.

    The derivative of log p(y) is (y - p) x. For images the model is the same at every pixel.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        logit = self.weight * x[:, 0]
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


def exactly(found: Tensor, expected: Tensor) -> None:
    assert_close(found, expected, rtol=1e-10, atol=1e-12)


@given(seed=seeds, number=st.integers(1, 6))
def test_the_expectation_of_logistic_regression_in_closed_form(seed: int, number: int) -> None:
    """E_y (y - p)² = p (1 - p)² + (1 - p) p² = p (1 - p), so F is the mean of x² p (1 - p)."""
    model = Logistic(0.7)
    x = torch.randn(number, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    p = torch.sigmoid(0.7 * x)
    exactly(Fisher("expected").estimate(model, [x])["weight"], (x**2 * p * (1 - p)).mean())


@given(seed=seeds)
def test_dataset_labels_of_logistic_regression_in_closed_form(seed: int) -> None:
    """The mean of (y - p)² x²: the square of each sample's own gradient."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(5, 1, generator=generator, dtype=torch.float64), torch.randint(2, (5,), generator=generator)
    p = torch.sigmoid(-0.4 * x[:, 0])
    found = Fisher("dataset").estimate(Logistic(-0.4), [(x, y)])["weight"]
    exactly(found, ((y - p) ** 2 * x[:, 0] ** 2).mean())


@given(seed=seeds, classes=st.integers(2, 16))
def test_the_expectation_of_a_softmax_of_a_linear_layer_in_closed_form(seed: int, classes: int) -> None:
    """d log p_y / d W_kj = ([y = k] - p_k) x_j, and E_y ([y = k] - p_k)² = p_k (1 - p_k)."""
    torch.manual_seed(seed)
    model, x = nn.Linear(3, classes).double(), torch.randn(4, 3, dtype=torch.float64)
    p = model(x).softmax(1).detach()
    omega = Fisher("expected").estimate(model, [x])
    exactly(omega["bias"], (p * (1 - p)).mean(0))
    exactly(omega["weight"], torch.einsum("nk,nj->kj", p * (1 - p), x**2) / 4)


@given(seed=seeds)
def test_dataset_labels_of_a_softmax_of_a_linear_layer_in_closed_form(seed: int) -> None:
    torch.manual_seed(seed)
    model, x, y = nn.Linear(3, 4).double(), torch.randn(5, 3, dtype=torch.float64), torch.randint(4, (5,))
    score = nn.functional.one_hot(y, 4) - model(x).softmax(1).detach()
    omega = Fisher("dataset").estimate(model, [(x, y)])
    exactly(omega["weight"], torch.einsum("nk,nj->kj", score**2, x**2) / 5)


@given(seed=seeds, outputs=st.integers(1, 16))
def test_the_fisher_information_of_linear_gaussian_regression_in_closed_form(seed: int, outputs: int) -> None:
    """d log p / d W_kj = (y_k - f_k) x_j with E (y_k - f_k)² = 1: the mean of x_j², whatever the weights are."""
    torch.manual_seed(seed)
    model, x = nn.Linear(3, outputs).double(), torch.randn(4, 3, dtype=torch.float64)
    omega = Fisher("expected", likelihood="gaussian").estimate(model, [x])
    exactly(omega["weight"], (x**2).mean(0).expand(outputs, 3))
    exactly(omega["bias"], torch.ones(outputs, dtype=torch.float64))


@given(seed=seeds)
def test_targets_of_linear_gaussian_regression_in_closed_form(seed: int) -> None:
    """The mean of (y_k - f_k)² x_j²: residuals of the data, not of the model."""
    torch.manual_seed(seed)
    model, x, y = nn.Linear(3, 2).double(), torch.randn(5, 3).double(), torch.randn(5, 2).double()
    residual = y - model(x).detach()
    omega = Fisher("dataset", likelihood="gaussian").estimate(model, [(x, y)])
    exactly(omega["weight"], torch.einsum("nk,nj->kj", residual**2, x**2) / 5)


def test_drawn_targets_of_linear_gaussian_regression_converge_to_the_expectation() -> None:
    """Squares of normal draws have variance 2: four standard errors of the mean of 2000."""
    x = torch.stack([torch.ones(2000), torch.arange(2000.0)], dim=1).double()
    model = nn.Linear(2, 1, bias=False).double()
    found = Fisher(likelihood="gaussian").estimate(model, [x])["weight"][0, 0].item()
    assert found == pytest.approx(1, abs=4 * (2 / 2000) ** 0.5)


def test_pixels_of_a_sample_are_summed_and_ignored_ones_left_out() -> None:
    """Pixels x = 1, 2 and 5 with labels 1, 0 and none at p = 1/2: (1/2 - 2/2)² = 1/4."""
    x, y = torch.tensor([[[1.0, 2.0, 5.0]]], dtype=torch.float64), torch.tensor([[1, 0, IGNORED]])
    assert Fisher("dataset").estimate(Logistic(0.0), [(x, y)])["weight"].item() == pytest.approx(0.25, abs=1e-12)


def test_the_square_is_that_of_each_sample() -> None:
    """At p = 1/2 the scores of (x, y) = (1, 1) and (1, 0) are 1/2 and -1/2: their mean is 0, their squares 1/4."""
    x, y = torch.ones(2, 1, dtype=torch.float64), torch.tensor([1, 0])
    assert Fisher("dataset").estimate(Logistic(0.0), [(x, y)])["weight"].item() == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize("pixels", [1, 3])
def test_drawn_labels_converge_to_the_expectation(pixels: int) -> None:
    """Pixels are drawn independently, so the variance of their sum is the sum of p (1 - p) x².

    The second channel makes 2000 samples differ. With (y - p)² of standard deviation under 1, four standard errors of
    the mean are under 4 sqrt(v) / sqrt(2000) with v the variance of the square, which is at most 3 times its squared
    mean here.
    """
    number = 2000
    x = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)[:pixels].expand(number, 1, pixels)
    x = torch.cat([x, torch.arange(number).view(-1, 1, 1).expand_as(x)], dim=1)
    p = torch.sigmoid(0.8 * x[0, 0])
    expected = (p * (1 - p) * x[0, 0] ** 2).sum().item()
    found = Fisher().estimate(Logistic(0.8), [x])["weight"].item()
    assert found == pytest.approx(expected, abs=4 * (3 * expected**2 / number) ** 0.5)


def test_drawn_labels_are_those_that_dataset_labels_would_have_been() -> None:
    """So that what is proven of dataset labels holds for drawn ones."""
    torch.manual_seed(0)
    model, x = nn.Conv1d(2, 3, 1), torch.randn(4, 2, 5)
    measure = Fisher(seed=3)
    drawn = torch.cat([Categorical().drawn(model(one), [measure._generator(one[0])]) for one in x.split(1)])
    assert drawn.shape == (4, 5)
    assert drawn.unique().tolist() == [0, 1, 2]
    expected = Fisher("dataset").estimate(model, [(x, drawn)])
    assert all(torch.equal(value, expected[name]) for name, value in measure.estimate(model, [x]).items())


def test_a_draw_belongs_to_its_seed_and_its_sample() -> None:
    """Not to the state of torch, to where the sample stands or to what stands beside it."""
    model, x = nn.Linear(2, 3), torch.randn(6, 2)
    first = Fisher().estimate(model, [x])
    torch.manual_seed(5)
    again = Fisher().estimate(model, x.split(4))
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert not torch.equal(Fisher(seed=1).estimate(model, [x])["weight"], first["weight"])


def test_a_class_that_cannot_be_is_never_drawn() -> None:
    output = torch.tensor([[0.0, -torch.inf, -torch.inf]])
    assert {int(Categorical().drawn(output, [torch.Generator().manual_seed(seed)])) for seed in range(50)} == {0}


@pytest.mark.parametrize("labels", ["sampled", "dataset", "expected"])
def test_importance_is_0_where_the_model_is_certain_and_right(labels: str) -> None:
    model = Logistic(1e4)
    x, y = torch.ones(3, 1, dtype=torch.float64), torch.ones(3, dtype=torch.long)
    assert Fisher(labels).estimate(model, [(x, y)])["weight"].item() == 0


def test_the_expectation_over_all_classes_is_refused_where_it_is_not_exact() -> None:
    with pytest.raises(MethodError, match=r"at most 16 classes; this output has shape \(1, 17\). Use \"sampled\""):
        Fisher("expected").estimate(nn.Linear(2, 17), [torch.ones(1, 2)])
    with pytest.raises(MethodError, match="regressions of at most 16 values"):
        Fisher("expected", likelihood="gaussian").estimate(nn.Linear(2, 17), [torch.ones(1, 2)])
    with pytest.raises(MethodError, match=r"shape \(1, 3, 4\)"):
        Fisher("expected").estimate(nn.Conv1d(2, 3, 1), [torch.ones(1, 2, 4)])


def test_dataset_labels_have_to_be_there() -> None:
    with pytest.raises(MethodError, match=r"needs batches of \(input, target\); got inputs alone"):
        Fisher("dataset").estimate(nn.Linear(2, 3), [torch.ones(1, 2)])


def test_targets_of_a_regression_are_never_broadcast() -> None:
    with pytest.raises(MethodError, match=r"output's shape, \(1, 2\); got \(1,\)"):
        Fisher("dataset", likelihood="gaussian").estimate(nn.Linear(3, 2), [(torch.ones(4, 3), torch.ones(4))])


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(MethodError, match="`labels` must be one of 'sampled', 'dataset', 'expected'; got 'true'"):
        Fisher("true")
    with pytest.raises(MethodError, match="`likelihood` must be one of 'categorical', 'gaussian'; got 'normal'"):
        Fisher(likelihood="normal")
    with pytest.raises(MethodError, match="`seed` must be a whole number from 0"):
        Fisher(seed=-1)


def test_it_keeps_its_scale_unless_told_otherwise() -> None:
    assert Fisher().scaling == RAW
    assert Fisher(scaling=Scaling()).key != Fisher().key
