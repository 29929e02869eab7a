from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from perdure.release import Ancestor, Identity, Release, Seen
from perdure.release.release import measures_of
from perdure.update import consolidate
from reference.domains import SEGMENTER, TinyDomain, segmenter


@pytest.fixture
def release() -> Release:
    """One that is not saved yet, after two domains, so that weights, statistics and lineage are no defaults."""
    torch.manual_seed(7)
    first, second = TinyDomain("site-a", train=11), TinyDomain("site-b", train=13)
    model = segmenter().train()
    with torch.no_grad():
        model(first.samples("train")[0])
    memory = consolidate(model, first.batches("train", 4))
    with torch.no_grad():
        model(second.samples("train")[0])
        for parameter in model.parameters():
            parameter.mul_(1.1)
    memory = consolidate(model, second.batches("train", 4), previous=memory)
    identity = Identity(
        created="2026-01-01T00:00:00+00:00",
        origin="updated",
        network=SEGMENTER,
        contract=first.contract,
        domains=tuple(Seen(domain=d.name, counts=d.counts, data="0" * 64) for d in (first, second)),
        lineage=(Ancestor(id="1" * 64, name="base", domain="site-a", method="trained"),),
        method={"name": "mas-lr"},
        recipe={"learning_rate": 0.1},
        measures=measures_of(memory),
        training={"epochs": [{"epoch": 1, "loss": 1 / 3, "validation_loss": None}]},
        versions={"torch": torch.__version__},
    )
    return Release(model.eval(), memory, identity, "")


@pytest.fixture
def saved(release: Release, tmp_path: Path) -> Release:
    return replace(release.save(tmp_path / "release"), name="release")
