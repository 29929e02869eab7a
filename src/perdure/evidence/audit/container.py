"""Are the bytes of a safetensors file all accounted for?

The format: 8 bytes with the length of the header (little-endian), the header in JSON (padded with spaces to a multiple
of 8), then the tensors one after the other. The library reads names and numbers, and passes over whatever else a file
holds.

Source: the format's description in the repository huggingface/safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from perdure.evidence.audit.objection import Objection

WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Bytes an element, of the types that networks and memories have."""

_LARGEST_HEADER = 100_000_000  # bytes; the library's own limit
_ALIGNMENT = 8


def container_objections(path: Path) -> Iterator[Objection]:
    """What a safetensors file holds beside tensors that lie end to end; nothing is decoded.

    Args:
        path: the file.
    """
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        size = path.stat().st_size
        if len(start) < 8 or length > min(_LARGEST_HEADER, size - 8):
            yield _odd(path, "the first 8 bytes", f"a header of {length} bytes in a file of {size}")
            return
        text = file.read(length)
        tail = size - 8 - length
        try:
            header = _parsed(text)
        except (ValueError, RecursionError) as error:
            yield _odd(path, "header", f"no plain JSON ({error})")
            return
        yield from _header(path, header, text)
        spans = sorted(tuple(entry["data_offsets"]) for name, entry in header.items() if name != "__metadata__")
        yield from _gaps(path, spans, tail)
        yield from _booleans(path, header, 8 + length)


def _parsed(text: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key stands there twice")
        return dict(pairs)

    header = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    if not isinstance(header, dict):
        raise ValueError("it is no object")
    for name, entry in header.items():
        if name != "__metadata__" and (not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}):
            raise ValueError(f"tensor {name!r} is not described by dtype, shape and data_offsets alone")
        if name != "__metadata__" and not _is_plain(entry):
            raise ValueError(f"tensor {name!r} has a dtype, shape or data_offsets of another form")
    return header


def _is_plain(entry: dict[str, Any]) -> bool:
    numbers = [*entry["shape"], *entry["data_offsets"]] if _are_lists(entry) else [None]
    return isinstance(entry["dtype"], str) and all(type(number) is int and number >= 0 for number in numbers)


def _are_lists(entry: dict[str, Any]) -> bool:
    shape, offsets = entry["shape"], entry["data_offsets"]
    return isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2


def _header(path: Path, header: dict[str, Any], text: bytes) -> Iterator[Objection]:
    if "__metadata__" in header:
        found = header["__metadata__"]
        count = len(found) if isinstance(found, dict) else 1
        yield _odd(path, "__metadata__", f"{count} value(s) beside the tensors; a release has none")
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] not in WIDTHS:
            yield _odd(path, name, f"numbers of type {entry['dtype']!r}; allowed are {', '.join(WIDTHS)}")
    # what the library itself writes for this header, to the byte: spaces and escapes can carry a message
    plain = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    if text != plain + b" " * (-len(plain) % _ALIGNMENT):
        yield _odd(path, "header", f"{len(text)} bytes where {len(plain)} and padding say the same")


def _gaps(path: Path, spans: list[tuple[int, int]], tail: int) -> Iterator[Objection]:
    reached = [(0, 0), *spans, (tail, tail)]
    for (_, end), (begin, _) in pairwise(reached):
        if begin > end:
            what = "after the last tensor" if begin == tail else "between two tensors"
            yield _odd(path, f"data bytes {end} to {begin}", f"{begin - end} bytes {what}")
        elif begin < end:
            yield _odd(path, f"data bytes {begin} to {end}", "two tensors on the same bytes, or beyond the file's end")


def _booleans(path: Path, header: dict[str, Any], data: int) -> Iterator[Objection]:
    with path.open("rb") as file:
        for name, entry in header.items():
            if name == "__metadata__" or entry["dtype"] != "BOOL":
                continue
            begin, end = entry["data_offsets"]
            file.seek(data + begin)
            if beyond := file.read(end - begin).translate(None, delete=b"\0\1"):
                yield _odd(path, name, f"{len(beyond)} bytes of a true-or-false tensor that are neither 0 nor 1")


def _odd(path: Path, field: str, found: str) -> Objection:
    return Objection(
        kind="bytes",
        file=path.name,
        field=field,
        found=found,
        why="Readers of tensors pass over such bytes, so that anything could leave the building in them.",
        what_to_do="Open the release and save it again (Release.open(...).save(...)): only tensors are written.",
    )
