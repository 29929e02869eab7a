"""A small case from beginning to end, whose outputs no work on speed may change.

    python tests/golden/outputs.py FILE.safetensors

writes them: raw importance, one update by MAS-LR and one by EWC, and what a release says of two images. FILE for the
test beside this script was made by the code from before networks ran on other kernels and in other memory layouts.
Everything is in float32 (`32-true`); weights and images come from NumPy's generator, so that they stay what they are.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from perdure import methods
from perdure.evaluation import Predictor
from perdure.importance import MAS, Fisher
from perdure.models import QuickNAT, evaluation_mode
from perdure.release import Release
from perdure.types import Batch, Contract, Counts, Intensity, Structure
from perdure.update import Machine, Recipe
from perdure.update.train import adopt, update

CLASSES, SIZE, SAMPLES, BATCH = 4, 32, 4, 4
EXACT = {"precision": "32-true"}


def network(seed: int = 6) -> QuickNAT:
    """A QuickNAT of 4 filters, whose batch norm has statistics of its own."""
    draw = np.random.default_rng(seed)
    model = QuickNAT(classes=CLASSES, filters=4, kernel_size=3)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            noise = torch.from_numpy(draw.standard_normal(tuple(value.shape))).float()
            if name.endswith("running_var"):
                value.copy_(1 + 0.2 * noise.abs())
            elif value.ndim > 1:
                value.copy_(noise * (2 / value[0].numel()) ** 0.5)
            elif "batchnorm" in name and name.endswith("weight"):
                value.copy_(1 + 0.2 * noise)
            elif "prelu" in name:
                value.copy_(0.25 + 0.05 * noise)
            elif value.is_floating_point():
                value.copy_(0.2 * noise)
    return model


def images(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Smooth pictures `(number, 1, SIZE, SIZE)`, and classes by their brightness."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    waves = [
        sum(a * np.sin(2 * np.pi * (u * x + v * y) + p) for a, u, v, p in draw.uniform(0.5, 3, (5, 4)))
        for _ in range(number)
    ]
    pictures = np.stack(waves)[:, None] + 0.1 * draw.standard_normal((number, 1, SIZE, SIZE))
    classes = np.digitize(pictures[:, 0], np.quantile(pictures, (0.4, 0.7, 0.9)))
    return torch.from_numpy(pictures).float(), torch.from_numpy(classes).long()


@dataclass(frozen=True)
class Site:
    """A domain of four pictures, in memory.

    Args:
        name: of the domain.
        seed: of its pictures.
    """

    name: str
    seed: int

    @property
    def contract(self) -> Contract:
        structures = tuple(Structure(name=f"class{k}", values=(k,)) for k in range(CLASSES))
        intensity = Intensity(scaling="format")
        return Contract(task="segmentation", structures=structures, channels=1, size=(SIZE, SIZE), intensity=intensity)

    @property
    def counts(self) -> Counts:
        return Counts(subjects={"train": SAMPLES}, cases={"train": SAMPLES}, samples={"train": SAMPLES})

    @property
    def hashes(self) -> dict[str, str]:
        return {self.name: "0" * 64}

    def steps(self, split: str, batch_size: int) -> int:
        return SAMPLES // batch_size if split == "train" else 0

    def batches(self, split: str, batch_size: int, **_: Any) -> Iterator[Batch]:
        inputs, target = images(SAMPLES, self.seed)
        if split == "train":
            yield from zip(inputs.split(batch_size), target.split(batch_size), strict=True)


def outputs() -> dict[str, Tensor]:
    """All of them by name."""
    model, first, second = network(), Site("first", 1), Site("second", 5)
    recipe = Recipe(epochs=2, batch_size=BATCH, learning_rate=0.01, clip_norm=1.0)
    found: dict[str, Tensor] = {}
    for measure, method in ((MAS(), methods.mas_lr()), (Fisher(), methods.ewc(strength=10.0))):
        base = adopt(model, first, measures=(measure,))
        found |= {f"importance/{measure.key}/{name}": value for name, value in _latest(base).items()}
        release = update(base, second, method=method, recipe=recipe, machine=Machine(**EXACT))
        found |= {f"update/{method.name}/{name}": value for name, value in release.model.state_dict().items()}
        found |= {f"importance afterwards/{measure.key}/{name}": value for name, value in _latest(release).items()}
    found |= _predictions(base)
    return {name: value.detach().clone().contiguous() for name, value in found.items()}


def _latest(release: Release) -> dict[str, Tensor]:
    """The raw importance to the newest domain."""
    return release.memory.measures[release.memory.only_key()].latest


def _predictions(release: Release) -> dict[str, Tensor]:
    pictures, _ = images(2, 3)
    # what a later version can say of precision, this case says
    own = {name: value for name, value in EXACT.items() if name in inspect.signature(Predictor).parameters}
    labels = Predictor(release, **own).classes_on_network_grid(pictures.numpy())
    with torch.no_grad(), evaluation_mode(release.model):
        logits = release.model(pictures)
    return {"prediction/labels": torch.from_numpy(labels), "prediction/logits": logits}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "outputs"
        save_file(outputs(), whole)
        Path(sys.argv[1]).write_bytes(whole.read_bytes())
