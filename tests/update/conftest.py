from __future__ import annotations

import pytest
import torch
from torch import nn

from perdure.importance import MAS
from perdure.release import Release
from perdure.update import Recipe, train
from reference.domains import TinyDomain, classifier, segmenter

RECIPE = Recipe(learning_rate=0.05, epochs=3, batch_size=3)


@pytest.fixture
def recipe() -> Recipe:
    """Three epochs of three steps, the learning rate halved after each."""
    return RECIPE


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(11)
    return segmenter()


@pytest.fixture(scope="session")
def base() -> Release:
    """A segmentation that has learnt `site-a`. Tests must not change it."""
    torch.manual_seed(11)
    return train(segmenter(dropout=0.0), TinyDomain("site-a"), recipe=RECIPE, measures=(MAS(),))


@pytest.fixture(scope="session")
def classifying() -> Release:
    """A classification without batch norm that has learnt `site-a`. Tests must not change it."""
    torch.manual_seed(11)
    return train(classifier(), TinyDomain("site-a", "classification"), recipe=RECIPE)
