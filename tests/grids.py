"""A small benchmark file on images that are made for it."""

from __future__ import annotations

from pathlib import Path

import synthetic
from perdure.benchmark.config import read_config
from perdure.benchmark.plan import Plan

GRID = """
name = "grid"
seeds = [0, 1]
[data]
size = 16
[sequences]
there = ["a", "b"]
[network]
arguments = { filters = 2, kernel_size = 3 }
[train]
epochs = 1
[update]
epochs = 1
[bases.wild]
arguments = { dropout = 0.2 }
"""
PLAIN = GRID + '[[methods]]\nmethod = "finetune"\n'


def plan(folder: Path, text: str) -> Plan:
    if not (folder / "data").exists():
        synthetic.write_images(folder / "data", domains=("a", "b"), cases=(2, 1, 2))
    (folder / "grid.toml").write_text(text)
    return Plan(read_config(folder / "grid.toml"), folder / "grid.toml", folder / "data", cache=folder / "cache")
