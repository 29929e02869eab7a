"""What would have fitted, where a training step did not fit into memory?"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from perdure.models import evaluation_mode

if TYPE_CHECKING:
    from torch import Tensor, nn

_SAID = (
    "not enough memory", "DefaultCPUAllocator", "out of memory", "bad_alloc", "can't allocate memory",
    "could not create a primitive",
)  # fmt: skip
"""What torch's errors say, besides those of a class of their own; the last is oneDNN's only word."""

_HEADROOM = 2.5
"""So many times what a forward pass keeps is free memory counted: gradients pass through it too; our choice."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory could not be had."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)


def free_memory(device: str = "cpu") -> float:
    """Bytes that may still be taken: of a card, or of this machine within the limits of group and process."""
    if device == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    import psutil

    free = float(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (most := limit.read_text().strip()) != "max":
        free = min(free, float(most) - float(used.read_text()))
    process = psutil.Process()
    if hasattr(psutil, "RLIMIT_AS") and (soft := process.rlimit(psutil.RLIMIT_AS)[0]) != psutil.RLIM_INFINITY:
        free = min(free, max(0.0, float(soft - process.memory_info().vms)))
    return free


def advice(error: BaseException, batch_size: int, model: nn.Module, sample: Tensor | None, device: str = "cpu") -> str:
    """What to say of a shortage: how much a sample takes, and which batch size should fit.

    Args:
        error: that said so; what its frames hold is let go first.
        batch_size: that did not fit.
        model: the network, not needed any more.
        sample: one input `(1, channels, *spatial)` to measure with; None where this process cannot do it alone.
        device: where the step ran.
    """
    traceback.clear_frames(error.__traceback__)
    free = free_memory(device)
    size = None if sample is None else _kept_of(model, sample, device)
    fits = batch_size // 2 if size is None else min(batch_size // 2, int(free / (_HEADROOM * size)))
    measured = "" if size is None else f", and one sample takes about {_HEADROOM * size / 2**20:,.0f} MiB"
    said = f"A step of {batch_size} sample(s) does not fit into memory: {free / 2**30:.2f} GiB are free{measured}. "
    smaller = "Take smaller samples (--size) or a smaller network"
    if fits < 1:
        return f"{said}{smaller}; no smaller batch is left."
    return f"{said}A batch size of {fits} should fit (--batch-size {fits}; --retry-smaller halves it by itself)."


def _kept_of(model: nn.Module, sample: Tensor, device: str) -> int | None:
    """Bytes that a forward pass keeps for the gradient of one sample; None where not even that fits."""
    kept: dict[int, int] = {}
    output: Tensor

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model = model.to(device)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    try:
        with evaluation_mode(model), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model(sample.to(device))
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        return None
    return output.nbytes + sum(size for place, size in kept.items() if place not in own)
