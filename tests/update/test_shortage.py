"""A step that does not fit into memory says what would, and half the batch is tried where that is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from perdure.errors import MemoryShortageError, UpdateError
from perdure.release import Release
from perdure.update import Recipe, train
from perdure.update.shortage import advice, free_memory, is_shortage
from reference.domains import TinyDomain, segmenter, state

RECIPE = Recipe(learning_rate=0.05, epochs=2, batch_size=8, clip_norm=1.0)
# what torch says on a CPU
REFUSED = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
)


class Hungry(nn.Module):
    """A network that takes batches of at most so many samples while it trains, as if each took memory."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.inner, self.most = segmenter(dropout=0.0), most

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > self.most:
            raise RuntimeError(REFUSED)
        y: Tensor = self.inner(x)
        return y


@dataclass
class Said:
    """Keeps what progress said."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, what: str, *_: object) -> None:
        self.lines.append(what)


def hungry(most: int) -> Hungry:
    torch.manual_seed(11)
    return Hungry(most)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (RuntimeError(REFUSED), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_errors_of_memory_are_told_from_others(error: BaseException, is_one: bool) -> None:
    assert is_shortage(error) == is_one


def test_the_error_says_how_much_is_free_what_a_sample_takes_and_which_batch_size_fits(tmp_path: Path) -> None:
    said = r"A step of 8 sample\(s\) .* GiB are free, and one sample takes .* A batch size of 4 should fit \(--batch-"
    with pytest.raises(MemoryShortageError, match=said):
        train(hungry(6), TinyDomain(), recipe=RECIPE, out=tmp_path / "out")


def test_an_error_of_another_kind_stays_what_it_is() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(Broken(), TinyDomain(), recipe=RECIPE)


def test_the_batch_size_that_fits_follows_from_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A linear layer keeps its input, 4 x 1000 bytes, and gives 4 x 1000; times 2.5 that is 20 000 bytes a sample."""
    model, sample = nn.Linear(1000, 1000), torch.rand(1, 1000)
    for free, fits in ((100_000, 5), (10**9, 32), (20_000, 1)):
        monkeypatch.setattr("perdure.update.shortage.free_memory", lambda device, free=free: free)
        assert f"A batch size of {fits} should fit" in advice(MemoryError(), 64, model, sample)
    monkeypatch.setattr("perdure.update.shortage.free_memory", lambda device: 19_000)
    assert "Take smaller samples (--size) or a smaller network" in advice(MemoryError(), 64, model, sample)
    assert "no smaller batch is left" in advice(MemoryError(), 1, model, None)


def test_what_is_free_is_a_number_of_bytes_within_the_limit_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory() > 2**20
    monkeypatch.setattr("psutil.Process.rlimit", lambda self, what: (0, 0))
    assert free_memory() == 0


def test_half_the_batch_is_tried_once_where_that_is_asked_for(tmp_path: Path) -> None:
    """The release is the one that half the batch size gives, and says which was asked for."""
    said = Said()
    made = train(hungry(6), TinyDomain(), recipe=RECIPE, out=tmp_path / "out", retry_smaller=True, progress=said)
    assert "out of memory; batch size 4 instead of 8" in said.lines
    assert made.identity.recipe["batch_size"] == 4
    assert made.identity.training["asked_batch_size"] == 8
    straight = train(hungry(6), TinyDomain(), recipe=RECIPE.model_copy(update={"batch_size": 4}))
    assert state(made.model) == state(straight.model)
    assert "asked_batch_size" not in straight.identity.training


def test_the_same_call_opens_what_half_the_batch_made(tmp_path: Path) -> None:
    arguments = {"recipe": RECIPE, "out": tmp_path / "out"}
    made = train(hungry(6), TinyDomain(), **arguments, retry_smaller=True)
    assert train(hungry(6), TinyDomain(), **arguments, retry_smaller=True).id == made.id
    with pytest.raises(UpdateError, match="belongs to a run with other settings; these differ: recipe"):
        train(hungry(6), TinyDomain(), **arguments)


def test_a_run_that_was_stopped_goes_on_with_half_the_batch(tmp_path: Path) -> None:
    def stop(what: str, *_: object) -> None:
        if what == "epoch 2 of 2":
            raise KeyboardInterrupt

    arguments = {"recipe": RECIPE, "out": tmp_path / "out", "retry_smaller": True}
    with pytest.raises(KeyboardInterrupt):
        train(hungry(6), TinyDomain(), **arguments, progress=stop)
    said = Said()
    made = train(hungry(6), TinyDomain(), **arguments, progress=said)
    assert "epoch 1 of 2" not in said.lines
    assert state(made.model) == state(train(hungry(6), TinyDomain(), recipe=RECIPE, retry_smaller=True).model)


def test_it_is_tried_once_and_not_again(tmp_path: Path) -> None:
    with pytest.raises(MemoryShortageError, match=r"A step of 4 sample\(s\)"):
        train(hungry(1), TinyDomain(), recipe=RECIPE, out=tmp_path / "out", retry_smaller=True)


def test_what_was_finished_is_kept_and_not_begun_anew(tmp_path: Path) -> None:
    """Memory that is short in a later epoch is taken by somebody else: the same command goes on when it is free."""
    network = hungry(8)
    arguments = {"recipe": RECIPE, "out": tmp_path / "out", "retry_smaller": True}

    class Later(TinyDomain):
        def batches(self, *given: object, **named: object) -> object:
            if named.get("epoch"):
                raise RuntimeError(REFUSED)
            return super().batches(*given, **named)

    with pytest.raises(MemoryShortageError, match="What was finished is kept; the same command goes on"):
        train(network, Later(), **arguments)
    made: Release = train(network, TinyDomain(), **arguments)
    assert made.identity.recipe["batch_size"] == 8
    assert state(made.model) == state(train(hungry(8), TinyDomain(), recipe=RECIPE).model)
