"""nnU-Net's networks, from plans that are read as data.

A plan names classes of torch by their full names, and nnU-Net imports whatever stands there. Here a name is looked up
in a short list, and one that is not in it is refused.
"""

from __future__ import annotations

import inspect
import math
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from perdure.errors import NetworkError
from perdure.models.pickled import in_code, refusal
from perdure.models.spec import NetworkSpec
from perdure.types import ParamDict

PREFIX = "nnunet:"
PACKAGE = "dynamic_network_architectures"
CLASSES = ("PlainConvUNet", "ResidualEncoderUNet")
"""Of `dynamic_network_architectures.architectures`."""

LAYERS = {
    "conv_op": ("Conv2d", "Conv3d"),
    "norm_op": ("InstanceNorm2d", "InstanceNorm3d", "BatchNorm2d", "BatchNorm3d"),
    "dropout_op": ("Dropout", "Dropout2d", "Dropout3d"),
    "nonlin": ("LeakyReLU", "ReLU", "ELU", "GELU", "SiLU", "PReLU"),
}
"""Arguments that are a class of torch.nn, and which it may be."""
BLOCKS = ("BasicBlockD", "BottleneckD")
"""What the argument `block` may be."""

_TORCH = re.compile(r"torch\.nn\.(modules\.[a-z]+\.)?(?P<name>\w+)")
_BLOCK = re.compile(rf"{PACKAGE}\.building_blocks\.residual\.(?P<name>\w+)")


def nnunet_factory(name: str) -> Callable[..., nn.Module]:
    """A class of nnU-Net's networks, which takes the classes among its arguments by name.

    Raises:
        NetworkError: if there is no such network, or the extra is not installed.
    """
    if name not in CLASSES:
        raise NetworkError(f"nnU-Net has no network '{name}' here; allowed are {', '.join(CLASSES)}.")
    try:
        from dynamic_network_architectures.architectures import unet
    except ImportError as error:
        raise NetworkError(
            f"Network '{PREFIX}{name}' needs nnU-Net's networks: pip install 'perdure[nnunet]' "
            "(with -c constraints.txt)."
        ) from error
    kind: type[nn.Module] = getattr(unet, name)

    def made(**arguments: Any) -> nn.Module:
        return kind(**{key: _looked_up(key, value) for key, value in arguments.items()})

    # the factory asks what may be given
    made.__signature__ = inspect.signature(kind)  # type: ignore[attr-defined]
    return made


def network_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a network, as `arch_kwargs` of a plan says them, without deep supervision.

    Raises:
        NetworkError: if a class is named that is not on the list.
    """
    for key, value in kwargs.items():
        _looked_up(key, value)
    return {**kwargs, "deep_supervision": False}


def _looked_up(key: str, value: Any) -> Any:
    if value is None or key not in (*LAYERS, "block"):
        return value
    pattern, allowed = (_BLOCK, BLOCKS) if key == "block" else (_TORCH, LAYERS[key])
    found = pattern.fullmatch(value) if isinstance(value, str) else None
    if found is None or found["name"] not in allowed:
        raise NetworkError(
            f"nnU-Net's plan: {key}: found {value!r}; allowed are {', '.join(allowed)} of "
            f"{'its residual blocks' if key == 'block' else 'torch.nn'}. Other classes are not imported."
        )
    if key == "block":
        from dynamic_network_architectures.building_blocks import residual

        return getattr(residual, found["name"])
    return getattr(nn, found["name"])


def size_multiple(spec: NetworkSpec) -> tuple[int, ...] | None:
    """What must divide each extent of an input, by the strides of an nnU-Net's network; None for any other."""
    strides: Any = spec.arguments.get("strides")
    if not spec.factory.startswith(PREFIX) or not isinstance(strides, list):
        return None
    return tuple(math.prod(extents) for extents in zip(*strides, strict=True))


def read_checkpoint(path: Path) -> tuple[ParamDict, dict[str, Any]]:
    """The weights of a checkpoint of nnU-Net v2, and what stands beside them; nothing in it is run.

    NumPy's numbers in its log, which torch refuses to unpickle, come out as None: nothing of NumPy is called for them.

    Raises:
        NetworkError: if it cannot be read so, or is no such checkpoint.
    """
    if not path.is_file():
        raise NetworkError(f"{path}: no such file; name another fold (--fold), or the folder that holds fold_0.")
    try:
        with torch.serialization.safe_globals(_STAND_INS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, PermissionError):
            raise
        kept = '("network_weights", "init_args", "trainer_name", "inference_allowed_mirroring_axes")'
        conversion = (
            f'import torch; c = torch.load({in_code(path)}, map_location="cpu", weights_only=False); '
            f"torch.save({{k: c[k] for k in {kept}}}, {in_code(path)})"
        )
        raise NetworkError(refusal(path, error, conversion)) from error
    weights = content.get("network_weights") if isinstance(content, dict) else None
    if not isinstance(weights, Mapping) or not weights:
        raise NetworkError(f"{path}: network_weights: found nothing; a checkpoint of nnU-Net v2 has them.")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise NetworkError(f"{path}: network_weights: {name}: found {type(value).__name__}; it must be a tensor.")
        if not bool(torch.isfinite(value).all()):
            raise NetworkError(f"{path}: {name}: found NaN or infinity; such weights cannot be used.")
    return dict(weights), {key: value for key, value in content.items() if key != "network_weights"}


class _Inert:
    """Stands where a pickle asks for a type of NumPy's numbers."""

    def __init__(self, *arguments: object) -> None:
        """Takes anything and keeps nothing."""

    def __setstate__(self, state: object) -> None:
        """As above."""


def _nothing(*arguments: object) -> None:
    """Stands where a pickle asks for a number of NumPy."""


_STAND_INS: list[Any] = [
    _Inert,  # so that torch lets its state be set
    (_Inert, "numpy.dtype"),
    *((_nothing, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_Inert, f"numpy.dtypes.{kind}DType") for kind in ("Float16", "Float32", "Float64", "Int32", "Int64", "Bool")),
]
