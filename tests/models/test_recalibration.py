from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from perdure.errors import BatchNormError
from perdure.models import QuickNAT, batch_norms, recalibrate, statistics, synchronized_batch_norm, training_mode

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def network() -> nn.Sequential:
    """Two batch norms, the second behind dropout."""
    return nn.Sequential(
        nn.BatchNorm2d(2),
        nn.Conv2d(2, 3, 3),
        nn.PReLU(),
        nn.Dropout(0.5),
        nn.BatchNorm2d(3, momentum=0.3),
        nn.Conv2d(3, 1, 1),
    ).double()


def images(*sizes: int) -> list[Tensor]:
    return [3 + (i + 1) * torch.randn(size, 2, 6, 5, dtype=torch.float64) for i, size in enumerate(sizes)]


def pooled(values: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance, a channel, of all values: the slow way."""
    channels = torch.cat([x.transpose(0, 1).flatten(1) for x in values], dim=1)
    return channels.mean(1), channels.var(1)


def by_batch(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """What batch norm does with the statistics of the batch."""
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    affine = [parameter.view(1, -1, 1, 1) for parameter in (norm.weight, norm.bias)]
    return (x - mean) / (variance + norm.eps).sqrt() * affine[0] + affine[1]


def state(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.detach().numpy().tobytes() for name, tensor in model.state_dict().items()}


def test_the_numbers_are_those_of_all_values_with_every_batch_normalised_by_itself() -> None:
    """Worked through layer by layer in float64, with batches of three sizes and domains of three spreads."""
    model, batches = network(), images(1, 4, 2)
    first, conv, prelu, _, second, _ = model
    hidden = [prelu(conv(by_batch(first, x))).detach() for x in batches]
    recalibrate(model, batches)
    for norm, values in ((first, batches), (second, hidden)):
        mean, variance = pooled(values)
        torch.testing.assert_close(norm.running_mean, mean, **CLOSE)
        torch.testing.assert_close(norm.running_var, variance, **CLOSE)
        assert norm.num_batches_tracked == 3


@given(cuts=st.lists(st.integers(1, 11), max_size=5, unique=True).map(sorted))
def test_the_first_batch_norm_does_not_depend_on_how_samples_are_cut_into_batches(cuts: list[int]) -> None:
    x = 5 + 2 * torch.randn(12, 2, 3, 3, dtype=torch.float64)
    model = nn.Sequential(nn.BatchNorm2d(2)).double()
    recalibrate(model, x.tensor_split(cuts))
    mean, variance = pooled([x])
    torch.testing.assert_close(model[0].running_mean, mean, **CLOSE)
    torch.testing.assert_close(model[0].running_var, variance, **CLOSE)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [(nn.BatchNorm1d(3), (5, 3)), (nn.BatchNorm1d(3), (5, 3, 4)), (nn.BatchNorm3d(3, affine=False), (2, 3, 2, 3, 4))],
    ids=str,
)
def test_one_batch_gives_what_torch_itself_tracks_for_it(norm: nn.Module, shape: tuple[int, ...]) -> None:
    theirs = copy.deepcopy(norm)
    theirs.momentum = None
    x = torch.randn(shape) + 4
    theirs.train()(x)
    recalibrate(norm, [x])
    for name, value in statistics(theirs).items():
        torch.testing.assert_close(statistics(norm)[name], value)


def test_a_large_mean_does_not_cancel_the_variance() -> None:
    model = nn.BatchNorm1d(1)
    recalibrate(model, [torch.tensor([[4095.0], [4097.0]]), torch.tensor([[4095.0], [4097.0], [4096.0]])])
    assert model.running_mean.item() == 4096
    assert model.running_var.item() == 1


def test_nothing_else_of_the_network_changes_by_a_bit() -> None:
    model = network()
    model[3].eval()
    model[0].weight.requires_grad_(False)
    model.register_buffer("counter", torch.tensor(3.0))
    before, modes = state(model), [module.training for module in model.modules()]
    hooks = [len(module._forward_pre_hooks) for module in model]
    batches = images(3, 2)
    random = torch.get_rng_state()
    recalibrate(model, batches)
    after = state(model)
    assert {name for name in before if before[name] != after[name]} == set(statistics(model))
    assert [module.training for module in model.modules()] == modes
    assert [len(module._forward_pre_hooks) for module in model] == hooks
    assert torch.equal(torch.get_rng_state(), random), "dropout must be off"
    assert (model[0].momentum, model[4].momentum) == (0.1, 0.3)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model[0].parameters()] == [False, True]


def test_targets_are_left_aside() -> None:
    one = network()
    other = copy.deepcopy(one)
    batches = images(2, 3)
    recalibrate(one, batches)
    recalibrate(other, [(x, torch.zeros(len(x))) for x in batches])
    assert state(one) == state(other)


def test_after_training_it_replaces_what_faded_in() -> None:
    """As under `target` the running statistics lag; afterwards they are those of the data and the final weights."""
    model, batches = network(), images(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with training_mode(model, "recalibrated"):
        for x in batches:
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    mean, _ = pooled(batches)
    assert (model[0].running_mean - mean).abs().min() > 0.1
    recalibrate(model, batches)
    torch.testing.assert_close(model[0].running_mean, mean, **CLOSE)


def test_a_batch_norm_that_is_used_twice_pools_both_and_one_that_is_not_keeps_its_own() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.unused = nn.BatchNorm1d(1), nn.BatchNorm1d(1)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.norm(x) + self.norm(x + 10)
            return output

    model = Twice().double()
    model.unused.running_mean.fill_(7.0)
    x = torch.randn(4, 1, dtype=torch.float64)
    recalibrate(model, [x])
    mean, variance = pooled([x, x + 10])
    torch.testing.assert_close(model.norm.running_mean, mean, **CLOSE)
    torch.testing.assert_close(model.norm.running_var, variance, **CLOSE)
    assert model.unused.running_mean.item() == 7
    assert model.unused.num_batches_tracked == 0


def test_one_batch_through_quicknat_gives_what_torch_tracks_for_it_in_every_layer() -> None:
    model = QuickNAT(filters=2, kernel_size=3, classes=3).double()
    theirs = copy.deepcopy(model).train()
    for norm in batch_norms(theirs).values():
        norm.momentum = None
    x = 2 + torch.randn(2, 1, 32, 32, dtype=torch.float64)
    theirs(x)
    recalibrate(model, [x])
    assert len(statistics(model)) == 27 * 3
    for name, value in statistics(theirs).items():
        torch.testing.assert_close(statistics(model)[name], value, rtol=1e-10, atol=1e-10)


def sums(ranks: int) -> list[Callable[[Tensor], Tensor]]:
    """Threads in place of processes: each sum waits for the tensors of all the others."""
    barrier = threading.Barrier(ranks, timeout=20)
    parts: list[Tensor | None] = [None] * ranks

    def summed(rank: int, x: Tensor) -> Tensor:
        parts[rank] = x
        barrier.wait()
        total = torch.stack(parts).sum(0)
        barrier.wait()
        return total

    return [lambda x, rank=rank: summed(rank, x) for rank in range(ranks)]


@pytest.mark.parametrize("sizes", [[3, 3], [1, 5], [6, 0], [1, 2, 3]], ids=str)
def test_several_processes_give_what_one_gives(sizes: list[int]) -> None:
    whole, batches = network(), images(6, 6)
    copies = [copy.deepcopy(whole) for _ in sizes]
    recalibrate(whole, batches)

    def one(rank: int, total: Callable[[Tensor], Tensor]) -> None:
        recalibrate(copies[rank], [x.split(sizes)[rank] for x in batches], total)

    with ThreadPoolExecutor(len(sizes)) as pool:
        list(pool.map(one, range(len(sizes)), sums(len(sizes))))
    for model in copies:
        for name, value in statistics(whole).items():
            torch.testing.assert_close(statistics(model)[name], value, **CLOSE)


def test_shards_that_were_normalised_apart_would_give_other_numbers() -> None:
    """Why `sum_over_processes` acts in the forward pass too: the second batch norm sees what the first makes."""
    whole, batches = network(), images(6)
    apart = copy.deepcopy(whole)
    recalibrate(whole, batches)
    recalibrate(apart, batches[0].split([1, 5]))
    torch.testing.assert_close(apart[0].running_var, whole[0].running_var, **CLOSE)
    assert not torch.allclose(apart[4].running_var, whole[4].running_var, rtol=1e-3)


def broken() -> Iterator[Tensor]:
    yield from images(3)
    raise KeyError("unreadable")


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([], BatchNormError, "at least one batch"),
        (torch.zeros(2, 2, 6, 5), BatchNormError, r"one tensor, \(2, 2, 6, 5\): use \[x\]"),
        (
            [torch.full((2, 2, 6, 5), float("nan"), dtype=torch.float64)],
            BatchNormError,
            "'0.running_mean', .* not finite",
        ),
        (broken(), KeyError, "unreadable"),
    ],
    ids=["empty", "a tensor", "NaN", "an exception of the data"],
)
def test_where_it_fails_the_network_is_as_before(batches: object, error: type[Exception], message: str) -> None:
    model = network()
    model[0].eval()
    before, modes = state(model), [module.training for module in model.modules()]
    with pytest.raises(error, match=message):
        recalibrate(model, batches)
    assert state(model) == before
    assert [module.training for module in model.modules()] == modes
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_a_batch_of_a_single_value_is_refused_by_the_name_of_the_batch_norm() -> None:
    model = QuickNAT(filters=2, kernel_size=3)
    with pytest.raises(
        BatchNormError, match=r"'bottleneck\.batchnorm1' needs more than one value.* got 1 \(input \(1, 2, 1, 1\)\)"
    ):
        recalibrate(model, [torch.rand(1, 1, 16, 16)])
    assert all(norm.num_batches_tracked == 0 for norm in batch_norms(model).values())


def test_statistics_that_are_not_kept_cannot_be_estimated() -> None:
    with pytest.raises(BatchNormError, match='batch_norm="recalibrated" needs running statistics'):
        recalibrate(nn.BatchNorm1d(2, track_running_stats=False), [torch.rand(3, 2)])


def test_a_network_without_batch_norm_is_left_alone() -> None:
    model = nn.Linear(2, 2)
    before = state(model)
    recalibrate(model, [torch.rand(3, 2)])
    assert state(model) == before


def test_inside_another_synchronisation_it_is_refused() -> None:
    model = network()
    with synchronized_batch_norm(model, lambda x: x), pytest.raises(BatchNormError, match="`forward` of its own"):
        recalibrate(model, images(3), lambda x: x)
