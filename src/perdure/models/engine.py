"""By what does a network run where it only predicts: by torch, or compiled by OpenVINO?"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from perdure.errors import ConfigurationError, NetworkError
from perdure.models.batch_norm import evaluation_mode
from perdure.models.exportable import exportable
from perdure.types import Precision

Engine: TypeAlias = Literal["torch", "openvino"]

COMPARED = 2
"""Images of the first that go through torch too, at most."""
_TYPES = {"32-true": "f32", "bf16-mixed": "bf16"}
_APART = {"32-true": 1e-3, "bf16-mixed": 5e-2}
"""The most probability that may lie on other classes than by torch in float32, as a mean over images and pixels."""
_INSTEAD = "Predict without --engine openvino."


class OpenVino(nn.Module):
    """A network that OpenVINO has compiled for this processor.

    Made-up images go through torch in float32 too, and so do the first that are not of one colour; what both say is
    compared. OpenVINO takes half precision by itself where the processor has it; here it computes as it is told.

    Args:
        model: on the processor; is kept until all is compared, and not changed.
        size: `(channels, *spatial)` of an image.
        is_free: whether images of other sizes come too.
        precision: of the computation.

    Raises:
        ConfigurationError: if OpenVINO is not installed.
        NetworkError: if it cannot convert the network, or says something else than torch.
    """

    def __init__(self, model: nn.Module, size: tuple[int, ...], *, is_free: bool, precision: Precision) -> None:
        super().__init__()
        # a module of this one it would be if it were kept as it is, and gone after the comparison
        self._by_torch: Callable[[Tensor], Tensor] | None = partial(_by_torch, model)
        self._precision = precision
        self._compiled = _compiled(model, size, is_free=is_free, precision=precision)
        draw = torch.Generator().manual_seed(0)
        made_up = [torch.zeros(1, *size), torch.rand(3, *size, generator=draw)]
        if is_free:
            made_up.append(torch.rand(1, size[0], *(_other(extent) for extent in size[1:]), generator=draw))
        for x in made_up:
            self._compare(self._run(x), _by_torch(model, x))

    def forward(self, x: Tensor) -> Tensor:
        """What the network says of a batch.

        Raises:
            NetworkError: if OpenVINO cannot run it, or torch says something else of the first.
        """
        output = self._run(x)
        if self._by_torch is not None and x[:COMPARED].amin() < x[:COMPARED].amax():
            self._compare(output[:COMPARED], self._by_torch(x[:COMPARED]))
            self._by_torch = None
        return output

    def _run(self, x: Tensor) -> Tensor:
        try:
            output = torch.from_numpy(self._compiled(x.float().contiguous().numpy())[0])
        except RuntimeError as error:
            raise NetworkError(f"OpenVINO cannot run the network: {_reason(error)} {_INSTEAD}") from error
        if len(output) != len(x) or (output.ndim > 2 and output.shape[2:] != x.shape[2:]):
            raise NetworkError(
                f"OpenVINO gives {tuple(output.shape)} for images of {tuple(x.shape)}: the network is fixed to one "
                f"size of its input. {_INSTEAD}"
            )
        return output

    def _compare(self, output: Tensor, expected: Tensor) -> None:
        same = output.shape == expected.shape
        apart = float((output.softmax(1) - expected.softmax(1)).abs().sum(1).mean()) / 2 if same else float("nan")
        # not a number is no agreement
        if not apart <= _APART[self._precision]:
            raise NetworkError(
                f"OpenVINO gives other probabilities than torch, {apart:.1e} of them on other classes; allowed are "
                f"{_APART[self._precision]:.0e}. {_INSTEAD}"
            )


def _other(extent: int) -> int:
    """Another size that a network should take."""
    return extent // 2 if extent % 64 == 0 else 2 * extent


def _by_torch(model: nn.Module, x: Tensor) -> Tensor:
    with evaluation_mode(model), torch.no_grad(), torch.autocast("cpu", enabled=False):
        output = model(x.float())
    if isinstance(output, Tensor):
        return output
    raise NetworkError(f"The network gives a {type(output).__name__}, and OpenVINO is for one tensor. {_INSTEAD}")


def _reason(error: Exception) -> str:
    """The line of a long message that says what was wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Exception:" in line or "Error:" in line]
    return (told or lines or [type(error).__name__])[-1].rstrip(".") + "."


def _compiled(model: nn.Module, size: tuple[int, ...], *, is_free: bool, precision: Precision) -> Any:
    with _without_telemetry():
        try:
            import openvino
        except ImportError as error:
            raise ConfigurationError(
                "--engine openvino needs openvino: pip install 'perdure[openvino]' (with -c constraints.txt)."
            ) from error
        shape = [-1, size[0], *((-1 for _ in size[1:]) if is_free else size[1:])]
        settings = {
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        with evaluation_mode(model), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's to those who trace a network
            try:
                # two images, so that one is not taken for all there can be; what comes of it is compared
                example = torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
                traced = torch.jit.trace(exportable(model), example, check_trace=False)
                converted = openvino.convert_model(traced, input=[openvino.PartialShape(shape)])
                return openvino.Core().compile_model(converted, "CPU", settings)
            except (RuntimeError, openvino.frontend.OpConversionFailure) as error:
                raise NetworkError(f"OpenVINO cannot convert the network: {_reason(error)} {_INSTEAD}") from error


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """OpenVINO reports to its makers when it is imported and when it converts, unless this module is missing."""
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # an import then fails as if it were not installed
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
