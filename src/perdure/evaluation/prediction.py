"""What does a release say of an image?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from perdure.data import ImageGrid, prepare_image
from perdure.data.geometry import centred, window
from perdure.data.intensity import padding
from perdure.errors import ConfigurationError, EvaluationError
from perdure.evaluation.segmented import Segmented, label_values
from perdure.models import OpenVino, batch_norms, evaluation_mode, load_batch_norm_state, make_fast, size_multiple
from perdure.types import Precision

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from perdure.data import Grid
    from perdure.models import Engine
    from perdure.release import Release
    from perdure.types import Contract

    Pixels: TypeAlias = NDArray[np.float32]
    Shape: TypeAlias = tuple[int, ...]

MULTIPLE = 32
"""Networks that halve their input up to five times take any size that this divides."""
PIXELS_AT_ONCE, ON_A_CARD = 2**14, 2**20
"""So many go through a network together, whole slices and at least one. On a processor more cost time: each layer's
output is then so large that its memory comes anew from the system at every call."""
CLASSIFIED_AT_ONCE = 2**19
"""The same of images that are classified: networks for these halve them early, and have many small layers."""


def network_of(release: Release, domain: str | None) -> nn.Module:
    """A copy of a release's network, with the batch norm of a domain where the release keeps one a domain.

    Args:
        release: is left as it is.
        domain: without one, or for one that the release does not know, the newest domain's.
    """
    model: nn.Module = deepcopy(release.model)
    if domain is not None and domain in release.memory.norms:
        load_batch_norm_state(model, release.memory.norms[domain])
    return model


class Predictor:
    """A release that is ready to look at images.

    What is smaller than a training sample is padded with black as in training, and cropped back. A slice that is larger
    is padded to a multiple of 32; a larger volume is looked at window by window, a window being a training sample.

    Args:
        release: whose model is used, in evaluation mode.
        device: where it runs.
        domain: where the images are from; only a release that keeps one batch norm a domain looks at it. Without it, or
            for a domain that the release does not know, the newest domain's is used.
        precision: `32-true`, or `bf16-mixed`: convolutions and products in half precision, faster where the machine has
            it in hardware. A few labels at borders then differ; `evaluate` always takes the first.
        engine: what runs the network; `evaluate` always takes torch.

    Raises:
        ConfigurationError: if OpenVINO is asked for, and is not installed or not for `device`.
        NetworkError: if OpenVINO cannot run the network.
    """

    def __init__(
        self,
        release: Release,
        device: str = "cpu",
        domain: str | None = None,
        precision: Precision = "32-true",
        engine: Engine = "torch",
    ) -> None:
        self.precision = precision
        self.contract: Contract = release.contract
        self.device = device
        self.model = network_of(release, domain).to(device)
        # batch norm without statistics of its own mixes what goes together
        self._mixes = any(layer.running_mean is None for layer in batch_norms(self.model).values())
        if engine == "openvino":
            self.model = self._by_openvino(self.model)
        else:
            make_fast(self.model)
        self._values = label_values(self.contract)
        self.largest_value = int(self._values.max())
        # a network that halves more often needs more
        needed = size_multiple(release.identity.network) or (1,) * len(self.contract.size)
        self.multiple = tuple(math.lcm(MULTIPLE, one) for one in needed)
        self._black = padding(self.contract.intensity, self.contract.channels)

    def classes(self, pixels: Pixels, grid: Grid) -> NDArray[np.uint8]:
        """The class index of every pixel, on the image's own grid.

        A picture's probabilities are brought back to its own size before the largest is taken; a volume's labels go
        back by the nearest voxel.

        Args:
            pixels: the image as the contract has it, `(slices, channels, H, W)`, or `(1, channels, D, H, W)`.
            grid: the way back to its own grid.

        Raises:
            EvaluationError: if the network's output does not fit its input and the contract's classes.
        """
        if not isinstance(grid, ImageGrid):
            return grid.labels_to_original(self.classes_on_network_grid(pixels))
        with self._measuring():
            probability = self._scores(pixels).softmax(dim=1)[0].cpu().numpy()
        return np.asarray(grid.probabilities_to_original(probability).argmax(axis=0), np.uint8)

    def classes_on_network_grid(self, pixels: Pixels) -> NDArray[np.uint8]:
        """The class index of every pixel of `(slices, channels, H, W)`, or of `(1, channels, D, H, W)`."""
        labels = np.empty((len(pixels), *pixels.shape[2:]), np.uint8)

        def take(where: slice, logits: Tensor) -> None:
            labels[where] = logits.argmax(dim=1).to(torch.uint8).cpu().numpy()

        self.look(pixels, take)
        return labels

    def segmented(self, file: Path, *, probabilities: bool = False) -> Segmented:
        """One image file, segmented; see `Segmenter`."""
        image = prepare_image(file, self.contract)
        if not probabilities:
            return Segmented(self.classes(image.pixels, image.grid), image.header)
        slices, _, *spatial = image.pixels.shape
        labels = np.empty((slices, *spatial), np.uint8)
        maps = np.empty((slices, self.contract.classes, *spatial), np.float32)

        def take(where: slice, logits: Tensor) -> None:
            labels[where] = logits.argmax(dim=1).cpu().numpy()
            maps[where] = logits.softmax(dim=1).cpu().numpy()

        self.look(image.pixels, take)
        if isinstance(image.grid, ImageGrid):
            own = image.grid.probabilities_to_original(maps[0])
            return Segmented(np.asarray(own.argmax(axis=0), np.uint8), image.header, lambda index: own[index])
        back = image.grid.labels_to_original
        return Segmented(back(labels), image.header, lambda index: back(maps[:, index]))

    def look(self, pixels: Pixels, take: Callable[[slice, Tensor], None]) -> None:
        """Has the network look at a few slices at a time.

        Args:
            pixels: `(slices, channels, H, W)`, or `(1, channels, D, H, W)`.
            take: given which slices, and their logits `(slices, classes, *spatial)`.
        """
        with self._measuring():
            at_once = PIXELS_AT_ONCE if torch.device(self.device).type == "cpu" else ON_A_CARD
            together = max(1, at_once // math.prod(self._padded(pixels.shape[2:])))
            for start in range(0, len(pixels), together):
                part = pixels[start : start + together]
                take(slice(start, start + len(part)), self._scores(part))

    def values(self, pixels: Pixels, grid: Grid) -> NDArray[np.unsignedinteger]:
        """The label value of every pixel, on the image's own grid; a merged structure gives its first value."""
        return self._values[self.classes(pixels, grid)]

    @property
    def together(self) -> int:
        """How many images are best classified at once: volumes one by one, of which each is held whole."""
        if self.contract.spatial_dims == 3 or self._mixes:
            return 1
        return max(1, CLASSIFIED_AT_ONCE // math.prod(self.contract.size))

    def probabilities(self, *images: Pixels) -> NDArray[np.float64]:
        """The probability of each class `(images, classes)` of classified images, each `(1, channels, *spatial)`.

        A volume is padded or cropped to the size of a training sample about its middle, as in training. The last bits
        of one depend on how many others there are.
        """
        with self._measuring():
            inputs = torch.cat([self._cut(pixels, self.contract.size)[0] for pixels in images])
            output = self._checked(self.model(inputs), (len(images), self.contract.classes))
            probability: NDArray[np.float64] = output.double().softmax(dim=1).cpu().numpy()
            return probability

    def _by_openvino(self, model: nn.Module) -> nn.Module:
        if torch.device(self.device).type != "cpu":
            raise ConfigurationError(f"--engine openvino: runs on the processor, not on {self.device}; leave one out.")
        one = (self.contract.channels, *self.contract.size)
        # volumes go window by window
        is_free = self.contract.task == "segmentation" and self.contract.spatial_dims == 2
        return OpenVino(model, one, is_free=is_free, precision=self.precision)

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        half = torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.precision == "bf16-mixed")
        with evaluation_mode(self.model), torch.inference_mode(), half:
            yield

    def _scores(self, pixels: Pixels) -> Tensor:
        """Logits `(slices, classes, *spatial)` of `(slices, channels, *spatial)`."""
        spatial, wanted = pixels.shape[2:], self._padded(pixels.shape[2:])
        inputs, before = self._cut(pixels, wanted)
        output = self._by_window(inputs) if self.contract.spatial_dims == 3 else self.model(inputs)
        output = self._checked(output, (len(pixels), self.contract.classes, *wanted))
        for axis, (start, have) in enumerate(zip(before, spatial, strict=True), 2):
            output = output.narrow(axis, start, have)
        return output.float()

    def _padded(self, spatial: Shape) -> Shape:
        """What the network is given of an image: a training sample at least, and a size that it can halve."""
        size, volume = self.contract.size, self.contract.spatial_dims == 3
        larger = [
            have if volume else -(-have // times) * times for have, times in zip(spatial, self.multiple, strict=True)
        ]
        return tuple(want if have <= want else more for have, want, more in zip(spatial, size, larger, strict=True))

    def _cut(self, pixels: Pixels, size: Shape) -> tuple[Tensor, Shape]:
        """The middle of an image on the device, with black around it, and how many pixels of black stand before it."""
        corner = centred(pixels.shape[2:], size)
        channels = [window(pixels[:, i], corner, size, black) for i, black in enumerate(self._black)]
        return torch.from_numpy(np.stack(channels, axis=1)).to(self.device), tuple(-start for start in corner)

    def _by_window(self, inputs: Tensor) -> Tensor:
        from monai.inferers import sliding_window_inference

        output = sliding_window_inference(inputs, self.contract.size, 1, self.model, overlap=0.25, mode="gaussian")
        assert isinstance(output, torch.Tensor)
        return output

    def _checked(self, output: Tensor, expected: Shape) -> Tensor:
        if tuple(output.shape) != expected:
            raise EvaluationError(
                f"The network gave an output of shape {tuple(output.shape)}; the contract asks for {expected} "
                "(images, classes, and for a segmentation the size of the input)."
            )
        return output


def norm_domain(release: Release, domain: str | None) -> str | None:
    """The domain whose batch norm predicts; None for a release that has one for all.

    Raises:
        EvaluationError: if a release keeps one batch norm a domain, and `domain` is none of them.
    """
    norms = release.memory.norms
    if norms and domain not in norms:
        found = "no domain is named" if domain is None else f"it has none for {domain!r}"
        raise EvaluationError(
            f"Release {release.name!r} keeps one batch norm a domain, and {found}: say where the images are from "
            f"(--domain), one of {', '.join(norms)}. For another place name the one whose images are most alike, or "
            "update the release to it."
        )
    return domain if norms else None
