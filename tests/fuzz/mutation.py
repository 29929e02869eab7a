"""Valid files turned into hostile ones: which changes, to bytes, to JSON, to a table, and inside a compressed file?"""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import zlib
from collections.abc import Sequence
from random import Random
from typing import Any

NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1,
           2**63, 2**64 - 1, 10**5000)  # fmt: skip
FLOATS = (0.0, -0.0, 1e-320, 1e-9, 1e9, 1e38, 1e308, float("inf"), float("-inf"), float("nan"))
PATHS = ("../../../../etc/passwd", "/etc/passwd", "..", ".", "/", "//", "a/../../b", "..\\..\\b", "link", "link/passwd",
         "pipe", "device", "nul\0byte", "x" * 5000, "C:\\", "~/x", "file:///etc/passwd")  # fmt: skip
TEXTS = (*PATHS, "", " ", "\n", "\x1b[2J", "\u202e", "é", "\ufeff", "NaN", "null", "true", "1e999", "-0", "0x10", "1_0",
         "0" * 5000, "planted:boom", "os:system", "builtins:eval", "monai:UNet", "__import__('os')",
         "a" * 20000)  # fmt: skip


def bytes_changed(content: bytes, random: Random, tokens: Sequence[bytes] = ()) -> bytes:
    """The content after one to four changes of its bytes."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 2, 4, 8, 32, 200)))
        kind = random.randrange(9)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << random.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = random.randrange(256)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at:end]
        elif kind == 4:
            data[at:at] = data[at:end] * random.choice((1, 2, 50))
        elif kind == 5:
            data[at:at] = random.randbytes(random.choice((1, 4, 16)))
        elif kind == 6:
            number = _packed(random)
            data[at : at + len(number)] = number
        elif kind == 7:
            data[at:end] = random.choice(tokens or (b"",))
        else:
            data[at:at] = random.choice(tokens or (b"",))
    return bytes(data)


def _packed(random: Random) -> bytes:
    form = random.choice("bhiqBHIQfd")
    order = random.choice("<>")
    if form in "fd":
        value = random.choice(FLOATS)
        return struct.pack(order + form, max(min(value, 3e38), -3e38) if form == "f" and value == value else value)
    width = struct.calcsize(form)
    number = random.choice(NUMBERS) & (2 ** (8 * width) - 1)
    return number.to_bytes(width, "little" if order == "<" else "big")


def any_value(random: Random) -> Any:
    """A value that JSON can hold, and that hardly any field expects."""
    kind = random.randrange(100)
    if kind == 0:  # large ones are slow, whoever reads them
        return [random.choice((0, "a"))] * 70000
    if kind == 1:
        return nested(random.choice((900, 5000)), random)
    if kind < 25:
        return random.choice(NUMBERS)
    if kind < 40:
        return random.choice(FLOATS)
    if kind < 65:
        return random.choice(TEXTS)
    if kind < 80:
        return random.choice((None, True, False, [], {}, nested(3, random), [0] * 5, ["a"] * 300))
    if kind < 90:
        return [any_value(random) for _ in range(random.choice((1, 3)))]
    return {random.choice(TEXTS): any_value(random)}


def nested(depth: int, random: Random) -> Any:
    """Lists or objects, each in the next."""
    value: Any = 0
    for _ in range(depth):
        value = [value] if random.random() < 0.5 else {"a": value}
    return value


def json_changed(value: Any, random: Random) -> Any:
    """The value with something changed somewhere in it."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        kind = random.randrange(12)
        if kind == 0:
            return {name: one for name, one in value.items() if name != key}
        if kind == 1:
            return {**value, random.choice(TEXTS): any_value(random)}
        if kind == 2:
            return {random.choice(TEXTS) if name == key else name: one for name, one in value.items()}
        return {**value, key: json_changed(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.85:
        at = random.randrange(len(value))
        kind = random.randrange(10)
        if kind == 0:
            return value[:at] + value[at + 1 :]
        if kind == 1:
            return value[:at] + [value[at]] * random.choice((2, 2, 2, 2, 2, 2, 2, 100))
        return [*value[:at], json_changed(value[at], random), *value[at + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and random.random() < 0.5:
        return random.choice((-value, value * 1000, value + 1, value / 3, value * 10**9, float(value)))
    return any_value(random)


def json_bytes_changed(content: bytes, random: Random) -> bytes:
    """JSON text with a value changed, or else with its bytes changed."""
    if random.random() < 0.15:
        return bytes_changed(content, random, (b"[" * 3000, b"{}", b"NaN", b"1e999", b'"\\ud800"', b"9" * 5000))
    try:
        value = json.loads(content)
        for _ in range(random.choice((1, 1, 2))):
            value = json_changed(value, random)
        return dumped(value)
    except (ValueError, RecursionError):
        return bytes_changed(content, random)


def dumped(value: Any) -> bytes:
    """JSON of a value, as deep as it may be, and with numbers of any length."""
    return _text(value).encode("utf-8", "surrogatepass")


def _text(value: Any) -> str:
    # json.dumps recurses, and Python refuses to write integers of more than 4300 digits
    opened: list[str] = []
    closed: list[str] = []
    while isinstance(value, list | dict) and len(value) == 1:
        if isinstance(value, list):
            start, end, value = "[", "]", value[0]
        else:
            ((key, value),) = value.items()
            start, end = "{" + json.dumps(key) + ":", "}"
        opened.append(start)
        closed.append(end)
    if isinstance(value, dict):
        inner = "{" + ",".join(f"{json.dumps(key)}:{_text(one)}" for key, one in value.items()) + "}"
    elif isinstance(value, list):
        inner = "[" + ",".join(map(_text, value)) + "]"
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**4000:
        inner = "-" * (value < 0) + "1" + "0" * 5000
    else:
        inner = json.dumps(value)
    return "".join(opened) + inner + "".join(reversed(closed))


def toml_changed(content: bytes, random: Random) -> bytes:
    """TOML text with a line or a value changed, or else with its bytes changed."""
    tokens = (b"=", b"[", b"]", b"[[", b'"', b"'''", b"#", b"\n", b"inf", b"nan", b"1979-05-27", b"\\u0000", b"{", b",")
    if random.random() < 0.3:
        return bytes_changed(content, random, tokens)
    lines = content.decode("utf-8", "replace").split("\n")
    at = random.randrange(len(lines))
    key, equals, _ = lines[at].partition("=")
    kind = random.randrange(6)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, random.choice(lines))
    elif kind == 2:
        lines.insert(at, f"{random.choice(('x', 'name', 'format', '__class__', 'self'))} = {toml_value(random)}")
    elif kind == 3:
        lines.insert(at, random.choice(("[a]", "[[a]]", "[" + "a." * 2000 + "b]", "a.b.c = 1", "[methods]")))
    elif equals:
        lines[at] = f"{key}= {toml_value(random)}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def toml_value(random: Random) -> str:
    """A value as TOML writes it, and that hardly any key expects."""
    depth = random.choice((3, 3, 100, 100, 5000))
    return random.choice((
        str(random.choice(NUMBERS[:-1])), "9" * 5000, str(random.choice(FLOATS)), "true", "[]", "{}",
        json.dumps(random.choice(TEXTS)), "[" * depth + "]" * depth, "{a=" * depth + "1" + "}" * depth,
        "1979-05-27T07:32:00Z", "07:32:00", "[1, 'a', [2.5]]",
        str([random.randrange(9)] * random.choice((5, 5, 5, 5, 60000))),
    ))  # fmt: skip


def csv_changed(content: bytes, random: Random) -> bytes:
    """A table with cells changed, or else with its bytes changed."""
    if random.random() < 0.25:
        return bytes_changed(content, random, (b'"', b",", b"\r", b"\n", b"\0", b"\xff", b"," * 70000, b'"' * 3))
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8", "replace"), newline="")))
    except csv.Error:
        return bytes_changed(content, random)
    for _ in range(random.choice((1, 1, 2, 5))):
        row = random.choice(rows or [[""]])
        kind = random.randrange(7)
        if kind == 0:
            rows.insert(random.randrange(len(rows) + 1), list(row))
        elif kind == 1 and len(rows) > 1:
            rows.remove(row)
        elif kind == 2:
            row.append(random.choice(TEXTS))
        elif row:
            row[random.randrange(len(row))] = random.choice((*TEXTS, *(cell for other in rows for cell in other)))
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def header_changed(content: bytes, random: Random, length: int) -> bytes:
    """A binary file whose header, its first bytes, holds another number somewhere."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        number = _packed(random)
        at = random.randrange(max(1, min(length, len(data))))
        data[at : at + len(number)] = number
    return bytes(data)


def gzip_changed(content: bytes, random: Random, length: int) -> bytes:
    """A gzip file changed inside, outside, or followed by far too much."""
    kind = random.randrange(6)
    if kind == 0:
        return bytes_changed(content, random)
    try:
        inner = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return bytes_changed(content, random)
    if kind == 1:
        inner += bytes(random.choice((10**4, 10**6, 2 * 10**7)))
    inner = header_changed(inner, random, length) if random.random() < 0.7 else bytes_changed(inner, random)
    packed = gzip.compress(inner, compresslevel=1, mtime=0)
    return packed + (random.choice((packed, b"\0" * 9, packed[:20])) if kind == 2 else b"")
