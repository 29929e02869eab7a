from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from perdure.errors import BatchNormError, MethodError
from perdure.importance import MAS
from perdure.importance.per_sample import Term, mean_over_samples, mean_over_terms
from reference.networks import NETWORKS, Tied, bits, everything, network, samples, target_for

kinds = st.sampled_from(sorted(NETWORKS))
seeds = st.integers(0, 10_000)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(bits(one[name]) == bits(other[name]) for name in one)


def alike(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """But for rounding: a batch is summed in another order than its samples."""
    return one.keys() == other.keys() and all(
        torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-6 * float(one[name].max())) for name in one
    )


def first_output(output: Tensor, target: Tensor | None) -> Tensor:
    return output.flatten(1)[:, 0]


def one_process(value: Tensor) -> Tensor:
    return value


@given(kind=kinds, seed=seeds, training=st.booleans())
def test_measuring_changes_nothing(kind: str, seed: int, training: bool) -> None:
    """Not a value, gradient, mode or random number, in a network that has gradients and mixed modes."""
    model, inputs = network(kind, seed), samples(3, seed)
    model.train(training)
    next(iter(model.children())).train(not training)
    model(inputs).sum().backward()
    model(inputs).square().mean().backward()
    before = everything(model)
    MAS().estimate(model, [inputs])
    assert everything(model) == before


def test_after_an_error_in_the_batches_the_network_is_as_it_was() -> None:
    model = network("batch norm", 0).train()
    before = everything(model)

    def broken():
        yield samples(2, 0)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        MAS().estimate(model, broken())
    assert everything(model) == before


@given(kind=kinds, seed=seeds)
def test_dropout_is_off_so_that_measuring_twice_gives_the_same_bits(kind: str, seed: int) -> None:
    model, inputs = network(kind, seed).train(), samples(3, seed)
    torch.manual_seed(1)
    first = MAS().estimate(model, [inputs])
    torch.manual_seed(2)
    assert same(MAS().estimate(model, [inputs]), first)


@given(kind=kinds, seed=seeds, size=st.sampled_from([1, 3, 8]))
def test_the_batch_size_does_not_matter(kind: str, seed: int, size: int) -> None:
    model, inputs = network(kind, seed), samples(8, seed)
    assert alike(MAS().estimate(model, inputs.split(size)), MAS().estimate(model, [inputs]))


@given(kind=kinds, seed=seeds, order=st.permutations(range(8)))
def test_the_order_of_samples_does_not_matter(kind: str, seed: int, order: list[int]) -> None:
    model, inputs = network(kind, seed), samples(8, seed)
    assert alike(MAS().estimate(model, inputs[order].split(3)), MAS().estimate(model, [inputs]))


@pytest.mark.parametrize("transform", [torch.abs, torch.square])
def test_the_transform_is_of_each_sample_and_not_of_their_mean(transform) -> None:
    """The signed mean is the gradient of the mean; its absolute value is smaller, and so is its square."""
    model, inputs = network("dropout", 0), samples(6, 0)
    each = mean_over_samples(model, [inputs], first_output, transform, one_process)
    signed = mean_over_samples(model, [inputs], first_output, lambda g: g, one_process)
    model.eval()
    whole = torch.autograd.grad(model(inputs)[:, 0].mean(), list(model.parameters()), allow_unused=True)
    for name, gradient in zip(signed, whole, strict=True):
        torch.testing.assert_close(signed[name], gradient, rtol=1e-4, atol=1e-6)
    assert (each["1.weight"] >= transform(signed["1.weight"]) - 1e-7).all()
    assert (each["1.weight"] > 1.01 * transform(signed["1.weight"])).float().mean() > 0.5


def test_the_target_reaches_the_objective() -> None:
    """d(y w x)/dw = y x: over (x, y) = (2, 3) and (1, -5), the mean of |y x| is (6 + 5) / 2."""
    model = nn.Linear(1, 1, bias=False)
    batches = [(torch.tensor([[2.0], [1.0]]), torch.tensor([3.0, -5.0]))]
    omega = mean_over_samples(model, batches, lambda out, y: out[:, 0] * y, torch.abs, one_process)
    assert omega["weight"].item() == pytest.approx(5.5)


