"""What do other libraries take for the same work? Each in their environment, in turns with what it is compared with.

A peer that refuses has a row that says so, in its own words.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from environment import python
from goals import GOALS
from results import ROOT, Found
from script import Measure, Options, run

INSIDE = Path(__file__).with_name("peers_inside.py")
RAISED, LONGEST = re.compile(r"[\w.]*(Error|Exception|Failure)\b"), 160
NAMES = ("nngeometry", "backpack", "curvlinops", "avalanche")


def asked(key: str, options: Options) -> Mapping[str, Found]:
    """What a process in the peers' environment finds for a key."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [python(), INSIDE, key, options.form, options.device, str(options.threads)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        answer = json.loads(done.stdout.splitlines()[-1])
        return {key: Found(tuple(answer["values"]), answer["note"])}
    return {key: Found((), f"refuses: {_words(done.stderr) or f'ended with code {done.returncode}'}")}


def _words(stderr: str) -> str:
    """What an exception said: the line that begins with its name, or else the last one."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if RAISED.match(line)), lines[-1] if lines else "")[:LONGEST]


def _measures() -> Iterator[Measure]:
    for goal in GOALS:
        if any(name in goal.key for name in NAMES):
            yield Measure((goal.key,), partial(asked, goal.key))


ALL = tuple(_measures())

if __name__ == "__main__":
    run(__file__, ALL)
