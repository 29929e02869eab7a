"""QuickNAT: a 2-D encoder-decoder of dense blocks with index unpooling.

Source: Roy et al. 2019, "QuickNAT: A fully convolutional network for quick and accurate segmentation of neuroanatomy";
wiring, initialisation and parameter names as in the authors' ai-med/quickNAT_pytorch, so that their weights load.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from perdure.errors import NetworkError
from perdure.models.spec import NetworkSpec

POOLINGS = 4


class DenseBlock(nn.Module):
    """Three times batch norm, PReLU, convolution; each sees the block's input and all outputs before it.

    The first two convolutions are `kernel_size` wide, the third is 1x1. One PReLU, with one slope, is used three times.

    Args:
        channels: input channels.
        filters: output channels of each convolution.
        kernel_size: pixels, odd.
    """

    def __init__(self, channels: int, filters: int, kernel_size: int) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv1 = nn.Conv2d(channels, filters, kernel_size, padding=padding)
        self.conv2 = nn.Conv2d(channels + filters, filters, kernel_size, padding=padding)
        self.conv3 = nn.Conv2d(channels + 2 * filters, filters, 1)
        self.batchnorm1 = nn.BatchNorm2d(channels)
        self.batchnorm2 = nn.BatchNorm2d(channels + filters)
        self.batchnorm3 = nn.BatchNorm2d(channels + 2 * filters)
        self.prelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, filters, height, width)`."""
        a: Tensor = self.conv1(self.prelu(self.batchnorm1(x)))
        b: Tensor = self.conv2(self.prelu(self.batchnorm2(torch.cat((x, a), dim=1))))
        c: Tensor = self.conv3(self.prelu(self.batchnorm3(torch.cat((x, a, b), dim=1))))
        return c


class Classifier(nn.Module):
    """The 1x1 convolution from features to classes."""

    def __init__(self, filters: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(filters, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, filters, height, width)` to logits `(batch, classes, height, width)`."""
        logits: Tensor = self.conv(x)
        return logits


class QuickNAT(nn.Module):
    """Segments a 2-D image or slice; any height and width from 1 pixel.

    Four dense blocks, each followed by a 2x2 max pool; a bottleneck block; four times index unpooling (each value goes
    back to the pixel that had won the pool), concatenation behind the skip connection, dense block; a 1x1 classifier.

    Open in the publication, decided here: sizes that are no multiple of 16 are padded with zeros at the bottom and at
    the right, and the logits cropped. In training mode the padding counts in the batch statistics.

    Args:
        in_channels: channels of the image.
        classes: output channels.
        filters: channels inside.
        kernel_size: pixels, odd.
        dropout: probability in [0, 1) that a whole channel is dropped, after each encoder block (before its pool, so
            the skip connection sees it) and after each decoder block. The authors' settings say 0.2 where it is used.

    Source: 64 filters and 5x5 kernels are those of the published network, which Özgün et al. 2020 use.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 33,
        filters: int = 64,
        kernel_size: int = 5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("classes", classes), ("filters", filters)):
            if value < 1:
                raise NetworkError(f"QuickNAT: `{name}` must be at least 1; got {value}.")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise NetworkError(f"QuickNAT: `kernel_size` must be odd and positive; got {kernel_size}.")
        if not 0 <= dropout < 1:
            raise NetworkError(f"QuickNAT: `dropout` must be in [0, 1); got {dropout}.")
        self.encode1 = DenseBlock(in_channels, filters, kernel_size)
        self.encode2 = DenseBlock(filters, filters, kernel_size)
        self.encode3 = DenseBlock(filters, filters, kernel_size)
        self.encode4 = DenseBlock(filters, filters, kernel_size)
        self.bottleneck = DenseBlock(filters, filters, kernel_size)
        self.decode1 = DenseBlock(2 * filters, filters, kernel_size)
        self.decode2 = DenseBlock(2 * filters, filters, kernel_size)
        self.decode3 = DenseBlock(2 * filters, filters, kernel_size)
        self.decode4 = DenseBlock(2 * filters, filters, kernel_size)
        self.classifier = Classifier(filters, classes)
        self.dropout = nn.Dropout2d(dropout)
        self.network_spec = NetworkSpec(
            factory="quicknat",
            arguments={
                "in_channels": in_channels,
                "classes": classes,
                "filters": filters,
                "kernel_size": kernel_size,
                "dropout": dropout,
            },
        )

    def forward(self, x: Tensor) -> Tensor:
        """Image `(batch, in_channels, height, width)` to logits `(batch, classes, height, width)`."""
        return self.segmented(x, _pooled, _unpooled)

    def segmented(
        self,
        x: Tensor,
        pool: Callable[[Tensor], tuple[Tensor, Tensor]],
        unpool: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """The same with another way to write down where the largest value of a window was.

        Args:
            x: image `(batch, in_channels, height, width)`.
            pool: features to the largest of each 2x2 window, and where each was.
            unpool: puts values back to where `pool` found the largest, zero elsewhere.
        """
        height, width = x.shape[-2:]
        multiple = 2**POOLINGS
        # not `-width % multiple`: torch.export has no such remainder of a size that is not fixed
        bottom, right = (multiple - height % multiple) % multiple, (multiple - width % multiple) % multiple
        x = functional.pad(x, (0, right, 0, bottom))
        skips: list[tuple[Tensor, Tensor]] = []
        for encode in (self.encode1, self.encode2, self.encode3, self.encode4):
            skip = self.dropout(encode(x))
            x, places = pool(skip)
            skips.append((skip, places))
        x = self.bottleneck(x)
        # the deepest level uses decode4, the next ones 1, 2, 3: published weights are named so
        for decode in (self.decode4, self.decode1, self.decode2, self.decode3):
            skip, places = skips.pop()
            x = self.dropout(decode(torch.cat((skip, unpool(x, places)), dim=1)))
        logits: Tensor = self.classifier(x)
        return logits[..., :height, :width]


def _pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    pooled, indices = functional.max_pool2d(x, 2, return_indices=True)
    return pooled, indices


def _unpooled(x: Tensor, indices: Tensor) -> Tensor:
    # it moves values and computes none: autocast would have it, and all that follows, in single precision
    with torch.autocast(x.device.type, enabled=False):
        return functional.max_unpool2d(x, indices, [2, 2])
