from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import perdure
import synthetic
from audited import Sealed, domain_in
from perdure.methods import dsbn
from perdure.update import Recipe

Copied = Callable[[], Sealed]


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two releases that nothing is wrong with: `base`, and `b` with one batch norm a domain, on six subjects each."""
    folder = tmp_path_factory.mktemp("audited")
    synthetic.write_images(folder / "data", domains=("site-a", "site-b"), cases=(6, 1, 1), size=(32, 32))
    torch.manual_seed(0)
    network = perdure.QuickNAT(in_channels=3, classes=2, filters=3, kernel_size=3)
    recipe = Recipe(epochs=1)
    first, second = (domain_in(folder / "data", name) for name in ("site-a", "site-b"))
    base = perdure.train(network, first, recipe=recipe, out=folder / "base")
    perdure.update(base, second, method=dsbn(), recipe=recipe, out=folder / "b")
    return folder


@pytest.fixture
def copied(line: Path, tmp_path: Path) -> Copied:
    """Makes a copy of `b` to plant something in."""
    return lambda: Sealed.copy(line / "b", tmp_path / "planted")
