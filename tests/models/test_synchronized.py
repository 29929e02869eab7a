from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from perdure.errors import BatchNormError
from perdure.models import synchronized_batch_norm, training_mode

SCRIPT = Path(__file__).with_name("gloo_shard.py")
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


class Processes:
    """Threads in place of processes: each `sum` waits for the tensors of all the others, forwards and backwards."""

    def __init__(self, number: int) -> None:
        self.barrier = threading.Barrier(number, timeout=20)
        self.parts: list[Tensor | None] = [None] * number

    def sum(self, rank: int):
        processes = self

        class Sum(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                return processes.exchange(rank, x)

            @staticmethod
            def backward(ctx: Any, gradient: Tensor) -> Tensor:
                return processes.exchange(rank, gradient)

        return Sum.apply

    def exchange(self, rank: int, x: Tensor) -> Tensor:
        self.parts[rank] = x.detach()
        self.barrier.wait()
        total = torch.stack(self.parts).sum(0)
        self.barrier.wait()
        return total


def run(model: nn.Module, x: Tensor, sizes: list[int], batches: int = 1) -> list[dict[str, Tensor]]:
    """Each shard's output, input gradient, parameter gradients and buffers, under a loss that is no plain sum."""
    processes = Processes(len(sizes))

    def one(rank: int, own: nn.Module, part: Tensor) -> dict[str, Tensor]:
        part = part.detach().clone().requires_grad_()
        own.train()
        with synchronized_batch_norm(own, processes.sum(rank)):
            for _ in range(batches - 1):
                own(part)
            y = own(part)
            y.pow(3).sum().backward()
        gradients = {f"gradient.{name}": p.grad for name, p in own.named_parameters()}
        return {"y": y.detach(), "x": part.grad, **gradients, **dict(own.named_buffers())}

    with ThreadPoolExecutor(len(sizes)) as pool:
        models = [copy.deepcopy(model) for _ in sizes]
        return list(pool.map(one, range(len(sizes)), models, x.split(sizes)))


def expected(model: nn.Module, x: Tensor, batches: int = 1) -> dict[str, Tensor]:
    own = copy.deepcopy(model)
    x = x.detach().clone().requires_grad_()
    own.train()
    for _ in range(batches - 1):
        own(x)
    y = own(x)
    y.pow(3).sum().backward()
    gradients = {f"gradient.{name}": p.grad for name, p in own.named_parameters()}
    return {"y": y.detach(), "x": x.grad, **gradients, **dict(own.named_buffers())}


def assert_same(shards: list[dict[str, Tensor]], whole: dict[str, Tensor]) -> None:
    for key, value in whole.items():
        if key in ("y", "x"):
            torch.testing.assert_close(torch.cat([shard[key] for shard in shards]), value, **CLOSE)
        elif key.startswith("gradient."):
            torch.testing.assert_close(sum(shard[key] for shard in shards), value, **CLOSE)
        else:
            for shard in shards:
                torch.testing.assert_close(shard[key], value, **CLOSE)


def with_affine(norm: nn.Module) -> nn.Module:
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return norm.double()


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(3), (6, 3)),
        (nn.BatchNorm1d(3), (6, 3, 5)),
        (nn.BatchNorm2d(3), (6, 3, 4, 5)),
        (nn.BatchNorm3d(3), (6, 3, 2, 3, 4)),
        (nn.BatchNorm2d(3, momentum=None), (6, 3, 4, 5)),
        (nn.BatchNorm2d(3, momentum=0.3, eps=0.1), (6, 3, 4, 5)),
        (nn.BatchNorm2d(3, affine=False), (6, 3, 4, 5)),
        (nn.BatchNorm2d(3, track_running_stats=False), (6, 3, 4, 5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("sizes", [[3, 3], [1, 5], [6, 0], [1, 2, 3]], ids=str)
def test_shards_together_are_one_batch(norm: nn.Module, shape: tuple[int, ...], sizes: list[int]) -> None:
    """Output, gradients of input and affine parameters, and buffers after two batches, in float64."""
    model = with_affine(norm)
    x = 5 + 2 * torch.randn(shape, dtype=torch.float64)
    assert_same(run(model, x, sizes, batches=2), expected(model, x, batches=2))


def test_a_large_mean_does_not_cancel_the_variance() -> None:
    model = nn.BatchNorm1d(1, affine=False, eps=0.0)
    x = 4096 + torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
    shards = run(model, x, [2, 2])
    assert torch.cat([shard["y"] for shard in shards]).flatten().tolist() == [-1.0, 1.0, -1.0, 1.0]
    assert shards[0]["running_var"].item() == pytest.approx(0.9 * 1 + 0.1 * 4 / 3)


def test_sync_batch_norm_works_on_the_cpu_too() -> None:
    plain, model = with_affine(nn.BatchNorm2d(3)), nn.SyncBatchNorm(3).double()
    model.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    assert_same(run(model, x, [2, 2]), expected(plain, x))


def test_half_precision_is_computed_in_float32() -> None:
    model = nn.BatchNorm2d(2)
    x = torch.randn(4, 2, 8, 8, dtype=torch.bfloat16)
    model.train()
    whole = copy.deepcopy(model)
    with synchronized_batch_norm(model, lambda t: t):
        y = model(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, whole(x))
    torch.testing.assert_close(model.running_var, whole.running_var)


def test_in_evaluation_mode_nothing_is_exchanged() -> None:
    def never(tensor: Tensor) -> Tensor:
        raise AssertionError

    model = nn.Sequential(nn.BatchNorm1d(2))
    x = torch.randn(3, 2)
    before = model.eval()(x)
    with synchronized_batch_norm(model, never):
        assert torch.equal(model(x), before)
        with training_mode(model, "original"):
            assert torch.equal(model(x), before)


def test_afterwards_the_network_is_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2))
    keys, contents = list(model.state_dict()), set(vars(model[0]))
    with pytest.raises(KeyError), synchronized_batch_norm(model, lambda t: t):  # noqa: PT012
        assert list(model.state_dict()) == keys
        assert type(model[0]) is nn.BatchNorm1d
        raise KeyError
    assert set(vars(model[0])) == contents
    pickle.dumps(model)