def test_uses_of_a_shared_parameter_are_added_before_the_absolute_value() -> None:
    """w x - w x / 2 at x = -2: the uses have the gradients -2 and 1, so importance is |-1|, and not |-2| + |1|."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1, bias=False)
            self.again = self.layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) - 0.5 * self.again(x)

    model = Twice()
    omega = mean_over_samples(model, [torch.tensor([[-2.0]])], first_output, torch.abs, one_process)
    assert list(omega) == ["layer.weight"]
    assert omega["layer.weight"].item() == pytest.approx(1.0)


def test_a_shared_parameter_is_measured_once_under_its_first_name() -> None:
    model = Tied()
    assert set(MAS().estimate(model, [samples(2, 0)])) == {name for name, _ in model.named_parameters()}
    assert "same.weight" not in MAS().estimate(model, [samples(2, 0)])


def test_frozen_parameters_are_left_out() -> None:
    model = network("batch norm", 0)
    model[0].weight.requires_grad_(False)
    omega = MAS().estimate(model, [samples(2, 0)])
    assert set(omega) == {name for name, p in model.named_parameters() if p.requires_grad}


def test_a_parameter_without_influence_has_importance_0() -> None:
    model = network("linear", 0)
    model.register_parameter("unused", nn.Parameter(torch.ones(2)))
    assert MAS().estimate(model, [samples(2, 0)])["unused"].tolist() == [0.0, 0.0]


def test_batches_may_be_inputs_pairs_lists_or_a_loader() -> None:
    model, inputs = network("batch norm", 0), samples(4, 0)
    target = target_for(model, inputs, 0)
    expected = MAS().estimate(model, [inputs])
    for batches in (
        inputs.split(2),
        iter(inputs.split(2)),
        [(inputs, target)],
        [[inputs, target]],
        [[inputs]],
        ((x, y) for x, y in zip(inputs.split(1), target.split(1), strict=True)),
        DataLoader(TensorDataset(inputs, target), batch_size=3),
        DataLoader(TensorDataset(inputs), batch_size=3),
    ):
        assert alike(MAS().estimate(model, batches), expected)


def test_empty_batches_count_for_nothing() -> None:
    model, inputs = network("linear", 0), samples(2, 0)
    assert same(MAS().estimate(model, [inputs[:0], inputs, inputs[:0]]), MAS().estimate(model, [inputs]))


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, 2, 6, 6)]])
def test_no_sample_is_an_error(batches: list[Tensor]) -> None:
    with pytest.raises(MethodError, match="needs at least one sample; the batches were empty"):
        MAS().estimate(network("linear", 0), batches)


def test_one_tensor_is_not_taken_for_batches() -> None:
    """Its rows would be taken for batches, and a convolution would accept them without a batch axis."""
    with pytest.raises(MethodError, match=r"iterable of batches; got one tensor, \(3, 2, 6, 6\)"):
        MAS().estimate(network("batch norm", 0), samples(3, 0))


def test_no_trainable_parameter_is_an_error() -> None:
    model = network("linear", 0).requires_grad_(False)
    with pytest.raises(MethodError, match="no trainable parameter: set requires_grad"):
        MAS().estimate(model, [samples(2, 0)])


@pytest.mark.parametrize("where", ["input", "weight"])
def test_importance_that_is_not_finite_is_an_error(where: str) -> None:
    """It would become 0 everywhere when it is scaled: nothing would be protected, without a word."""
    model, inputs = network("linear", 0), samples(2, 0)
    with torch.no_grad():
        (inputs if where == "input" else model[1].weight).view(-1)[0] = torch.nan
    with pytest.raises(MethodError, match=r"\['1.weight', '1.bias'\] is not finite"):
        MAS().estimate(model, [inputs])


def test_gradients_may_be_off_outside() -> None:
    model, inputs = network("dropout", 0), samples(2, 0)
    expected = MAS().estimate(model, [inputs])
    with torch.no_grad():
        assert same(MAS().estimate(model, [inputs]), expected)


def test_autocast_outside_does_not_lower_the_precision() -> None:
    model, inputs = network("dropout", 0), samples(2, 0)
    expected = MAS().estimate(model, [inputs])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same(MAS().estimate(model, [inputs]), expected)


def test_importance_has_the_precision_of_its_parameter() -> None:
    model = network("linear", 0).double()
    assert MAS().estimate(model, [samples(2, 0).double()])["1.weight"].dtype == torch.float64


@pytest.mark.parametrize(
    ("dtype", "gradient"), [(torch.float16, 1e-4), (torch.bfloat16, 1e-10), (torch.float32, 1e-15)]
)
def test_squares_of_small_gradients_are_kept(dtype: torch.dtype, gradient: float) -> None:
    """Down to the smallest number of float32; float16 ends at 6e-8, which is the square of 2.4e-4."""
    model = nn.Linear(1, 1, bias=False).to(dtype)
    x = torch.full((2, 1), gradient, dtype=dtype)
    omega = mean_over_samples(model, [x], first_output, torch.square, one_process)["weight"]
    assert omega.dtype == torch.float32
    assert omega.item() == pytest.approx(gradient**2, rel=0.02, abs=0)


def test_a_square_that_single_precision_does_not_have_still_counts_by_its_weight() -> None:
    """1e-23 squared is 1e-46, and times 1e8 1e-38: float32 ends at 1e-45."""

    def weighted(inputs: Tensor, output: Tensor, target: Tensor | None) -> list[Term]:
        return [Term(output.sum(dim=1), 1e8)]

    model = nn.Linear(1, 1, bias=False)
    omega = mean_over_terms(model, [torch.full((1, 1), 1e-23)], weighted, torch.square, one_process)["weight"]
    assert omega.item() == pytest.approx(1e-38, rel=1e-3, abs=0)


def test_a_network_that_moves_a_buffer_while_it_is_measured_is_named() -> None:
    class Counting(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x)

    with pytest.raises(BatchNormError, match="'calls' did"):
        MAS().estimate(Counting(), [torch.ones(1, 2)])


def test_shares_of_the_samples_add_up_to_all_of_them() -> None:
    """What each of two processes would send is recorded, then each measures with the sum of both."""
    model, inputs = network("batch norm", 0), samples(5, 0)
    sent: list[list[Tensor]] = [[], []]
    for part, record in zip((inputs[:2], inputs[2:]), sent, strict=True):
        MAS().estimate(model, [part], sum_over_processes=lambda value, record=record: record.append(value) or value)
    totals = iter([one + other for one, other in zip(*sent, strict=True)])
    together = MAS().estimate(model, [inputs[:2]], sum_over_processes=lambda value: next(totals))
    for name, value in MAS().estimate(model, [inputs]).items():
        torch.testing.assert_close(together[name], value, rtol=1e-6, atol=0)
