"""Why a file of torch stays closed, and what to do about it: found from what is pickled in it, of which nothing is run.

A pickle names the functions and classes that it calls when it is opened. Only where all of them are known to do nothing
but hold a network is there a way to open the file; any other might do whatever its maker wanted.
"""

from __future__ import annotations

import io
import json
import lzma
import pickletools
import re
import shlex
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_LARGEST = 2**26
"""Bytes of a pickle that are looked at; tensors lie beside it."""
_OF_LEGACY = 4
"""Pickles before the tensors in a file from before torch 1.6: two numbers, the machine, the content."""
_SHOWN = 5
_DAMAGED = (
    OSError, ValueError, EOFError, LookupError, RuntimeError, OverflowError, MemoryError, struct.error, zlib.error,
    lzma.LZMAError, zipfile.BadZipFile,
)  # fmt: skip
"""What `zipfile` and `pickletools` raise at bytes that torch did not write."""

_TENSORS = re.compile(
    r"torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch(\.storage)? \w+Storage|collections OrderedDict"
    r"|torch (bool|b?float\d+|u?int\d+|device|Size)"
)
"""What a state dict is made of: modules, and what of them."""
_NETWORKS = re.compile(
    r"torch\.nn\.modules\.\w+ [A-Z]\w*|torch\.nn\.parameter Parameter"
    r"|(monai\.networks|dynamic_network_architectures)(\.\w+)+ [A-Z]\w*"
    # the authors' QuickNAT, and the packages of its blocks
    r"|(networks\.)?quicknat QuickNat|nn_common_modules\.modules [A-Z]\w*"
    r"|squeeze_and_excitation\.squeeze_and_excitation [A-Z]\w*"
    # numbers in a log
    r"|numpy (dtype|ndarray)|numpy\.dtypes \w+DType|numpy\._?core\.multiarray (scalar|_reconstruct)|_codecs encode"
    r"|(__builtin__|builtins) set"
)
"""Classes that hold layers or numbers. What follows the module has no dot: such a name could lead anywhere."""


@dataclass(frozen=True)
class Named:
    """What a file's pickles name.

    Args:
        unknown: functions and classes that may do anything.
        others: whether there are harmless ones that a state dict does not have.
        is_whole: whether the pickles could be read to their ends.
    """

    unknown: tuple[str, ...]
    others: bool
    is_whole: bool


def refusal(path: Path, error: Exception, conversion: str) -> str:
    """The message about a file that torch does not open as plain tensors.

    Args:
        path: of the file.
        error: what torch said.
        conversion: Python code that converts the file where the packages that it was made with are; it is given only
            where that calls nothing unknown.
    """
    named = named_in(path)
    if named.unknown:
        more = len(named.unknown) - _SHOWN
        asked = ", ".join(named.unknown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        return (
            f"{path}: cannot be read as plain tensors: it asks for {asked}. Who opens such a file runs what it asks "
            "for, so it stays closed here. Ask who made it for the weights alone: "
            "torch.save(model.state_dict(), 'weights.pt')."
        )
    if named.is_whole and named.others:
        return (
            f"{path}: cannot be read as plain tensors: it holds a whole model or other Python objects. To open those "
            "can run code, so it stays closed here. Published QuickNAT models are such files. If you trust where it "
            "comes from, convert it once, where the packages it was made with are installed:\n"
            f"  python -c {shlex.quote(conversion)}\n"
            "If that fails too, the file is damaged: copy it again."
        )
    said = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
    return f"{path}: cannot be read as plain tensors ({said}); the file is damaged: copy it again."


def in_code(path: Path) -> str:
    """A path as a text of Python, in double quotes as the code around it."""
    return json.dumps(str(path), ensure_ascii=False)


def named_in(path: Path) -> Named:
    """What the pickles of a file name, as far as they can be read."""
    names: set[str] = set()
    hidden: set[str] = set()
    is_whole = True
    try:
        for pickled in _pickles(path):
            for code, argument, _ in pickletools.genops(pickled):
                if code.name == "GLOBAL":
                    names.add(str(argument))  # module and name, with a space between
                elif code.name in ("STACK_GLOBAL", "INST") or code.name.startswith("EXT"):
                    hidden.add(f"something by {code.name}")  # torch writes no such opcode
    except _DAMAGED:
        is_whole = False
    harmless = {name for name in names if _TENSORS.fullmatch(name) or _NETWORKS.fullmatch(name)}
    others = any(not _TENSORS.fullmatch(name) for name in harmless)
    unknown = sorted(_shown(name) for name in names - harmless)
    return Named((*unknown, *sorted(hidden)), others, is_whole)


def _pickles(path: Path) -> list[BinaryIO]:
    """The pickles of a file; those of a file from before torch 1.6 stand one after the other in one stream."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            file.seek(0)
            return [io.BytesIO(file.read(_LARGEST))] * _OF_LEGACY
        with zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".pkl")]
            if not members or sum(member.file_size for member in members) > _LARGEST:
                raise ValueError("no pickle, or none of a state dict")
            return [io.BytesIO(archive.read(member)) for member in members]


def _shown(name: str) -> str:
    """A name as one short word: a hostile one may hold anything."""
    return "".join(letter if letter.isprintable() else "?" for letter in name.replace(" ", "."))[:80]
