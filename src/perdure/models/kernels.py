"""On which of torch's kernels a network runs: the same results, in less time.

What decides is how torch 2.13 chooses a kernel on a processor, measured (`docs/performance.md`):

- 2-D images in the channels-last memory layout take the kernels of oneDNN without being laid out anew at each layer.
- The backward kernel of a PReLU with one slope is some ten times slower than that of a leaky ReLU, the same function.
- On one thread, with fewer than 16 samples, a 1x1 convolution in float32 leaves oneDNN for a plain matrix product. One
  that is dilated does not; and a kernel of one pixel has no neighbours that a dilation could move.

None of it changes a weight, or what is saved; sums may be taken in another order, so that the last bits differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class OneSlopePReLU(nn.PReLU):
    """A PReLU with one slope, on a processor by the kernel of the leaky ReLU."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """As `torch.nn.PReLU`."""
        if input.device.type != "cpu":
            # the slope has to be a number, and asking a card for it would wait for the card
            return super().forward(input)
        return cast("Tensor", _LeakyReLU.apply(input, self.weight))  # type: ignore[no-untyped-call]


class _LeakyReLU(torch.autograd.Function):
    r"""max(x, 0) + a min(x, 0), whose derivative by a is min(x, 0)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return functional.leaky_relu(x, float(slope))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, slope = ctx.saved_tensors
        (g,) = gradients
        to_x = to_slope = None
        if ctx.needs_input_grad[0]:
            to_x = torch.ops.aten.leaky_relu_backward(g, x, float(slope), False)
        if ctx.needs_input_grad[1]:
            # the sum in at least float32: it is over all pixels
            total = x.clamp(max=0).mul_(g).sum(dtype=torch.promote_types(slope.dtype, torch.float32))
            to_slope = total.to(slope.dtype).reshape(slope.shape)
        return to_x, to_slope


@contextmanager
def fast_kernels(model: nn.Module) -> Iterator[None]:
    """Lets a network run on the fast kernels inside; layers, their settings and memory layouts are back at the end.

    Inputs may come in any layout.

    Args:
        model: any network, on its device.
    """
    undo = make_fast(model)
    try:
        yield
    finally:
        undo()


def make_fast(model: nn.Module) -> Callable[[], None]:
    """Puts a network on the fast kernels; what it returns undoes that. See `fast_kernels`."""
    layers = list(model.modules())
    slopes: list[Any] = [layer for layer in layers if type(layer) is nn.PReLU and layer.num_parameters == 1]
    points: list[Any] = [layer for layer in layers if _is_point(layer)]
    dilations = [layer.dilation for layer in points]
    flat = [p for p in model.parameters() if p.ndim == 4]
    before = [parameter.data for parameter in flat]
    handle = model.register_forward_pre_hook(_channels_last) if _is_2d(layers) else None

    for layer in slopes:
        layer.__class__ = OneSlopePReLU
    for layer in points:
        layer.dilation = (2, 2)
    if handle is not None:
        for parameter in flat:
            parameter.data = _laid_out(parameter.data)

    def undo() -> None:
        for layer in slopes:
            layer.__class__ = nn.PReLU
        for layer, dilation in zip(points, dilations, strict=True):
            layer.dilation = dilation
        if handle is None:
            return
        handle.remove()
        for parameter, own in zip(flat, before, strict=True):
            # into the memory that was its own: somebody may look at it
            own.copy_(parameter.data)
            parameter.data = own

    return undo


def _is_2d(layers: list[nn.Module]) -> bool:
    return any(isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) for layer in layers)


def _is_point(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of single pixels for which torch would leave oneDNN."""
    if type(layer) is not nn.Conv2d or layer.weight.device.type != "cpu" or torch.get_num_threads() > 1:
        return False
    return layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding == (0, 0) and layer.groups == 1


def _channels_last(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_laid_out(arg) if isinstance(arg, Tensor) and arg.ndim == 4 else arg for arg in args)


def _laid_out(tensor: Tensor) -> Tensor:
    """In channels-last: images, or the weights of a convolution."""
    if tensor.shape[1] > 1:
        return tensor.contiguous(memory_format=torch.channels_last)
    # one channel is in both layouts: its strides alone say that what comes of it shall be in this one
    height, width = tensor.shape[2:]
    return tensor.clone(memory_format=torch.contiguous_format).as_strided(tensor.shape, (height * width, 1, width, 1))