def test_a_copy_made_inside_has_its_own_statistics_and_is_plain_afterwards() -> None:
    calls: list[int] = []

    def alone(tensor: Tensor) -> Tensor:
        calls.append(1)
        return tensor

    model = nn.Sequential(nn.BatchNorm1d(2))
    model.train()
    with synchronized_batch_norm(model, alone):
        other = copy.deepcopy(model)
        other(torch.randn(3, 2))
    assert len(calls) == 2
    other(torch.randn(3, 2))
    assert len(calls) == 2
    assert other[0].num_batches_tracked == 2
    assert model[0].num_batches_tracked == 0


def test_a_batch_norm_with_its_own_forward_is_refused_by_name() -> None:
    class Own(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(BatchNormError, match=r"'0' \(Own\) has a `forward` of its own"):  # noqa: SIM117
        with synchronized_batch_norm(nn.Sequential(Own(2)), lambda t: t):
            pass


def test_a_single_value_over_all_processes_is_refused() -> None:
    model = nn.BatchNorm1d(2)
    model.train()
    with synchronized_batch_norm(model, lambda t: t), pytest.raises(BatchNormError, match="more than one value"):
        model(torch.randn(1, 2))
    assert model.num_batches_tracked == 0


def test_two_processes_over_gloo_are_one_process(tmp_path: Path) -> None:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from gloo_shard import network
    finally:
        sys.path.pop(0)
    x = 3 + torch.randn(5, 2, 6, 6, dtype=torch.float64)
    for rank, part in enumerate(x.split([2, 3])):
        torch.save(part.clone(), tmp_path / f"input_{rank}.pt")
    ranks = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(rank), "2", str(tmp_path)], stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=120)[1].decode() for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0, 0], errors
    shards = [torch.load(tmp_path / f"output_{rank}.pt", weights_only=True) for rank in (0, 1)]
    # the script has summed the gradients over processes already
    halved = [{k: v / 2 if k.startswith("gradient.") else v for k, v in shard.items()} for shard in shards]
    assert_same(halved, expected(network(), x))
