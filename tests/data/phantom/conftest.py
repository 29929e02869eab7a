from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from perdure.data.phantom import Scanner, Tissue, TissueContrast


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def shells() -> NDArray[np.uint8]:
    """Balls inside one another: 0 around 1 around 2 around 3."""
    x, y, z = np.indices((24, 28, 26)) - np.array([12, 14, 13]).reshape(3, 1, 1, 1)
    radius = np.sqrt(x**2 + y**2 + z**2)
    return (3 - np.digitize(radius, [4, 7, 10])).astype(np.uint8)


@pytest.fixture
def plain() -> Scanner:
    """Signal without any effect or spread."""
    return Scanner("plain", TissueContrast({0: Tissue(0.0), 1: Tissue(0.2), 2: Tissue(0.5), 3: Tissue(0.8)}))
