"""Settings as TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping


def toml_text(fields: Mapping[str, object]) -> str:
    """Keys and values, one a line, and tables after them; JSON's strings, numbers and lists of them are also TOML."""
    return "\n".join(map(_line, fields.items())) + "\n"


def _line(field: tuple[str, object]) -> str:
    key, value = field
    if isinstance(value, Mapping):
        return "\n".join(["", f"[{key}]", *map(_line, value.items())])
    plain = key if re.fullmatch(r"[\w-]+", key, re.ASCII) else json.dumps(key, ensure_ascii=False)
    # TOML has no U+007F in a string, which JSON leaves as it is
    return f"{plain} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
