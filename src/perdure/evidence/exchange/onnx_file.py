"""A release's network as one ONNX file that says what it takes and what comes out.

Input `image`: float32 `(batch, channels, *spatial)`, scaled and turned as the contract in the file's metadata says.
Output `logits`: float32 `(batch, classes, *spatial)`, or `(batch, classes)`; their softmax over axis 1 are the
probabilities, their largest is the label. The batch is free; height and width of a segmentation of slices or pictures
are so where the network allows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from perdure.errors import ConfigurationError, EvaluationError, NetworkError
from perdure.evaluation import Predictor
from perdure.evaluation.prediction import MULTIPLE, network_of, norm_domain
from perdure.evidence.exchange.agreement import LIMIT, Agreement, agreement
from perdure.evidence.exchange.quiet import quietly
from perdure.models import QuickNAT, exportable
from perdure.release import Memory
from perdure.release.folder import replace_file

if TYPE_CHECKING:
    from perdure.release import Release
    from perdure.types import Contract

INPUT, OUTPUT = "image", "logits"
_BATCH = 2
_LARGEST = 2**31 - 1
"""Bytes that a file of protobuf can hold."""


def export_onnx(
    release: Release,
    out: Path,
    *,
    domain: str | None = None,
    images: Sequence[Path] = (),
    limit: float = LIMIT,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Agreement:
    """Writes a release's network as an ONNX file, once ONNX Runtime gives the same labels by it.

    Args:
        release: whose network.
        out: the file; nothing is overwritten.
        domain: whose batch norm, of a release that keeps one a domain.
        images: on which the labels are compared; made-up ones without any.
        limit: the largest share of labels that may differ.
        progress: told how many of how many images are compared.

    Raises:
        ConfigurationError: if the extra `onnx` is not installed.
        EvaluationError: if `out` is there, more labels differ, or `domain` is none that the release keeps.
        NetworkError: if the network cannot be exported.
    """
    _check_installed()
    if out.exists():
        raise EvaluationError(f"{out} exists, and nothing is overwritten. Choose another --out, or move it away.")
    one = Predictor(release, "cpu", norm_domain(release, domain))
    content = onnx_model(network_of(release, norm_domain(release, domain)), release, domain)
    network = OnnxNetwork(content)
    runtime = Predictor(replace(release, model=network, memory=Memory({}, {})))
    found = agreement(one, runtime, images, is_larger_too=network.takes_any_size, progress=progress)
    found.check(limit, "ONNX Runtime")
    replace_file(out, content)
    return found


def onnx_model(model: nn.Module, release: Release, domain: str | None) -> bytes:
    """The network of a release as ONNX, with the release's id, contract and labels as metadata.

    Raises:
        NetworkError: if the network cannot be exported.
    """
    contract = release.contract
    network = exportable(deepcopy(model).cpu().eval())
    failures = []
    for shapes in _shapes(contract, model):
        try:
            program = _exported(network, contract, shapes)
        except torch.onnx.OnnxExporterError as error:
            failures.append(str(error.__cause__ or error).partition("\n")[0])
            continue
        proto = program.model_proto
        for key, value in _metadata(release, domain).items():
            proto.metadata_props.add(key=key, value=value)
        if proto.ByteSize() > _LARGEST:
            raise NetworkError(
                f"The network of release {release.name!r} takes {proto.ByteSize()} bytes; an ONNX file holds at most "
                f"{_LARGEST}."
            )
        content: bytes = proto.SerializeToString()
        return content
    raise NetworkError(
        f"The network of release {release.name!r} ({release.identity.network.factory}) cannot be exported to ONNX: "
        f"{'; '.join(failures)}"
    )


class OnnxNetwork(nn.Module):
    """An ONNX file as a network, run by ONNX Runtime on the CPU.

    Args:
        content: of the file.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

        self._shape = self._session.get_inputs()[0].shape

    def __deepcopy__(self, memo: object) -> OnnxNetwork:
        # a session cannot be copied, and nothing of it changes
        return self

    @property
    def takes_any_size(self) -> bool:
        """Whether height and width are free."""
        return not any(isinstance(extent, int) for extent in self._shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        """The logits of a batch.

        Raises:
            EvaluationError: if the file is for inputs of another size.
        """
        if any(isinstance(a, int) and a != b for a, b in zip(self._shape, x.shape, strict=True)):
            raise EvaluationError(
                f"The exported network takes inputs of {self._shape} only, and got {tuple(x.shape)}: an image is "
                "larger than a training sample. Compare on images that are not (--input)."
            )
        (logits,) = self._session.run([OUTPUT], {INPUT: x.cpu().numpy()})
        return torch.from_numpy(logits)


def _check_installed() -> None:
    from importlib.util import find_spec

    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise ConfigurationError(
            f"--format onnx needs {', '.join(missing)}: pip install 'perdure[onnx]' (with -c constraints.txt)."
        )


def _shapes(contract: Contract, model: nn.Module) -> Iterator[dict[int, Any]]:
    """What may vary of the input, the freest first."""
    from torch.export import Dim

    batch = {0: Dim("batch")}
    if contract.task == "segmentation" and contract.spatial_dims == 2:
        # prediction never asks for a larger slice that 32 does not divide; QuickNAT takes any
        any_size = isinstance(model, QuickNAT) or any(extent % MULTIPLE for extent in contract.size)
        times = 1 if any_size else MULTIPLE
        yield {**batch, 2: times * Dim("height"), 3: times * Dim("width")}
    yield batch


def _exported(network: nn.Module, contract: Contract, shapes: dict[int, Any]) -> Any:
    # torch.export takes an extent of 1 for one that stays so, and inside a network that halves small ones come to it
    size = [max(extent, 2 * MULTIPLE) if axis in shapes else extent for axis, extent in enumerate(contract.size, 2)]
    inputs = torch.zeros(_BATCH, contract.channels, *size)
    with quietly("torch", logging.CRITICAL), torch.no_grad():
        return torch.onnx.export(
            network,
            (inputs,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(shapes,),
            verbose=False,
        )


def _metadata(release: Release, domain: str | None) -> dict[str, str]:
    contract = release.contract
    labels = {str(i): {"name": one.name, "values": list(one.values)} for i, one in enumerate(contract.structures)}
    return {
        "perdure.version": version("perdure"),
        "perdure.release": release.id,
        "perdure.name": release.name,
        "perdure.domain": norm_domain(release, domain) or "",
        "perdure.contract": contract.model_dump_json(),
        "perdure.labels": json.dumps(labels),
        "perdure.output": "logits; their softmax over axis 1 are probabilities",
    }
