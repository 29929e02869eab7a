"""Which bytes stand for a JSON value, the same ones always, so that they can be hashed and signed?"""

from __future__ import annotations

import json
from typing import Any


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, without spaces, in ASCII.

    Raises:
        ValueError: if a number is not finite.
        TypeError: if the value is no JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
