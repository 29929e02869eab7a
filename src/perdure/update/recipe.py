"""How a network is trained: the numbers, and the papers' presets."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field, field_validator
from torch import nn, optim

from perdure.types import Contract, Statistics, Value

Preset: TypeAlias = Literal["default", "paper-a", "paper-b"]
ORIGINAL_STATISTICS_FACTOR = 0.1
"""Batch norm in evaluation mode no longer bounds activations: a paper-A rate diverged, a tenth was stable (small
scale)."""


class Recipe(Value):
    """The settings of one training run.

    Args:
        optimizer: `sgd` (with momentum), `adam` or `adamw`.
        learning_rate: at the start.
        momentum: of SGD.
        weight_decay: coupled for `sgd` and `adam`, decoupled for `adamw`.
        epochs: at most.
        batch_size: samples (slices, patches or images) a step, over all processes.
        decay: the learning rate is multiplied by this at each of `milestones`.
        milestones: shares of `epochs`, in (0, 1).
        patience: training stops after so many epochs without a lower validation loss, and the best epoch is kept;
            None, or 0, trains to the end and keeps the last.
        augmentation: whether training samples are augmented.
        clip_norm: largest norm of the gradient; None leaves it.
        importance_samples: importance is measured on at most so many training samples, drawn by `seed`; None takes all.
        seed: of initialisation, order, augmentation and dropout.
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    epochs: int = Field(default=12, ge=1)
    batch_size: int = Field(default=5, ge=1)
    decay: float = Field(default=0.5, gt=0, le=1)
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (1 / 3, 2 / 3)
    patience: int | None = Field(default=None, ge=1)
    augmentation: bool = False
    clip_norm: float | None = Field(default=None, gt=0)
    importance_samples: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @field_validator("patience", mode="before")
    @classmethod
    def _none_for_0(cls, patience: object) -> object:
        # a command line and TOML have no word for None
        return None if patience == 0 and not isinstance(patience, bool) else patience

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        passed = sum(epoch >= max(1, round(share * self.epochs)) for share in self.milestones)
        return float(self.learning_rate * self.decay**passed)

    def make_optimizer(self, model: nn.Module) -> optim.Optimizer:
        """A new optimizer for the trainable parameters; momentum never passes from one domain to the next."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                parameters, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
            )
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)


def paper_a(stage: Literal["base", "update"]) -> Recipe:
    """SGD with momentum .95 for 12 epochs; .1 halved every 4 epochs on the first domain, constant .025 on later ones.

    Source: Özgün et al. 2020, section 3.1.

    Open in the paper, decided here: later domains keep the first domain's last rate (a restart at .1 is the other
    reading); batches of 5 slices.
    """
    if stage == "base":
        return Recipe()
    return Recipe(learning_rate=0.025, milestones=())


def paper_b() -> Recipe:
    """Adam at 1e-6, batches of 32, early stopping with a patience of 20 epochs, augmentation.

    1e-6 suits a network pretrained on ImageNet and 100,000 images; a small one wants far more.

    Source: Gupta et al. 2020, appendix A.2.

    Open in the paper, decided here: the validation loss is the new domain's; at most 200 epochs.
    """
    return Recipe(
        optimizer="adam", learning_rate=1e-6, epochs=200, batch_size=32, milestones=(), patience=20, augmentation=True
    )


def recipe_for(
    contract: Contract, stage: Literal["base", "update"], batch_norm: Statistics = "target", preset: Preset = "default"
) -> Recipe:
    """The recipe of a task and stage.

    The default for segmentation is paper A's with the rate halved twice on later domains too, because one bad last
    step at a constant rate outweighed every difference between methods (small scale). For classification it is Adam
    at 2e-4 with early stopping. Under `original` statistics the rate of an update is a tenth and gradients are clipped.
    """
    if preset == "paper-a":
        return paper_a(stage)
    if preset == "paper-b":
        return paper_b()
    if contract.task == "segmentation":
        recipe = Recipe(learning_rate=0.1 if stage == "base" else 0.025, clip_norm=1.0)
    else:
        recipe = Recipe(optimizer="adam", learning_rate=2e-4, epochs=30, batch_size=32, patience=8, augmentation=True)
    if stage == "update" and batch_norm in ("original", "frozen"):
        rate = recipe.learning_rate * ORIGINAL_STATISTICS_FACTOR
        recipe = recipe.model_copy(update={"learning_rate": rate, "clip_norm": 1.0})
    return recipe
