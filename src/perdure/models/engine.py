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
"""Images that go through torch too, at most."""
_TYPES = {"32-true": "f32", "bf16-mixed": "bf16"}
_APART = {"32-true": 1e-4, "bf16-mixed": 1e-2}
"""How far probabilities of the first images may be from torch's in float32, as a mean."""


class OpenVino(nn.Module):
    """A network that OpenVINO has compiled for this processor.

    The first images go through torch in float32 too, and what both say is compared. OpenVINO takes half precision by
    itself where the processor has it; here it computes as it is told.

    Args:
        model: on the processor; is kept until the comparison, and not changed.
        size: `(channels, *spatial)` of an image.
        is_free: whether images of other sizes come too.
        precision: of the computation.

    Raises:
        ConfigurationError: if OpenVINO is not installed.
        NetworkError: if it cannot convert the network.
    """

    def __init__(self, model: nn.Module, size: tuple[int, ...], *, is_free: bool, precision: Precision) -> None:
        super().__init__()
        # a module of this one it would be if it were kept as it is, and gone after the comparison
        self._by_torch: Callable[[Tensor], Tensor] | None = partial(_by_torch, model)
        self._precision = precision
        self._compiled = _compiled(model, size, is_free=is_free, precision=precision)

    def forward(self, x: Tensor) -> Tensor:
        """What the network says of a batch.

        Raises:
            NetworkError: if torch says something else of the first.
        """
        output = torch.from_numpy(self._compiled(x.float().contiguous().numpy())[0])
        if self._by_torch is not None:
            self._compare(output[:COMPARED], self._by_torch(x[:COMPARED]))
            self._by_torch = None
        return output

    def _compare(self, output: Tensor, expected: Tensor) -> None:
        apart = float((output.softmax(dim=1) - expected.softmax(dim=1)).abs().mean())
        # not a number is no agreement
        if not apart <= _APART[self._precision]:
            raise NetworkError(
                f"OpenVINO gives other probabilities than torch, {apart:.1e} apart on average; allowed are "
                f"{_APART[self._precision]:.0e}. Predict without --engine openvino."
            )


def _by_torch(model: nn.Module, x: Tensor) -> Tensor:
    with evaluation_mode(model), torch.no_grad(), torch.autocast("cpu", enabled=False):
        output: Tensor = model(x.float())
    return output


def _compiled(model: nn.Module, size: tuple[int, ...], *, is_free: bool, precision: Precision) -> Any:
    with _without_telemetry():
        try:
            import openvino
        except ImportError as error:
            raise ConfigurationError(
                "--engine openvino needs openvino: pip install 'perdure[openvino]' (with -c constraints.txt)."
            ) from error
        shape = [-1, size[0], *((-1 for _ in size[1:]) if is_free else size[1:])]
        with evaluation_mode(model), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's to those who trace a network
            try:
                # two images, so that one is not taken for all there can be; what comes of it is compared at first use
                traced = torch.jit.trace(exportable(model), torch.zeros(2, *size), check_trace=False)
                converted = openvino.convert_model(traced, input=[openvino.PartialShape(shape)])
                return openvino.Core().compile_model(
                    converted,
                    "CPU",
                    {
                        "INFERENCE_PRECISION_HINT": _TYPES[precision],
                        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                        "PERFORMANCE_HINT": "LATENCY",
                    },
                )
            except (RuntimeError, openvino.frontend.OpConversionFailure) as error:
                reason = str(error).strip().splitlines()[-1]
                raise NetworkError(f"OpenVINO cannot compile the network: {reason}") from error


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
