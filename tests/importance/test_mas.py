from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from perdure.errors import MethodError
from perdure.importance import MAS
from reference import importance as slow
from reference.networks import NETWORKS, network, samples


def linear_softmax() -> nn.Module:
    """W = 0 and b = log p, so that the softmax is p = (1/2, 1/4, 1/4) whatever the input; in float64."""
    model = nn.Linear(2, 3).double()
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([0.5, 0.25, 0.25]).double().log())
    return model


def test_a_linear_softmax_network_by_hand() -> None:
    r"""With p = softmax(Wx + b) and S = sum of p_k^2,

    dp_k/dz_j = p_k ([k = j] - p_j), so dS/dz_j = sum_k 2 p_k dp_k/dz_j = 2 p_j (p_j - S).

    p = (1/2, 1/4, 1/4) has S = 3/8, so dS/dz = (1/8, -1/16, -1/16). dS/dW_ji = dS/dz_j x_i with x = (1, -2).
    """
    omega = MAS().estimate(linear_softmax(), [torch.tensor([[1.0, -2.0]]).double()])
    expected = {"bias": [1 / 8, 1 / 16, 1 / 16], "weight": [[1 / 8, 1 / 4], [1 / 16, 1 / 8], [1 / 16, 1 / 8]]}
    for name, value in expected.items():
        torch.testing.assert_close(omega[name], torch.tensor(value).double(), rtol=0, atol=1e-10)


def test_samples_do_not_cancel() -> None:
    """x and -x have opposite gradients: their signed mean would be 0, their importance is that of either."""
    x = torch.tensor([[1.0, -2.0]]).double()
    both = MAS().estimate(linear_softmax(), [torch.cat([x, -x])])
    torch.testing.assert_close(both["weight"], MAS().estimate(linear_softmax(), [x])["weight"])


def test_the_norm_is_a_sum_over_classes_and_a_mean_over_pixels() -> None:
    """Two pixels of p = (1/2, 1/2) and one-hot: squares sum to 1/2 and 1."""
    logits = torch.tensor([[[0.0, 50.0], [0.0, -50.0]]])
    assert MAS().squared_norm(logits).item() == pytest.approx(0.75)


def test_an_image_twice_as_large_weighs_the_same() -> None:
    model = network("batch norm", 0)
    x = samples(1, 0)
    once, tiled = (
        MAS().estimate(model[4:], [model[:1](x)]),
        MAS().estimate(model[4:], [model[:1](x).repeat(1, 1, 2, 1)]),
    )
    for name, value in once.items():
        torch.testing.assert_close(tiled[name], value)


@pytest.mark.parametrize(
    ("output", "expected"),
    [("softmax", 0.625), ("logits", 1.0 + 9.0), ("sigmoid", (0.5**2 + 0.5**2) + (0.9**2 + 0.1**2))],
)
def test_each_output_has_its_norm(output: str, expected: float) -> None:
    """By hand: softmax of (0, log 3) is (1/4, 3/4); sigmoid of (0, log 9) is (1/2, 9/10)."""
    logits = {"softmax": [0.0, 1.0986123], "logits": [1.0, 3.0], "sigmoid": [0.0, 2.1972246]}[output]
    assert MAS(output).squared_norm(torch.tensor([logits])).item() == pytest.approx(expected)


@given(
    kind=st.sampled_from(sorted(NETWORKS)),
    output=st.sampled_from(["softmax", "logits", "sigmoid"]),
    number=st.integers(1, 5),
    seed=st.integers(0, 10_000),
)
def test_it_agrees_with_a_loop_in_float64(kind: str, output: str, number: int, seed: int) -> None:
    model, inputs = network(kind, seed), samples(number, seed)
    fast, expected = MAS(output).estimate(model, [inputs]), slow.mas(model, inputs, output)
    assert fast.keys() == expected.keys()
    largest = max(float(value.max()) for value in expected.values())
    for name, value in fast.items():
        assert value.min() >= 0
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-3, atol=1e-5 * largest)


def test_settings_that_give_different_numbers_have_different_keys() -> None:
    keys = [MAS(output).key for output in ("softmax", "logits", "sigmoid")]
    assert keys == ["mas", "mas-logits", "mas-sigmoid"]


def test_a_misspelt_output_is_refused() -> None:
    with pytest.raises(MethodError, match="`output` must be one of 'softmax', 'logits', 'sigmoid'; got 'sofmax'"):
        MAS("sofmax")
