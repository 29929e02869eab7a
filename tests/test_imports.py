"""Importing is cheap: heavy libraries load where they are used, not with `perdure`."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

import perdure

HEAVY = (
    "lightning_fabric",
    "matplotlib",
    "monai",
    "nibabel",
    "nilearn",
    "pandas",
    "PIL",
    "scipy",
    "sklearn",
    "tensorboard",
)
ROOMS = sorted(module.name for module in pkgutil.iter_modules(perdure.__path__))

WHAT_LOADS = """
import importlib, json, sys
found = {{}}
for name in {names}:
    before = set(sys.modules)
    importlib.import_module(name)
    found[name] = sorted((set(sys.modules) - before) & set({libraries}))
print(json.dumps(found))
"""


def run(program: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(names: list[str], libraries: tuple[str, ...]) -> dict[str, list[str]]:
    """Which of `libraries` a new interpreter loads first with each of `names`, imported in this order."""
    found: dict[str, list[str]] = json.loads(run(WHAT_LOADS.format(names=names, libraries=libraries)))
    return {name: modules for name, modules in found.items() if modules}


def test_perdure_itself_loads_neither_torch_nor_anything_heavier() -> None:
    assert loaded_by(["perdure"], (*HEAVY, "torch")) == {}


def test_no_room_loads_a_heavy_library_before_it_is_used() -> None:
    # torch first: what it loads by itself is not the room's doing
    assert loaded_by(["torch", *(f"perdure.{room}" for room in ROOMS)], HEAVY) == {}


def test_importing_perdure_takes_under_two_seconds() -> None:
    program = "import time; start = time.process_time(); import perdure; print(time.process_time() - start)"
    # the best of three, because a busy machine only ever adds
    assert min(float(run(program)) for _ in range(3)) < 2


def test_every_public_name_exists() -> None:
    missing = [name for name in perdure.__all__ if not hasattr(perdure, name)]
    assert missing == []


@pytest.mark.parametrize(
    "name", ["train", "update", "consolidate", "retain", "methods", "MAS", "LearningRate", "QuickNAT"]
)
def test_the_names_that_a_user_s_own_loop_needs_stand_at_the_top(name: str) -> None:
    assert name in perdure.__all__


def test_an_unknown_name_is_an_attribute_error_that_says_which() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        perdure.no_such_name  # noqa: B018 - the access is what is tested
