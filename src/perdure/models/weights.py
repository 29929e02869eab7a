"""Reads a file of weights into a network; nothing in the file is run."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor, nn

from perdure.errors import NetworkError
from perdure.models.head import head
from perdure.models.pickled import in_code, refusal
from perdure.types import ParamDict

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
NESTS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning put before each name."""

DAMAGED = (
    OSError, EOFError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
    pickle.UnpicklingError, struct.error,
)  # fmt: skip
"""What `torch.load` and `safetensors` raise at bytes that they did not write."""


MAPPED = 2**24
"""Bytes; so large a file is mapped into memory and not read at once."""


@dataclass(frozen=True)
class Loaded:
    """What did not go from the file into the network.

    Args:
        kept: tensors of the network that the file did not replace.
        ignored: tensors of the file that the network did not take.
    """

    kept: tuple[str, ...]
    ignored: tuple[str, ...]


def load_weights(model: nn.Module, path: str | Path, *, strict: bool = True, replace_head: bool = False) -> Loaded:
    """Loads weights from a file, by name.

    Batch counters (`num_batches_tracked`), which old files lack, may always be missing.

    Args:
        model: the network.
        path: `.safetensors`, or a state dict in `.pt`, `.pth` or `.bin`, also nested under `state_dict` or `model`.
        strict: whether missing and unexpected names are errors. A wrong shape always is.
        replace_head: whether the last layer keeps its initial values where the file's has another shape or is missing
            (ImageNet's 1000 classes, for example).

    Raises:
        NetworkError: if the file cannot be read as plain tensors or does not fit; the network is unchanged then.
    """
    path = Path(path)
    own = model.state_dict()
    found = _without_prefix(read_weights(path), own)
    spared = head(model) if replace_head else set()
    misshapen = {name for name in own.keys() & found.keys() if own[name].shape != found[name].shape}
    missing = own.keys() - found.keys()
    unexpected = found.keys() - own.keys()
    problems = [
        f"  {name}: found shape {tuple(found[name].shape)}; the network has {tuple(own[name].shape)}"
        for name in sorted(misshapen - spared)
    ]
    if strict:
        lacking = {name for name in missing - spared if not name.endswith("num_batches_tracked")}
        problems += [
            f"  {name}: missing in the file; the network has {tuple(own[name].shape)}" for name in sorted(lacking)
        ]
        problems += [
            f"  {name}: found shape {tuple(found[name].shape)}; the network has no such name"
            for name in sorted(unexpected)
        ]
    if problems:
        raise NetworkError(_report(path, problems, misshapen, model))
    model.load_state_dict({name: found[name] for name in found.keys() - unexpected - misshapen}, strict=False)
    return Loaded(kept=tuple(sorted(missing | misshapen)), ignored=tuple(sorted(unexpected | misshapen)))


def read_weights(path: Path) -> ParamDict:
    """The tensors of a file, by the names that stand in it.

    Raises:
        NetworkError: if it cannot be read as plain tensors, or one of them holds a number that is not finite.
    """
    if not path.is_file():
        raise NetworkError(f"{path}: no such file; give a file of weights ({', '.join(SUFFIXES)}).")
    if path.suffix == ".safetensors":
        tensors = _safetensors(path)
    elif path.suffix in SUFFIXES:
        tensors = _state_dict(path)
    else:
        raise NetworkError(f"{path}: found suffix '{path.suffix}'; weights are read from {', '.join(SUFFIXES)}.")
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise NetworkError(f"{path}: {name}: found NaN or infinity; such weights cannot be used.")
    return tensors


def safetensors(path: Path) -> ParamDict:
    """The tensors of a safetensors file.

    Raises:
        SafetensorError: or one of `DAMAGED`, if it is none.
    """
    # `load_file` (0.8) forgets some 60 bytes for each tensor that it has read, which adds up where many small ones are
    # read in one process; where there is much to read it takes no memory and no time, because it maps the file
    return load(path.read_bytes()) if path.stat().st_size < MAPPED else load_file(path)


def _safetensors(path: Path) -> ParamDict:
    try:
        return safetensors(path)
    except (*DAMAGED, SafetensorError) as error:
        raise NetworkError(
            f"{path}: not a readable safetensors file ({error}); it may be cut short. Copy it again."
        ) from error


def _state_dict(path: Path) -> ParamDict:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        conversion = (
            f'import torch; m = torch.load({in_code(path)}, map_location="cpu", weights_only=False); '
            f"torch.save(m.state_dict(), {in_code(path.with_suffix('.weights.pt'))})"
        )
        raise NetworkError(refusal(path, error, conversion)) from error
    for nest in NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    if not isinstance(content, Mapping) or not content:
        raise NetworkError(f"{path}: found {type(content).__name__}; it must hold a state dict (names and tensors).")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise NetworkError(
                f"{path}: {name}: found {type(value).__name__}; a state dict holds tensors only, by name, "
                f"directly or under one of {', '.join(NESTS)}."
            )
    return dict(content)


def _without_prefix(tensors: ParamDict, own: Mapping[str, object]) -> ParamDict:
    """The tensors without a prefix that all of them have and the network's names have not."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors) and not any(name.startswith(prefix) for name in own):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _report(path: Path, problems: list[str], misshapen: set[str], model: nn.Module) -> str:
    shown = problems[:20] + ([f"  and {len(problems) - 20} more"] if len(problems) > 20 else [])
    advice = "Build the network with the arguments that it was trained with."
    if misshapen and misshapen <= head(model):
        advice = "Only the last layer differs: for other classes, ask for a new one (replace_head=True)."
    return f"{path}: does not fit the network {type(model).__name__}:\n" + "\n".join(shown) + f"\n{advice}"
