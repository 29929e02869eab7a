"""What does the machine allow, and which share of it do networks reach? Operations counted, not estimated."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial

import torch
from results import Found
from script import Measure, Options, run
from steps import Stepper, as_trained, default_precision, plainly
from timing import clock, side_by_side
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from workloads import Workload, workload

from perdure.models import QuickNAT, evaluation_mode, fast_kernels

CHANNELS, PIXELS, SAMPLES = 64, 128, 4
TYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}
NETWORKS = ("quicknat-128", "resnet50")


def convolution(dtype: torch.dtype, options: Options) -> tuple[Callable[[], Tensor], float]:
    """A convolution of QuickNAT's, channels last, and its operations in billions."""
    layer = nn.Conv2d(CHANNELS, CHANNELS, 5, padding=2, bias=False).to(options.device, dtype)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = options.pick(16, PIXELS, PIXELS)
    x = torch.randn(SAMPLES, CHANNELS, pixels, pixels, device=options.device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    operations = 2 * SAMPLES * pixels**2 * CHANNELS**2 * 25 / 1e9

    def work() -> Tensor:
        with torch.no_grad():
            return layer(x)

    return work, operations


def _rates(work: Callable[[], object], amount: float, options: Options) -> tuple[float, ...]:
    taken = side_by_side({"one": work}, options.pick(2, 9, 25), clock(options.device))["one"]
    return tuple(amount / seconds for seconds in taken)


def ceilings(options: Options) -> Mapping[str, Found]:
    """Billions of operations, and of bytes, a second."""
    found = {}
    for key, dtype in (("conv-float32", torch.float32), ("conv-bf16", torch.bfloat16)):
        found[f"roofline/{key}"] = Found(_rates(*convolution(dtype, options), options))
    size = options.pick(64, 2048, 2048)
    a, b = (torch.randn(size, size, device=options.device) for _ in range(2))
    found["roofline/matmul-float32"] = Found(_rates(lambda: a @ b, 2 * size**3 / 1e9, options))
    source = torch.zeros(options.pick(2**16, 2**26, 2**26), device=options.device)
    target = torch.empty_like(source)
    found["roofline/copy"] = Found(_rates(lambda: target.copy_(source), 2 * 4 * source.numel() / 1e9, options))
    return found


def share(
    key: str, work: Callable[[], object], operations: float, precision: str, options: Options
) -> dict[str, Found]:
    """What some work reaches of the convolution's rate in its precision, in turns."""
    ceiling, own = convolution(TYPES[precision], options)
    taken = side_by_side({"work": work, "ceiling": ceiling}, options.pick(1, 3, 9), clock(options.device))
    values = [(operations / one) / (own / other) for one, other in zip(taken["work"], taken["ceiling"], strict=True)]
    rate = operations / statistics.median(taken["work"])
    return {key: Found(tuple(values), f"{operations:.0f} GFLOP, {rate:.0f} GFLOP/s; {precision}")}


def counted(work: Callable[[], object]) -> float:
    """The operations of convolutions and products, in billions."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return counter.get_total_flops() / 1e9


def step(name: str, network: str, options: Options) -> Mapping[str, Found]:
    """A training step, plain or as `train` runs it."""
    own = workload(network, options.device, tiny=options.form == "tiny")
    made: Callable[[Workload], AbstractContextManager[Stepper]] = plainly if name == "plain" else as_trained
    with plainly(Workload(copy.deepcopy(own.model), own.inputs, own.target)) as plain:
        operations = counted(plain.step)
    precision = "32-true" if name == "plain" else default_precision(options.device)
    with made(own) as stepper:
        return share(f"roofline/{name}/{network}", stepper.step, operations, precision, options)


def prediction(options: Options) -> Mapping[str, Found]:
    """The network of a prediction, without files, in the precision that training takes on this machine."""
    torch.manual_seed(0)
    pixels = options.pick(32, 256, 256)
    model = QuickNAT(filters=options.pick(4, 64, 64)).to(options.device)
    x = torch.randn(8, 1, pixels, pixels, device=options.device)
    precision = default_precision(options.device)

    def work() -> Tensor:
        with torch.inference_mode(), torch.autocast(options.device, TYPES[precision], precision != "32-true"):
            return model(x)

    with evaluation_mode(model):
        operations = counted(lambda: model(x))
        with fast_kernels(model):
            return share("roofline/predict", work, operations, precision, options)


def _measures() -> Iterator[Measure]:
    names = ("conv-float32", "conv-bf16", "matmul-float32", "copy")
    yield Measure(tuple(f"roofline/{name}" for name in names), ceilings)
    for network in NETWORKS:
        for name in ("plain", "train"):
            yield Measure((f"roofline/{name}/{network}",), partial(step, name, network))
    yield Measure(("roofline/predict",), prediction)


ALL = tuple(_measures())

if __name__ == "__main__":
    run(__file__, ALL)
